"""`cupel submit`: a run as a job of a Ray cluster, checked first and followed to its end.

Invariants: nothing is submitted where a finding stops it; every wait is bounded, or ends with the job; an interrupt here leaves the job running and
says how to stop it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.config import load_config
from cluster.nodes import ROLE_LABEL, Node
from cluster.submission import EXCLUDES, Cluster, Finding, Upload, Versions, entrypoint, findings, runtime_env
from executor.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ANSWER_S = 20  # how long the head node may take to answer
QUIET_S = 30.0  # after so long without a line the job is asked whether it still runs
LOST_AFTER = 4  # such questions without an answer
_FAILED, _STOPPED = 1, 130


def submit(
    path: Path | None,
    overrides: Sequence[str],
    address: str,
    *,
    resume: str | None = None,
    wait: bool = True,
    force: bool = False,
    install: Sequence[str] = (),
) -> int:
    """Submit a run, or go on with the one in `resume`, and follow it. Raises UserError.

    Returns the exit code: 0 succeeded or not waited for, 130 stopped, else that of the run.
    """
    import ray
    from ray.job_submission import JobSubmissionClient
    from requests import RequestException

    config = load_config(path, overrides) if resume is None else None
    working_dir = Path.cwd()
    _reach(address)
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray prefers RAY_ADDRESS to the address that it is given
    try:
        client = JobSubmissionClient(address)
        cluster = facts(client, address)
        upload = uploaded(working_dir)
        ours = Versions(ray.__version__, platform.python_version())
        _tell(findings(config, path, working_dir, upload, cluster, ours), force)
        _say(f"uploading {len(upload.files)} files, {upload.size / (1 << 20):.1f} MiB")
        relative = path.resolve().relative_to(working_dir.resolve()) if path is not None else None
        job = client.submit_job(
            entrypoint=entrypoint(relative, overrides, resume), runtime_env=runtime_env(working_dir, install)
        )
    except (
        ConnectionError,
        RequestException,
        RuntimeError,
    ) as error:  # what Ray's client makes of any answer but a good one
        raise UserError(f"{address}: {str(error).strip().splitlines()[0][:300]}") from error
    _say(f"job {job}; to stop it, with a checkpoint: ray job stop --address {address} {job}")
    if not wait:
        _say(f"to follow it: ray job logs --address {address} --follow {job}")
        return 0
    try:
        asyncio.run(follow(client, job, sys.stdout.write))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"job {job} goes on\nto stop it, with a checkpoint: ray job stop --address {address} {job}\n"
            f"to follow it: ray job logs --address {address} --follow {job}"
        ) from None
    return _ended(client, job, address)


def facts(client: JobSubmissionClient, address: str) -> Cluster:
    """What the head node says of the cluster. Raises RuntimeError."""
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    version = client._do_request("GET", "/api/version", timeout=ANSWER_S)
    metadata = client._do_request("GET", "/api/v0/cluster_metadata", timeout=ANSWER_S)
    python = metadata.json().get("data", {}).get("pythonVersion") if metadata.status_code == 200 else None
    try:
        listed: list[Any] = list_nodes(
            address, [("state", "=", "ALIVE")], limit=10_000, timeout=ANSWER_S, raise_on_missing_output=False
        )
    except RayStateApiException as error:
        raise RuntimeError(f"the nodes cannot be listed: {error}") from error
    nodes = tuple(
        Node(node.node_ip, (node.labels or {}).get(ROLE_LABEL), node.resources_total or {}) for node in listed
    )
    return Cluster(Versions(version.json()["ray_version"], python), nodes)


def uploaded(folder: Path) -> Upload:
    """What Ray would upload of a folder: its own walk, so that the sizes are those it finds."""
    from ray._private.runtime_env import packaging

    files: list[tuple[str, int]] = []

    def look(path: Path) -> None:
        if path.is_file():
            files.append((path.relative_to(folder).as_posix(), path.stat().st_size))

    respects_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    excludes = [packaging._get_excludes(folder, list(EXCLUDES))]
    packaging._dir_travel(folder, excludes, look, respects_gitignore, logger=logging.getLogger(__name__))
    return Upload(tuple(files), packaging.GCS_STORAGE_MAX_SIZE)


async def follow(client: JobSubmissionClient, job: str, write: Callable[[str], Any]) -> None:
    """Write what the job says until it ends. Raises UserError where the cluster no longer answers."""
    from aiohttp import ClientError

    lines = client.tail_job_logs(job)
    line = asyncio.ensure_future(anext(lines))
    unanswered = 0
    try:
        while True:
            done, _ = await asyncio.wait({line}, timeout=QUIET_S)
            if done:
                try:
                    write(line.result())
                except (StopAsyncIteration, ClientError, OSError, RuntimeError):
                    return  # the job's end, or that of the connection: its state tells which
                line = asyncio.ensure_future(anext(lines))
                continue
            try:
                status = await asyncio.wait_for(asyncio.to_thread(client.get_job_status, job), ANSWER_S)
            except (OSError, RuntimeError):  # a timeout is an OSError too
                unanswered += 1
                if unanswered == LOST_AFTER:
                    return
                continue
            unanswered = 0
            if status.is_terminal():
                return
    finally:
        line.cancel()


def _reach(address: str) -> None:
    """Raises UserError where nobody answers: Ray's client has no deadline of its own."""
    import requests

    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address {address}: give the dashboard of the head node, like http://HEAD:8265")
    try:
        requests.get(f"{address.rstrip('/')}/api/version", timeout=ANSWER_S)
    except requests.RequestException as error:
        raise UserError(
            f"{address} does not answer ({type(error).__name__}): on the head node, "
            "ray start --head --dashboard-host=0.0.0.0; from outside, a tunnel to its port 8265"
        ) from None


def _tell(found: list[Finding], force: bool) -> None:
    """Raises UserError with what stops the submission, unless a person insists."""
    stops = [finding.text for finding in found if finding.stops and not force]
    for finding in found:
        if finding.text not in stops:
            _say(f"note: {finding.text}")
    if stops:
        raise UserError("\n".join([*stops, "nothing was submitted; --force submits all the same"]))


def _ended(client: JobSubmissionClient, job: str, address: str) -> int:
    from ray.job_submission import JobStatus

    try:
        details = client.get_job_info(job)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{address} no longer answers; job {job} may go on: ray job status --address {address} {job}"
        ) from error
    _say(f"job {job} {details.status.value.lower()}")
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        return _STOPPED
    if details.status == JobStatus.FAILED:
        return details.driver_exit_code or _FAILED
    raise UserError(
        f"the connection to {address} ended and job {job} goes on: ray job logs --address {address} --follow {job}"
    )


def _say(text: str) -> None:
    print(f"cupel: {text}", file=sys.stderr, flush=True)

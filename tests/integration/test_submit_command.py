"""`cupel submit`, a real process with Ray's own client, against a stand-in for the head node's job API.

The stand-in answers as a head node does, and keeps what it is asked; that a real one answers so is not shown here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 120


class HeadNode:
    """What a head node answers. `status`: of the job, once its two lines are said; None: it goes on."""

    def __init__(self) -> None:
        self.ray_version = version("ray")
        self.status: str | None = "SUCCEEDED"
        self.driver_exit_code: int | None = None
        self.job: dict[str, Any] = {}
        self.package: list[str] = []
        self.address = ""
        self.following = threading.Event()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(DEADLINE_S)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)

    def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.get("/api/version", self._version),
                web.get("/api/v0/cluster_metadata", self._metadata),
                web.get("/api/v0/nodes", self._nodes),
                web.get("/api/packages/{protocol}/{name}", self._has_package),
                web.put("/api/packages/{protocol}/{name}", self._put_package),
                web.post("/api/jobs/", self._submit),
                web.get("/api/jobs/{job}", self._details),
                web.get("/api/jobs/{job}/logs/tail", self._tail),
            ]
        )
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(app, shutdown_timeout=0)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())

    async def _version(self, _: Any) -> Any:
        return _json({"version": "4", "ray_version": self.ray_version, "ray_commit": "", "session_name": ""})

    async def _metadata(self, _: Any) -> Any:
        return _json({"result": True, "msg": "", "data": {"pythonVersion": "3.11.7", "rayVersion": self.ray_version}})

    async def _nodes(self, _: Any) -> Any:
        node = {"node_id": "ab", "node_ip": "10.0.0.1", "is_head_node": True, "state": "ALIVE", "state_message": ""}
        node |= {"node_name": "10.0.0.1", "resources_total": {"CPU": 2.0}, "labels": {"ray.io/node-id": "ab"}}
        listed = {"total": 1, "num_after_truncation": 1, "num_filtered": 1, "result": [node]}
        listed |= {"partial_failure_warning": "", "warnings": None}
        return _json({"result": True, "msg": "", "data": {"result": listed}})

    async def _has_package(self, _: Any) -> Any:
        from aiohttp import web

        return web.Response(status=404)

    async def _put_package(self, request: Any) -> Any:
        from aiohttp import web

        self.package = zipfile.ZipFile(io.BytesIO(await request.read())).namelist()
        return web.Response()

    async def _submit(self, request: Any) -> Any:
        self.job = await request.json()
        return _json({"job_id": "raysubmit_1", "submission_id": "raysubmit_1"})

    async def _details(self, _: Any) -> Any:
        status = self.status or "RUNNING"
        details = {"type": "SUBMISSION", "job_id": None, "submission_id": "raysubmit_1", "driver_info": None}
        details |= {"status": status, "entrypoint": "", "message": "", "driver_exit_code": self.driver_exit_code}
        return _json(details)

    async def _tail(self, request: Any) -> Any:
        from aiohttp import web

        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("step 1\n")
        await socket.send_str("step 2\n")
        self.following.set()
        while self.status is None:
            await asyncio.sleep(0.05)
        await socket.close()
        return socket


def _json(data: Any) -> Any:
    from aiohttp import web

    return web.json_response(data)


@pytest.fixture
def head() -> Iterator[HeadNode]:
    node = HeadNode()
    yield node
    node.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my.yaml").write_text("run: {steps: 3}\n")
    (tmp_path / "reward.py").write_text("x = 1\n")
    for name in (".git/objects/ab", ".venv/lib/x.py", "runs/one/config.yaml", "model.safetensors", "a/__pycache__/b"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("large")
    return tmp_path


def command(folder: Path, address: str, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    words = ["submit", *arguments, "--address", address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "http://127.0.0.1:9"}
    environment.pop("RAY_API_SERVER_ADDRESS", None)
    return [sys.executable, "-m", "cluster", *words], {"cwd": folder, "env": environment, "text": True}


def submit(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words, options = command(folder, address, *arguments)
    return subprocess.run(words, capture_output=True, timeout=DEADLINE_S, check=False, **options)


def test_a_run_is_uploaded_started_and_followed_to_its_end(head: HeadNode, folder: Path) -> None:
    done = submit(folder, head.address, "my.yaml", "run.directory=/shared/runs")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "step 1\nstep 2\n"
    assert head.job["entrypoint"] == "python -m cluster train my.yaml run.directory=/shared/runs"
    assert sorted(head.package) == ["my.yaml", "reward.py"]
    environment = head.job["runtime_env"]
    assert environment["working_dir"].startswith("gcs://") and int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"])
    assert "uploading 2 files" in done.stderr and f"ray job stop --address {head.address} raysubmit_1" in done.stderr


def test_what_ray_would_upload_of_a_checkout_is_what_is_said_of_it(head: HeadNode) -> None:
    done = submit(ROOT, head.address, "run.directory=/shared/runs", "--no-wait")
    assert done.returncode == 0, done.stderr
    files = [name for name in head.package if not name.endswith("/")]
    assert f"uploading {len(files)} files" in done.stderr
    assert "cluster/__main__.py" in files and "actors/problem_sets/starter/train.jsonl" in files
    assert not [name for name in files if name.split("/")[0] in (".git", ".venv", "runs", "tests")]
    assert "step 1" not in done.stdout and "ray job logs" in done.stderr


def test_nothing_is_submitted_where_a_check_says_no(head: HeadNode, folder: Path) -> None:
    head.ray_version = "2.40.0"
    done = submit(folder, head.address, "my.yaml")
    assert done.returncode == 2 and head.job == {} and head.package == []
    assert "Ray 2.40.0 runs on the cluster" in done.stderr and "run.directory=/shared/runs" in done.stderr
    assert "Traceback" not in done.stderr
    forced = submit(folder, head.address, "my.yaml", "--force", "--no-wait")
    assert forced.returncode == 0 and head.job["entrypoint"] == "python -m cluster train my.yaml"


def test_a_run_of_the_cluster_is_gone_on_with(head: HeadNode, folder: Path) -> None:
    done = submit(folder, head.address, "--resume", "/shared/runs/one", "run.steps=9", "--no-wait")
    assert done.returncode == 0, done.stderr
    assert head.job["entrypoint"] == "python -m cluster train --resume /shared/runs/one run.steps=9"
    both = submit(folder, head.address, "my.yaml", "--resume", "/shared/runs/one")
    assert both.returncode == 2 and "leave out my.yaml" in both.stderr


def test_a_mistake_in_the_configuration_is_told_before_the_cluster_is_asked(folder: Path) -> None:
    done = submit(folder, "http://127.0.0.1:9", "my.yaml", "run.steps=-1")
    assert done.returncode == 2 and "run.steps" in done.stderr and "127.0.0.1" not in done.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "127.0.0.1:6379"])
def test_a_cluster_that_does_not_answer_is_told(folder: Path, address: str) -> None:
    done = submit(folder, address, "my.yaml", "run.directory=/shared/runs")
    assert done.returncode == 2 and address in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "status, driver_exit_code, expected", [("STOPPED", None, 130), ("FAILED", 2, 2), ("FAILED", None, 1)]
)
def test_the_exit_code_is_that_of_the_run(
    head: HeadNode, folder: Path, status: str, driver_exit_code: int | None, expected: int
) -> None:
    head.status, head.driver_exit_code = status, driver_exit_code
    done = submit(folder, head.address, "my.yaml", "run.directory=/shared/runs")
    assert done.returncode == expected and f"job raysubmit_1 {status.lower()}" in done.stderr


def test_an_interrupt_leaves_the_job_and_says_how_to_stop_it(head: HeadNode, folder: Path) -> None:
    head.status = None
    words, options = command(folder, head.address, "my.yaml", "run.directory=/shared/runs")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        assert head.following.wait(DEADLINE_S)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        head.status = "SUCCEEDED"
    assert process.returncode == 130 and "Traceback" not in said
    assert "raysubmit_1 goes on" in said and f"ray job stop --address {head.address} raysubmit_1" in said

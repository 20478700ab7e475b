"""A run as a job of a real Ray cluster of four nodes, with real vLLM: submitted, watched, stopped with a checkpoint, gone on with. In this order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_server import ask, fetch
from ray_nodes import RAY, Nodes, free_port
from whole_runs import ENDLESS, PATIENCE_S, ROOT, steps

from cluster.dashboards.engine_panels import ENGINE_PANELS
from cluster.dashboards.grafana import dashboard

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROMETHEUS = f"http://127.0.0.1:{free_port()}"


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """In the checkout, as a person would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)


def cupel(*words: str) -> subprocess.CompletedProcess[str]:
    return command(sys.executable, "-m", "cluster", *words)


def until(what: str, condition: Callable[[], Any], evidence: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"no {what}: {evidence()}"
        time.sleep(0.5)


class Job:
    """A run that has been submitted; what is known of it is what the head node answers."""

    def __init__(self, cluster: Nodes, number: str, run: Path) -> None:
        self.cluster, self.number, self.run = cluster, number, run

    def state(self) -> str:
        return told(self.cluster, f"/api/jobs/{self.number}")["status"]

    def logs(self) -> str:
        return told(self.cluster, f"/api/jobs/{self.number}/logs")["logs"][-3000:]

    def actors(self) -> list[dict[str, Any]]:
        """Those that live."""
        listed = told(self.cluster, "/api/v0/actors?limit=1000&detail=true")["data"]["result"]["result"]
        return [actor for actor in listed if actor["state"] == "ALIVE"]


def told(cluster: Nodes, path: str) -> Any:
    with urllib.request.urlopen(f"{cluster.dashboard}{path}", timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("r"), RAY_PROMETHEUS_HOST=PROMETHEUS)
    try:
        for role, cpus in {"learner": 1, "engine": 1, "executor": 2}.items():
            nodes.join(role, role, cpus)
        yield nodes
    finally:
        nodes.close()


@pytest.fixture(scope="module")
def job(cluster: Nodes, vllm_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Submitted, and two steps on its way."""
    run = tmp_path_factory.mktemp("runs") / "run"
    place = [f"model={vllm_model_folder}", f"run.directory={run.parent}", "run.name=run", "run.checkpoint_every=100000"]
    place.append(f"run.mirror={run.parent}/copies")
    address = ["--address", cluster.dashboard]
    submitted = cupel("submit", *ENDLESS, *place, "engine.backend=vllm", *address, "--no-wait")
    assert submitted.returncode == 0, submitted.stderr
    (number,) = [job["submission_id"] for job in told(cluster, "/api/jobs/")]
    assert f"ray job stop --address {cluster.dashboard} {number}" in submitted.stderr
    job = Job(cluster, number, run)
    until("two steps", lambda: len(steps(run)) >= 2 or job.state() in ("FAILED", "SUCCEEDED"), job.logs)
    assert job.state() == "RUNNING", job.logs()
    return job


def test_rays_dashboard_says_who_is_who(job: Job) -> None:
    called = {actor["repr_name"] or actor["class_name"] for actor in job.actors()}
    assert called >= {"Learner", "BufferActor", "rollout-0-1", "executor-0"}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_beside_it_cupel_dashboard_shows_the_run_and_its_engines(job: Job, tmp_path: Path) -> None:
    words = ["dashboard", "--ray-folder", str(job.cluster.head_folder), "--folder", str(tmp_path)]
    environment = {**os.environ, "RAY_PROMETHEUS_HOST": PROMETHEUS}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster", *words], cwd=ROOT, env=environment, stdout=said, stderr=said
        )
    try:
        until(
            "Prometheus",
            lambda: fetch(f"{PROMETHEUS}/-/ready") or process.poll() is not None,
            (tmp_path / "said").read_text,
        )
        (step,) = [q for q in queries() if q.startswith("max by (run) (ray_cupel_step{")]
        without = [step, *(query for panel in ENGINE_PANELS for query, _ in panel.queries)]

        def told_of_all() -> bool:
            # A gauge may be gone again when the next one is there (cluster/dashboards/grafana.py), so each need only be seen once.
            without[:] = [query for query in without if not ask(PROMETHEUS, query.replace("$run", "run"))]
            return not without

        until("data for each query", told_of_all, lambda: without)
        (series,) = ask(PROMETHEUS, "count by (model_name) (ray_vllm_generation_tokens_total)")
        assert series["metric"] == {"model_name": "run/rollout-0"}
    finally:
        process.terminate()
        process.wait(60)


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def test_a_job_that_is_stopped_leaves_a_checkpoint_to_go_on_from(job: Job, tmp_path: Path) -> None:
    stopped = command(str(RAY), "job", "stop", "--address", job.cluster.dashboard, job.number)
    assert stopped.returncode == 0, stopped.stderr
    until("stop", lambda: job.state() == "STOPPED", job.logs)
    summary = json.loads((job.run / "summary.json").read_text())
    assert summary["status"] == "stopped", job.logs()
    done = summary["steps"]
    assert (job.run / "checkpoints" / f"step_{done}").is_dir(), "nothing but the stop can have written a checkpoint"
    until("end of its actors", lambda: not job.actors(), job.actors)

    # From the copy, as on another cluster that does not see the run folder.
    settings = [f"run.steps={done + 2}", f"run.directory={tmp_path}", "--address", job.cluster.dashboard]
    resumed = cupel("submit", "--resume", f"file://{job.run.parent}/copies/run", *settings)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert re.search(rf"step {done + 2}/{done + 2}\b", resumed.stdout), resumed.stdout
    assert steps(tmp_path / "run") == list(range(1, done + 3))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"


def test_rays_own_command_needs_no_more_than_the_working_directory(
    cluster: Nodes, codegen_folder: Path, tmp_path: Path
) -> None:
    place = [f"model={codegen_folder}", f"run.directory={tmp_path}", "run.name=run", "run.steps=1"]
    words = ["job", "submit", "--address", cluster.dashboard, "--working-dir", ".", "--"]
    done = command(str(RAY), *words, "python", "-m", "cluster", "train", *ENDLESS, *place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert steps(tmp_path / "run") == [1]


def test_what_the_cluster_cannot_do_is_refused_before_anything_is_uploaded(cluster: Nodes, tmp_path: Path) -> None:
    wanted = [f"run.directory={tmp_path}", "executor.workers=3", "--address", cluster.dashboard]
    refused = cupel("submit", *wanted)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "executor.workers" in refused.stderr and "nothing was submitted" in refused.stderr
    assert not list(tmp_path.iterdir())

"""A run on a cluster of nodes with roles, each a raylet of its own: who is where, more and fewer workers, nodes that join and die under it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import state
from ray_nodes import Nodes
from whole_runs import ENDLESS, ROOT, rows, start, steps, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = [*ENDLESS, "run.checkpoint_every=50", "executor.workers=2"]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("r"))
    try:
        nodes.join("learner", "learner", 1)
        nodes.join("engine", "engine", 1)
        nodes.join("executor", "executor", 2)
        yield nodes
    finally:
        ray.shutdown()
        nodes.close()


def scale(run: Path, *wanted: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", "scale", str(run), *wanted],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def roles_of_actors() -> Counter[tuple[str, str]]:
    """How many living actors of each class are on nodes of each role."""
    roles = {node["NodeID"]: node["Labels"].get("cupel-role") for node in ray.nodes() if node["Alive"]}
    table: dict[str, Any] = state.actors()
    living = [actor for actor in table.values() if actor["State"] == "ALIVE"]
    return Counter((actor["ActorClassName"], str(roles.get(actor["Address"]["NodeID"]))) for actor in living)


def test_a_run_uses_nodes_by_their_roles_and_survives_their_coming_and_going(
    cluster: Nodes, codegen_folder: Path, tmp_path: Path
) -> None:
    place = [f"model={codegen_folder}", f"run.directory={tmp_path}", "run.name=run", f"ray.address={cluster.address}"]
    process, run = start(*SETTINGS, *place), tmp_path / "run"
    log = run / "logs" / "controller.log"

    def said(text: str) -> bool:
        return text in log.read_text()

    def metric(name: str) -> float:
        return rows(run)[-1].get(name, 0.0)

    def goes_on() -> None:
        done = len(steps(run))
        wait_for("three more steps", lambda: len(steps(run)) >= done + 3, process)

    wait_for("step 2", lambda: 2 in steps(run), process)
    ray.init(address=cluster.address, namespace="test", logging_level=logging.ERROR, log_to_driver=False)
    assert roles_of_actors() == {
        ("BufferActor", "head"): 1,
        ("MembershipActor", "head"): 1,
        ("Learner", "learner"): 1,
        ("RolloutWorker", "engine"): 1,
        ("ExecutorWorker", "executor"): 2,
    }

    refused = scale(run, "executors=4")
    assert refused.returncode == 2 and "4 CPUs are needed, 1 each" in refused.stderr
    assert refused.stderr.count("\n") == 1

    cluster.join("second executor", "executor", 2)
    done = scale(run, "executors=4", "rollouts=2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["rollout actors: 1 to 2", "executor workers: 2 to 4"]
    wait_for("a second rollout actor", lambda: said("rollout actor 1 has joined, with policy version"), process)
    wait_for("four executor workers", lambda: metric("executor_workers_up") == 4, process)
    goes_on()
    assert roles_of_actors()["RolloutWorker", "engine"] == 2 and roles_of_actors()["ExecutorWorker", "executor"] == 4

    cluster.kill("second executor")
    goes_on()
    cluster.join("second engine", "engine", 1)
    cluster.kill("engine")
    wait_for("replacements", lambda: metric("rollouts_replaced") >= 2, process)
    goes_on()

    done = scale(run, "rollouts=1", "executors=1")
    assert done.returncode == 0, done.stderr
    wait_for("the end of a rollout actor", lambda: said("rollout actor 1 has left"), process)
    goes_on()
    assert roles_of_actors()["RolloutWorker", "engine"] == 1

    stopped = subprocess.run(
        [sys.executable, "-m", "cluster", "stop", str(run), "--wait", "120"], cwd=ROOT, timeout=180
    )
    assert (stopped.returncode, process.wait(60)) == (0, 130)
    assert steps(run) == list(range(1, len(steps(run)) + 1)), "each step has its line, once"
    versions = [row["policy_version"] for row in rows(run)]
    assert versions == sorted(versions)
    record = json.loads((run / "checkpoints" / f"step_{len(versions)}" / "trainer" / "record.json").read_text())
    assert record["step"] == len(versions)
    kept = (run / "config.yaml").read_text()
    assert "actors: 1\n" in kept and "workers: 1\n" in kept

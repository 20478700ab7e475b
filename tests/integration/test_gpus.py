"""A run on a cluster that counts GPUs: it reserves what it needs at once or not at all. What computes here are CPUs; Ray only counts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray_nodes import Nodes
from whole_runs import PATIENCE_S, TINY_MODEL, start, steps, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path_factory.mktemp("r"))
    try:
        nodes.join("learner", "learner", 1, gpus=1)
        nodes.join("engine", "engine", 1, gpus=1)
        nodes.join("executor", "executor", 2)
        ray.init(nodes.address, logging_level=logging.ERROR, log_to_driver=False)
        yield nodes
    finally:
        ray.shutdown()
        nodes.close()


def free_gpus() -> float:
    return ray.available_resources().get("GPU", 0.0)


def test_a_run_holds_no_gpu_while_another_holds_what_it_lacks(
    cluster: Nodes, codegen_folder: Path, tmp_path: Path
) -> None:
    taken = placement_group([{"GPU": 1}], bundle_label_selector=[{"cupel-role": "engine"}])
    ray.get(taken.ready(), timeout=60)
    settings = ["run.steps=2", "engine.backend=transformers", "engine.dtype=float32", "problems.held_out=null"]
    place = [f"run.directory={tmp_path}", "run.name=run", f"ray.address={cluster.address}"]
    process = start(*TINY_MODEL, *settings, f"model={codegen_folder}", *place)
    log = tmp_path / "run" / "logs" / "controller.log"
    told = "waiting for 2 GPUs for learner and first engine (1 were free)"
    wait_for("a word on what it waits for", lambda: log.exists() and told in log.read_text(), process)
    assert free_gpus() == 1
    remove_placement_group(taken)
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, output
    assert steps(tmp_path / "run") == [1, 2]
    (core,) = [group for group in placement_group_table().values() if group["name"].startswith("run:")]
    assert core["bundles"] == {0: {"GPU": 1.0}, 1: {"GPU": 1.0}}
    assert core["state"] == "REMOVED" and free_gpus() == 2

"""Ray's autoscaler and a run: nodes come when executor workers wait for one, and go when they are not needed. Its nodes are raylets on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray_nodes import Nodes, free_port
from whole_runs import ENDLESS, ROOT, start, steps, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
NOT_FOR_RAYLETS = ["auth", "docker", "file_mounts", "head_node", "worker_nodes"]
NOR_THESE = ["cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands"]
NOR_THOSE = [f"{kind}_{what}_commands" for kind in ("head", "worker") for what in ("setup", "start_ray")]


def autoscaling(head: str) -> dict[str, Any]:
    """As for a cloud, with Ray's own provider of nodes that are raylets."""
    executor = {"resources": {"CPU": 1}, "labels": {"cupel-role": "executor"}, "node_config": {}}
    return {
        "cluster_name": "grows",
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "launch_multiple": True,
            "gcs_address": head,
            "head_node_id": "0" * 54 + "a1",
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "executor": {**executor, "min_workers": 0, "max_workers": 3},
        },
        "head_node_type": "ray.head.default",
        "max_workers": 3,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.2,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in NOT_FOR_RAYLETS},
        **{name: [] for name in [*NOR_THESE, *NOR_THOSE]},
    }


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder, port = tmp_path_factory.mktemp("r"), free_port()
    (folder / "autoscaling.json").write_text(json.dumps(autoscaling(f"127.0.0.1:{port}")))
    nodes = Nodes(
        folder,
        f"--autoscaling-config={folder / 'autoscaling.json'}",
        AUTOSCALER_UPDATE_INTERVAL_S="1",
        port=port,
        RAY_FAKE_CLUSTER="1",
        RAY_enable_autoscaler_v2="1",
        RAY_CLOUD_INSTANCE_ID="0" * 54 + "a1",
        RAY_OVERRIDE_NODE_ID_FOR_TESTING="0" * 54 + "a1",
    )
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.close()


def executor_nodes() -> int:
    return sum(node["Alive"] and node["Labels"].get("cupel-role") == "executor" for node in ray.nodes())


def test_nodes_come_for_workers_that_wait_and_go_again(cluster: Nodes, codegen_folder: Path, tmp_path: Path) -> None:
    for role in ("learner", "engine"):
        cluster.join(role, role, 1)
    ray.init(address=cluster.address, log_to_driver=False)
    assert executor_nodes() == 0
    place = [f"model={codegen_folder}", f"run.directory={tmp_path}", "run.name=run", f"ray.address={cluster.address}"]
    process, run = start(*ENDLESS, *place, "ray.growing=true", "executor.workers=1"), tmp_path / "run"

    def scale(executors: int) -> None:
        words = [sys.executable, "-m", "cluster", "scale", str(run), f"executors={executors}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    wait_for("a first step", lambda: bool(steps(run)), process)
    assert executor_nodes() == 1, "it came for the run's worker"
    scale(3)
    wait_for("a node for each worker", lambda: executor_nodes() == 3, process)
    scale(1)
    wait_for("two nodes fewer", lambda: executor_nodes() == 1, process)
    done = len(steps(run))
    wait_for("two more steps", lambda: len(steps(run)) >= done + 2, process)
    process.terminate()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output

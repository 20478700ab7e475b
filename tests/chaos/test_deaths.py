"""Each part of a run is killed in turn, by SIGKILL, and the run goes on by itself; no group of episodes is learnt twice or lost on the way."""

from __future__ import annotations

import json
import os
import signal
import zlib
from pathlib import Path

import psutil
import pytest
from whole_runs import ENDLESS, named, rows, start, steps, survivors, tree, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = [*ENDLESS, "run.checkpoint_every=1", "rollout.actors=2"]


def balance(run: Path) -> None:
    """Every group that was ever given out is trained once, held by the buffer, or to be made; by the newest checkpoint and the episodes."""
    last = steps(run)[-1]
    trained: list[int] = []
    for step in range(1, last + 1):
        lines = (run / "trajectories" / f"step_{step:06d}.jsonl").read_text().splitlines()
        trained += {json.loads(line)["group_id"] for line in lines}
    state = json.loads(zlib.decompress((run / "checkpoints" / f"step_{last}" / "trainer" / "buffer.bin").read_bytes()))
    to_be_made = [ticket["group_id"] for ticket in state["waiting"]]
    held = [group["group_id"] for name in ("staged", "groups") for group in state["pool"][name]]
    everything = sorted([*trained, *held, *to_be_made])
    assert everything == list(range(state["issued"])), (trained, held, to_be_made, state["issued"])
    assert len(trained) == 2 * last


def test_whatever_dies_the_run_goes_on_and_every_group_is_accounted_for(codegen_folder: Path, tmp_path: Path) -> None:
    process = start(
        *SETTINGS, "watchdog.after_s=40", f"model={codegen_folder}", f"run.directory={tmp_path}", "run.name=run"
    )
    run = tmp_path / "run"
    log = run / "logs" / "controller.log"

    def goes_on(what: str) -> None:
        done = len(steps(run))
        wait_for(f"two more steps after {what}", lambda: len(steps(run)) >= done + 2, process)

    def kill(name: str) -> None:
        named(process, name)[0].kill()
        goes_on(f"the death of {name}")

    goes_on("the start")
    kill("ray::ExecutorWorker")
    kill("ray::RolloutWorker")
    assert rows(run)[-1]["rollouts_replaced"] == 1
    stuck = named(process, "ray::RolloutWorker")[-1]
    stuck.suspend()
    wait_for("the watchdog", lambda: "has made no progress for" in log.read_text(), process)
    wait_for("another rollout actor", lambda: rows(run)[-1]["rollouts_replaced"] == 2, process)
    assert not survivors([stuck], 30), "what was stuck is gone"
    kill("ray::BufferActor")
    kill("ray::Learner")
    (controller,) = [child for child in psutil.Process(process.pid).children() if "cluster" in child.cmdline()]
    everyone = tree(process)
    controller.kill()
    goes_on("the death of the controller")
    assert not survivors([one for one in everyone if one.pid not in (process.pid, controller.pid)], 30), "orphans"

    os.kill(process.pid, signal.SIGTERM)  # as Ray stops a job
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130, output
    told = [line for line in output.splitlines() if "it goes on from" in line]
    assert len(told) == 3 and "killed by signal 9" in told[2], output
    assert all("start 1 of 3" in line for line in told), "each had come to a new checkpoint"
    done = steps(run)
    assert done == list(range(1, done[-1] + 1)), "each step has its line, once"
    versions = [row["policy_version"] for row in rows(run)]
    assert versions == done, "a version a step, and none goes back"
    balance(run)


def test_a_run_that_dies_again_and_again_is_given_up_in_a_line(codegen_folder: Path, tmp_path: Path) -> None:
    process = start(
        *SETTINGS,
        "run.max_restarts=1",
        "run.checkpoint_every=1000",
        f"model={codegen_folder}",
        f"run.directory={tmp_path}",
        "run.name=run",
    )
    killed: set[int] = set()
    for number in (1, 2):
        wait_for(
            f"learner {number}", lambda: any(one.pid not in killed for one in named(process, "ray::Learner")), process
        )
        for lost in named(process, "ray::Learner"):
            killed.add(lost.pid)
            lost.kill()
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 75, output
    assert "brought no new checkpoint, so it is given up" in output
    assert "Traceback" not in output

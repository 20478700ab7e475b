"""Whole runs with real Ray and real vLLM: with the default model killed, resumed and to the end; with a tiny one, parts that die, and Ctrl-C."""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from pathlib import Path

import pytest
from whole_runs import (
    ENDLESS,
    PATIENCE_S,
    TINY,
    TINY_MODEL,
    kill_all,
    named,
    rows,
    start,
    steps,
    survivors,
    tree,
    wait_for,
)

from cluster import scaling, status
from executor.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*TINY, "run.steps=4", f"run.directory={tmp_path}", "run.name=run")
    wait_for("two checkpoints", lambda: (run / "checkpoints" / "step_2").exists(), process)
    kill_all(process)
    before = steps(run)
    assert before[:2] == [1, 2]

    output = start("--resume", str(run)).communicate(timeout=PATIENCE_S)[0]
    assert steps(run) == [1, 2, 3, 4], output
    told = rows(run)
    assert [row["policy_version"] for row in told] == [1, 2, 3, 4]
    assert all(row["staleness_max"] <= 1 for row in told)
    assert all(row["probe_difference"] < 0.01 for row in told)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "finished" and summary["steps"] == 4
    assert summary["held_out"]["problems"] == 3
    assert (run / "report.html").stat().st_size > 1000

    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = run / "checkpoints" / "step_4"
    assert AutoModelForCausalLM.from_pretrained(checkpoint, local_files_only=True).num_parameters() > 1e8
    assert AutoTokenizer.from_pretrained(checkpoint, local_files_only=True).eos_token == "<|im_end|>"


def test_a_killed_rollout_actor_whose_engine_sleeps_now_and_then_is_replaced_and_the_run_goes_on(
    vllm_model_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    place = [f"model={vllm_model_folder}", f"run.directory={tmp_path}", "run.name=run"]
    settings = ["run.steps=12", "run.checkpoint_every=12", "weights.broadcast_every=2", "engine.sleep_mode=true"]
    process = start(*TINY_MODEL, *settings, *place)
    wait_for("a first step", lambda: bool(steps(run)), process)
    (lost,) = named(process, "RolloutWorker")
    lost.kill()
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, output
    assert "rollout actor 0 was lost" in output
    told = rows(run)
    assert [(row["step"], row["policy_version"]) for row in told] == [(step, step // 2) for step in range(1, 13)]
    assert told[-1]["rollouts_replaced"] == 1
    assert [row["probe_difference"] < 0.01 for row in told if "probe_difference" in row] == [True] * 6
    assert all(row["turn_seconds"] > 0 for row in told)
    assert json.loads((run / "summary.json").read_text())["held_out"]["problems"] == 3


def test_a_killed_learner_ends_the_run_with_a_word_on_how_to_go_on(vllm_model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone = ["run.steps=5000", "run.max_restarts=0", "problems.held_out=null"]
    place = [f"model={vllm_model_folder}", f"run.directory={tmp_path}", "run.name=run"]
    process = start(*TINY_MODEL, *alone, *place)
    wait_for("a checkpoint", lambda: (run / "checkpoints" / "step_1").exists(), process)
    all_of_it = tree(process)
    (lost,) = named(process, "ray::Learner")
    lost.kill()
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 75, output
    assert "the learner's process died" in output and f"--resume {run}" in output
    assert "Traceback" not in output
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"
    assert not survivors(all_of_it, 20)


def test_a_machine_whose_memory_is_full_ends_the_run_in_a_line(tmp_path: Path) -> None:
    # What counts as full is Ray's to say; that it ends processes for it is real.
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "250"}
    alone = ["run.steps=1", "run.max_restarts=0"]
    process = start(*TINY, *alone, f"run.directory={tmp_path}", "run.name=run", **full)
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 75, output
    assert "memory was nearly full" in output and "learner.micro_batch_tokens" in output
    assert "Traceback" not in output
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "failed"


def test_ctrl_c_leaves_a_checkpoint_and_no_process(vllm_model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    place = [f"model={vllm_model_folder}", f"run.directory={tmp_path}", "run.name=run"]
    process = start(*TINY_MODEL, "run.steps=5000", "run.checkpoint_every=5000", *place)
    wait_for("a first step", lambda: bool(steps(run)), process)
    all_of_it = tree(process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole process group in the foreground
    asked = time.monotonic()
    output = process.communicate(timeout=90)[0]
    seconds = time.monotonic() - asked
    assert process.returncode == 130, output
    assert "--resume" in output
    done = steps(run)
    assert (run / "checkpoints" / f"step_{done[-1]}" / "trainer").is_dir(), output
    assert json.loads((run / "summary.json").read_text())["status"] == "stopped"
    assert not survivors(all_of_it, 10)
    assert seconds < 30, f"stopping took {seconds:.0f} s"


def test_a_run_is_scaled_and_stopped_from_another_machine_that_sees_its_folder(
    codegen_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    process = start(*ENDLESS, f"model={codegen_folder}", f"run.directory={tmp_path}", "run.name=run")
    wait_for("a first step", lambda: bool(steps(run)), process)
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    assert f"running (process {process_of(run)} of" in status.describe(run)["state"]
    assert scaling.show(status.running(run), scaling.read_wanted(["executors=3"]), 60) == 0
    wait_for(
        "a third executor", lambda: json.loads((run / "status.json").read_text())["executor_workers"] == 3, process
    )
    assert status.stop(run, 60) == 0
    assert "stopped" in capsys.readouterr().out
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "stopping after a checkpoint" in output
    assert (run / "checkpoints" / f"step_{steps(run)[-1]}").exists()
    with pytest.raises(UserError, match="is not running: stopped"):
        status.running(run)


def process_of(run: Path) -> int:
    return json.loads((run / "status.json").read_text())["pid"]

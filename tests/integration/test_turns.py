"""Whole runs with episodes of several turns: real Ray, real vLLM, real judges, a critic and a reference policy; tiny. One to its end, one whose
parts die."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from whole_runs import PATIENCE_S, TINY_MODEL, kill_all, named, rows, start, wait_for

TURNS = [
    "algorithm.name=rlef",
    "rollout.max_turns=3",
    "rollout.max_response_tokens=32",
    # In so small a vocabulary a word has many tokens.
    "rollout.max_feedback_tokens=300",
    "learner.micro_batch_tokens=2048",
    "learner.minibatches=2",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def episodes(run: Path, step: int) -> list[dict[str, Any]]:
    """Those that a step learnt from."""
    path = run / "trajectories" / f"step_{step:06d}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_of_several_turns_comes_to_its_end(vllm_model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(
        *TINY_MODEL, *TURNS, "run.steps=2", f"model={vllm_model_folder}", f"run.directory={tmp_path}", "run.name=run"
    )
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, output
    told = rows(run)
    assert [step["step"] for step in told] == [1, 2]
    for step in told:
        assert step["updates"] == 2
        assert step["turns"] > 1, "this model fails at first, so it is told and answers again"
        assert step["reference_divergence"] == pytest.approx(0, abs=0.2)
        assert {"value_explained", "value_loss", "critic_gradient_norm"} <= set(step)
    # A later turn begins with all of the earlier ones, which the engine still holds.
    assert told[0]["cached_prompt_share"] > 0.5
    several = [episode for episode in episodes(run, 1) if len(episode["turns"]) > 1]
    assert several
    for episode in several:
        fed = [version is None for version in episode["policy_versions"]]
        assert any(fed) and not fed[0] and not fed[-1]
        assert all(credit == 0 for credit, no_one_said in zip(episode["credits"], fed, strict=True) if no_one_said)
    assert (run / "checkpoints" / "step_2" / "trainer" / "critic.safetensors").exists()
    evaluation = json.loads((run / "evaluation_after.json").read_text())
    assert sum(evaluation["passed_at_turn"].values()) == sum(evaluation["passed"].values())
    assert json.loads((run / "summary.json").read_text())["held_out"]["problems"] == 3


def test_what_dies_in_the_middle_of_episodes_is_replaced_and_nothing_is_learnt_in_part(
    vllm_model_folder: Path, tmp_path: Path
) -> None:
    """An engine and an executor are killed while the first step's episodes are played, later all of the run, which is gone on with."""
    run = tmp_path / "run"
    place = [f"model={vllm_model_folder}", f"run.directory={tmp_path}", "run.name=run"]
    process = start(*TINY_MODEL, *TURNS, "problems.held_out=null", "run.steps=3", *place)
    log = run / "logs" / "controller.log"
    wait_for("engine", lambda: log.exists() and "ready after" in log.read_text(), process)
    for lost in (*named(process, "EngineCore"), named(process, "ExecutorWorker")[0]):
        lost.kill()
    wait_for("two checkpoints", lambda: (run / "checkpoints" / "step_2").exists(), process)
    kill_all(process)
    assert rows(run)[-1]["rollouts_replaced"] == 1

    process = start("--resume", str(run))
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0, output
    told = rows(run)
    assert [(row["step"], row["policy_version"]) for row in told] == [(1, 1), (2, 2), (3, 3)]
    assert all(row["reference_divergence"] == pytest.approx(0, abs=0.2) for row in told)
    learnt = [episode for step in (1, 2, 3) for episode in episodes(run, step)]
    assert len(learnt) == 3 * 2 * 4
    assert set(Counter(episode["group_id"] for episode in learnt).values()) == {4}, "every group once, and whole"
    for episode in learnt:
        turns = episode["turns"]
        assert len(turns) == 3 or episode["ending"] != "turns"
        assert turns[-1]["outcome"] == episode["outcome"] != "infrastructure"

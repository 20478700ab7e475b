"""A whole run with episodes of several turns: real Ray, real vLLM, real judges, a critic and a reference policy; tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "algorithm.name=rlef",
    "rollout.max_turns=3",
    "rollout.max_feedback_tokens=128",
    "rollout.max_response_tokens=32",
    "rollout.samples_per_problem=4",
    "rollout.worked_examples=0",
    "problems.limit=6",
    "problems.held_out_limit=3",
    "evaluation.samples=1",
    "learner.groups_per_step=2",
    "learner.minibatches=2",
    "run.steps=2",
    "run.checkpoint_every=2",
    "engine.kv_cache_gib=0.25",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_run_of_several_turns_comes_to_its_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cluster", "train", *TINY, f"run.directory={tmp_path}", "run.name=run"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=800, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "run"
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["updates"] == 2
        assert step["turns"] > 1, "this model fails at first, so it is told and answers again"
        assert step["reference_divergence"] == pytest.approx(0, abs=0.2)
        assert {"value_explained", "value_loss", "critic_gradient_norm"} <= set(step)
    # A later turn begins with all of the earlier ones, which the engine still holds.
    assert steps[0]["cached_prompt_share"] > 0.5
    episodes = [json.loads(line) for line in (run / "trajectories" / "step_000001.jsonl").read_text().splitlines()]
    several = [episode for episode in episodes if len(episode["turns"]) > 1]
    assert several
    for episode in several:
        told = [version is None for version in episode["policy_versions"]]
        assert any(told) and not told[0] and not told[-1]
        assert all(credit == 0 for credit, fed in zip(episode["credits"], told, strict=True) if fed)
    assert (run / "checkpoints" / "step_2" / "trainer" / "critic.safetensors").exists()
    evaluation = json.loads((run / "evaluation_after.json").read_text())
    assert sum(evaluation["passed_at_turn"].values()) == sum(evaluation["passed"].values())
    assert json.loads((run / "summary.json").read_text())["held_out"]["problems"] == 3

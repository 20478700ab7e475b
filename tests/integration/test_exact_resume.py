"""A synchronous run that is killed and gone on with is the run that was not: the same tokens, the same metrics, to the last bit.

One of the runs has its engine sleep while the learner works, and writes its checkpoints while training goes on. With the transformers engine and one sequence at a time: vLLM computes sequences together as they come, and the last bits of a log-probability depend on company.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from whole_runs import PATIENCE_S, kill_all, rows, start, steps, wait_for

STEPS = 5
SETTINGS = [
    f"run.steps={STEPS}",
    "run.checkpoint_every=1",
    "run.keep_checkpoints=10",
    "problems.limit=5",
    "problems.held_out=null",
    "rollout.seeded=true",
    "rollout.samples_per_problem=3",
    "rollout.max_prompt_tokens=900",
    "rollout.max_response_tokens=16",
    "rollout.worked_examples=0",
    "weights.max_staleness=0",
    "learner.groups_per_step=2",
    "learner.learning_rate=1e-3",
    "engine.backend=transformers",
    "engine.max_sequences=1",
    "ray.dashboard=false",
]
ALGORITHMS = {
    "rltf": ["algorithm.name=rltf", "algorithm.loss.supervised_weight=1"],
    "rlef": [
        "algorithm.name=rlef",
        "rollout.max_turns=2",
        "rollout.max_feedback_tokens=400",
        "rollout.max_context_tokens=1024",
        "rollout.feedback=random",
        "learner.micro_batch_tokens=1024",
        "learner.minibatches=2",
        "engine.sleep_mode=true",
        "run.asynchronous_checkpoints=true",
    ],
}
# How long something took, how much was done in that time, and what the machine was doing when it was asked.
OF_THE_CLOCK = ("second", "executor", "executions", "buffer", "loop_lag", "cached")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def learnt(run: Path) -> list[dict[str, Any]]:
    """The metrics without those of the clock."""
    return [{k: v for k, v in row.items() if not any(part in k for part in OF_THE_CLOCK)} for row in rows(run)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_killed_run_goes_on_to_the_bit(algorithm: str, codegen_folder: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, *ALGORITHMS[algorithm], f"model={codegen_folder}", f"run.directory={tmp_path}"]
    whole = start(*settings, "run.name=whole")
    broken = start(*settings, "run.name=broken")
    last = random.randrange(1, STEPS - 1)
    wait_for(f"step {last}", lambda: last in steps(tmp_path / "broken"), broken)
    kill_all(broken)
    left = len(steps(tmp_path / "broken"))
    assert left < STEPS, "it was killed before its end"
    resumed = start("--resume", str(tmp_path / "broken"))
    output = resumed.communicate(timeout=PATIENCE_S)[0]
    assert resumed.returncode == 0, output
    output = whole.communicate(timeout=PATIENCE_S)[0]
    assert whole.returncode == 0, output

    assert learnt(tmp_path / "broken") == learnt(tmp_path / "whole")
    assert {"loss", "entropy", "gradient_norm", "log_prob_mismatch"} <= set(learnt(tmp_path / "whole")[0])
    for step in range(1, STEPS + 1):
        name = f"trajectories/step_{step:06d}.jsonl"
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    first, final = (tmp_path / name / "checkpoints" / f"step_{STEPS}" for name in ("whole", "broken"))
    assert (first / "model.safetensors").read_bytes() == (final / "model.safetensors").read_bytes()

"""What RLEF's critics cost: memory and time of learner steps with each, against none.

    python benchmarks/critic.py [--steps 3] [--groups 4]

Each variant is a learner of the default model in a process of its own, which takes the same made-up episodes of three turns. The first step pays for
what is set up once and is not timed. Printed: peak memory of the process, and the ratio of both to the learner without a critic and
reference (GRPO over episodes without a penalty).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from buffer.trajectory import NOT_SAMPLED, Group, Trajectory, Turn
from cluster.config import load_config
from cluster.model_source import resolve
from executor.verdict import Outcome, Verdict

VARIANTS: dict[str, dict[str, Any]] = {
    "no critic, no reference": {"value": "group", "reference_penalty": 0.0},
    "no critic, reference": {"value": "group"},
    "shared trunk, reference": {"value_network": "shared"},
    "own network, reference": {"value_network": "own"},
}
EPISODES = 8
PROMPT, RESPONSE, FEEDBACK, TURNS = 200, 60, 120, 3


def episode(number: int, reward: float) -> Trajectory:
    """Three turns of arbitrary tokens."""
    ids, mask, turns = list(range(100, 100 + PROMPT)), [0] * PROMPT, []
    for turn in range(TURNS):
        if turn:
            ids += [200 + (number + i) % 1000 for i in range(FEEDBACK)]
            mask += [0] * FEEDBACK
        start = len(ids)
        ids += [1000 + (7 * number + 3 * turn + i) % 5000 for i in range(RESPONSE)]
        mask += [1] * RESPONSE
        last = turn == TURNS - 1
        verdict = Verdict(problem_id="p", outcome=Outcome.FAILURE)
        worth = reward if last else 0.0
        turns.append(Turn(start=start, end=len(ids), response="", finish_reason="stop", verdict=verdict, reward=worth))
    return Trajectory(
        problem_id="p",
        token_ids=ids,
        log_probs=[-1.0 * m for m in mask],
        policy_versions=[0 if m else NOT_SAMPLED for m in mask],
        loss_mask=mask,
        turns=turns,
    )


def run(variant: str, steps: int, groups: int) -> None:
    """One learner, in this process; prints a line of JSON."""
    from learner.worker import Learner, LearnerSettings

    config = load_config()
    model = str(resolve(config.model.name, config.model.cache))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "trajectories").mkdir()
        learner = Learner(
            LearnerSettings(
                model_path=model,
                algorithm="rlef",
                loss=VARIANTS[variant],
                temperature=1.0,
                learning_rate=1e-6,
                warmup_steps=0,
                epochs=1,
                minibatches=1,
                weight_decay=0.0,
                betas=(0.9, 0.95),
                max_gradient_norm=1.0,
                micro_batch_tokens=1024,
                autocast="bfloat16",
                threads=2,
                seed=0,
                run_folder=folder,
                keep_checkpoints=1,
                engine_dtype="float32",
            )
        )
        batch = [
            Group(
                group_id=g,
                problem_id="p",
                issued_version=0,
                trajectories=[episode(EPISODES * g + n, 1.0 if n % 2 else -1.0) for n in range(EPISODES)],
            )
            for g in range(groups)
        ]
        learner.step(1, batch, 0)
        started = time.monotonic()
        for step in range(steps):
            learner.step(step + 2, batch, 0)
        seconds = (time.monotonic() - started) / steps
        learner.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(json.dumps({"seconds": seconds, "peak_gib": peak}))


def main() -> None:
    """Parse arguments; measure all variants, one after the other."""
    parser = argparse.ArgumentParser(description="Memory and time of RLEF's critics.")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.variant:
        run(asked.variant, asked.steps, asked.groups)
        return
    base: dict[str, float] = {}
    print(f"{'learner':26} {'peak memory':>12} {'a step':>9} {'memory':>8} {'time':>6}")
    for variant in VARIANTS:
        command = [sys.executable, __file__, "--variant", variant]
        command += ["--steps", str(asked.steps), "--groups", str(asked.groups)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        base = base or found
        ratios = found["peak_gib"] / base["peak_gib"], found["seconds"] / base["seconds"]
        print(
            f"{variant:26} {found['peak_gib']:8.2f} GiB {found['seconds']:7.1f} s {ratios[0]:8.2f} {ratios[1]:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

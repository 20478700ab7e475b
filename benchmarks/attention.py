"""What attention by segments saves a learner: time of the default model's forward and backward passes, against a dense mask in the same process.

    python benchmarks/attention.py [--groups 2] [--rounds 3]

Two batches: single answers, whose prompts are shared, and episodes of three turns. Rounds alternate between the two ways, and the fastest of each is
compared, since other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from buffer.trajectory import NOT_SAMPLED, Trajectory
from cluster.config import load_config
from cluster.model_source import resolve
from learner import segment_attention
from learner.model import Policy
from learner.packing import PackedSequence, WeightedTrajectory, pack

EPISODES, MAX_TOKENS = 8, 1024
PROMPT, RESPONSE, FEEDBACK = 200, 60, 120


def episode(number: int, turns: int) -> WeightedTrajectory:
    """Arbitrary tokens: a prompt, responses and feedback between them."""
    ids, mask = list(range(100, 100 + PROMPT)), [0] * PROMPT
    for turn in range(turns):
        if turn:
            ids += [200 + i for i in range(FEEDBACK)]
            mask += [0] * FEEDBACK
        ids += [1000 + (7 * number + 3 * turn + i) % 5000 for i in range(RESPONSE)]
        mask += [1] * RESPONSE
    trajectory = Trajectory(
        problem_id="p",
        token_ids=ids,
        log_probs=[-1.0 * m for m in mask],
        policy_versions=[0 if m else NOT_SAMPLED for m in mask],
        loss_mask=mask,
    )
    return WeightedTrajectory(trajectory, [0.0] * len(ids))


def seconds(policy: Policy, sequences: list[PackedSequence], implementation: str) -> float:
    """Of one forward and backward pass over all sequences."""
    policy.module.set_attn_implementation(implementation)
    started = time.monotonic()
    for sequence in sequences:
        policy.predict(sequence)[0].sum().backward()
    policy.module.zero_grad()
    return time.monotonic() - started


def main() -> None:
    """Parse arguments, measure both batches."""
    parser = argparse.ArgumentParser(description="Attention by segments against a dense mask.")
    parser.add_argument("--groups", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    config = load_config()
    policy = Policy(resolve(config.model.name, config.model.cache), autocast=torch.bfloat16, temperature=1.0)
    for turns in (1, 3):
        groups = [[episode(n, turns) for n in range(EPISODES)] for _ in range(asked.groups)]
        sequences = pack(groups, MAX_TOKENS)
        ways = {"sdpa": [], segment_attention.NAME: []}
        for _ in range(asked.rounds + 1):  # the first sets up what is set up once
            for name, times in ways.items():
                times.append(seconds(policy, sequences, name))
        dense, segments = (min(times[1:]) for times in ways.values())
        print(
            f"{turns} turns, {sum(map(len, sequences))} tokens in passes of up to {MAX_TOKENS}: "
            f"dense mask {dense:.2f} s, segments {segments:.2f} s, ratio {segments / dense:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Trained episodes as lines of JSON for people and the report: every response token with its credit, log-probability and policy version."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from buffer.trajectory import Group
from learner.packing import WeightedTrajectory


def write_episodes(
    path: Path,
    step: int,
    batch: Sequence[tuple[Group, Sequence[WeightedTrajectory]]],
    decode: Callable[[list[int]], str],
) -> None:
    """Write one line a sampled episode of the batch; the file appears whole."""
    lines = []
    for group, members in batch:
        for member in members:
            trajectory = member.trajectory
            if trajectory.role != "sampled":
                continue
            turn = trajectory.turns[-1]
            response = slice(turn.start, turn.end)
            verdict = turn.verdict
            lines.append(
                json.dumps(
                    {
                        "step": step,
                        "group_id": group.group_id,
                        "problem_id": group.problem_id,
                        "prompt": decode(trajectory.token_ids[: turn.start]),
                        "tokens": [decode([token]) for token in trajectory.token_ids[response]],
                        "credits": [round(value, 5) for value in member.advantages[response]],
                        "log_probs": [round(value, 5) for value in trajectory.log_probs[response]],
                        "policy_versions": trajectory.policy_versions[response],
                        "reward": trajectory.reward,
                        "components": turn.components,
                        "outcome": verdict.outcome if verdict else None,
                        "passed": verdict.passed if verdict else 0,
                        "total": verdict.total if verdict else 0,
                        "error": verdict.error.model_dump() if verdict and verdict.error else None,
                    }
                )
            )
    temporary = path.with_suffix(".part")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.rename(path)

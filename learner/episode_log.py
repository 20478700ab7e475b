"""Trained episodes as lines of JSON for people and the report: every token after the prompt, with credit, log-probability and policy version where
the policy sampled it; feedback between turns has none of these.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
            first, last = trajectory.turns[0], trajectory.turns[-1]
            after = slice(first.start, last.end)
            sampled = trajectory.loss_mask[after]
            verdict = last.verdict
            lines.append(
                json.dumps(
                    {
                        "step": step,
                        "group_id": group.group_id,
                        "problem_id": group.problem_id,
                        "prompt": decode(trajectory.token_ids[: first.start]),
                        "tokens": [decode([token]) for token in trajectory.token_ids[after]],
                        "credits": [round(value, 5) for value in member.advantages[after]],
                        "log_probs": _where(sampled, [round(value, 5) for value in trajectory.log_probs[after]]),
                        "policy_versions": _where(sampled, trajectory.policy_versions[after]),
                        "reward": trajectory.reward,
                        "components": _sums(turn.components for turn in trajectory.turns),
                        "turns": [
                            {"reward": t.reward, "outcome": t.verdict.outcome if t.verdict else None}
                            for t in trajectory.turns
                        ],
                        "ending": trajectory.ending,
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


def _where(sampled: Sequence[int], values: Sequence[float]) -> list[float | None]:
    return [value if mask else None for value, mask in zip(values, sampled, strict=True)]


def _sums(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for components in parts:
        sums.update(components)  # type: ignore[arg-type]  # a Counter adds up floats as well
    return dict(sums)

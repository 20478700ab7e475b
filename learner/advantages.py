"""Advantages of a group's rewards over one another; pure arithmetic (golden E01)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev, stdev
from typing import Literal


def centred(rewards: Sequence[float]) -> list[float]:
    """A_i = R_i - mean(R) (Dr. GRPO, arXiv 2503.20783)."""
    mean = fmean(rewards) if rewards else 0.0
    return [reward - mean for reward in rewards]


def group_relative(
    rewards: Sequence[float], std: Literal["sample", "population", "none"] = "sample", eps: float = 1e-6
) -> list[float]:
    """A_i = (R_i - mean(R)) / (std(R) + eps) (GRPO, arXiv 2402.03300); the paper leaves the kind of deviation open."""
    values = centred(rewards)
    if std == "none" or len(rewards) < 2:
        return values
    deviation = stdev(rewards) if std == "sample" else pstdev(rewards)
    return [value / (deviation + eps) for value in values]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """A_i = R_i - mean of the others (RLOO, arXiv 2402.14740). Raises ValueError for fewer than two rewards."""
    count = len(rewards)
    if count < 2:
        raise ValueError("leave-one-out needs at least two rewards")
    return [value * count / (count - 1) for value in centred(rewards)]

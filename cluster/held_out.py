"""What two evaluations on the held-out problems say about training: the form of summary.json's `held_out`."""

from __future__ import annotations

from typing import Any

from actors.evaluation import Evaluation
from cluster.statistics import paired_difference


def summarise(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Pass@1 before and after and the 95 % interval of their paired difference, over the problems that both have samples of."""
    shared = sorted(set(before.samples) & set(after.samples))
    first = [(before.passed[p], before.samples[p]) for p in shared]
    second = [(after.passed[p], after.samples[p]) for p in shared]
    difference, low, high = paired_difference(first, second)
    return {
        "before": sum(passed / samples for passed, samples in first) / len(shared),
        "after": sum(passed / samples for passed, samples in second) / len(shared),
        "difference": difference,
        "low": low,
        "high": high,
        "problems": len(shared),
        "samples": min(samples for _, samples in [*first, *second]),
    }

"""Latencies as counts in fixed buckets, so that those of several processes and of any stretch of time can be summed. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping

# Each bound is sqrt(2) times the one before: 1 ms to about 1000 s; what is above is counted in the last bucket.
BOUNDS: tuple[float, ...] = tuple(0.001 * 2 ** (i / 2) for i in range(41))


class Latencies:
    """A histogram that only grows."""

    def __init__(self) -> None:
        self._counts = [0] * len(BOUNDS)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[min(bisect.bisect_left(BOUNDS, seconds), len(BOUNDS) - 1)] += 1
        self._sum += seconds

    def gauges(self, name: str) -> dict[str, float]:
        """Counters by name: NAME_sum, and NAME_00, NAME_01, ... of the buckets that hold any."""
        counts = {f"{name}_{i:02d}": float(count) for i, count in enumerate(self._counts) if count}
        return {f"{name}_sum": self._sum, **counts}


def summary(gauges: Mapping[str, float], name: str) -> dict[str, float]:
    """Mean and 95th percentile of summed gauges, or of a difference of such: {mean, p95}; nothing where none was counted.

    The percentile is its bucket's upper bound, so at most sqrt(2) times too large.
    """
    counts = [gauges.get(f"{name}_{i:02d}", 0.0) for i in range(len(BOUNDS))]
    total = sum(counts)
    if total <= 0:
        return {}
    below = 0.0
    for bound, count in zip(BOUNDS, counts, strict=True):
        below += count
        if below >= 0.95 * total:
            return {"mean": gauges.get(f"{name}_sum", 0.0) / total, "p95": bound}
    raise AssertionError("unreachable: the buckets sum up to the total")

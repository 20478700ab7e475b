"""How fast a run goes: tokens and executions a second since the last step, and what each part is doing now."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from cluster.actors import House
from cluster.waiting import as_future

GAUGES_TIMEOUT_S = 10.0


async def gauges(actors: list[Any]) -> list[dict[str, float]]:
    """Answers of those actors that live and answer in time; a metric is no reason to end a run."""
    answers = await asyncio.gather(
        *(asyncio.wait_for(as_future(actor.gauges.remote()), GAUGES_TIMEOUT_S) for actor in actors),
        return_exceptions=True,
    )
    return [answer for answer in answers if isinstance(answer, dict)]


class Rates:
    """Counters of all actors turned into metrics."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._counts: dict[str, float] = {}
        self._time = time.monotonic()

    async def read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics for a step's line, and what each part does, for people."""
        rollouts, executors = await gauges(self._house.rollouts), await gauges(self._house.executors)
        buffer = (await gauges([self._house.buffer]) or [{}])[0]

        def total(answers: list[dict[str, float]], name: str) -> float:
            return sum(answer.get(name, 0.0) for answer in answers)

        counts = {"tokens": total(rollouts, "generated_tokens"), "executions": total(executors, "executions")}
        now = time.monotonic()
        elapsed = max(now - self._time, 1e-9)
        # A replaced actor counts from 0 again.
        metrics = {
            f"{name}_per_second": max(0.0, n - self._counts.get(name, 0.0)) / elapsed for name, n in counts.items()
        }
        self._counts, self._time = counts, now
        metrics |= {
            "infrastructure": total(rollouts, "infrastructure"),
            "buffer_ready": float(buffer.get("ready", 0.0)),
            "buffer_outstanding": float(buffer.get("outstanding", 0.0)),
        }
        doing = {
            "rollout": f"{total(rollouts, 'generating'):.0f} generating",
            "executor": f"{total(rollouts, 'judging'):.0f} being judged",
            "buffer": f"{metrics['buffer_ready']:.0f} groups ready, {metrics['buffer_outstanding']:.0f} under way",
        }
        return metrics, doing

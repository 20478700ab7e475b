"""How fast a run goes: tokens and executions a second since the last step, and what each part is doing now."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from cluster.actors import House
from cluster.waiting import or_none
from executor.latency import summary
from executor.verdict import Outcome

GAUGES_TIMEOUT_S = 10.0
JUDGED = [outcome for outcome in Outcome if outcome is not Outcome.NO_CODE]  # what an executor worker can say


async def gauges(actors: list[Any]) -> list[dict[str, float]]:
    """Answers of those actors that live and answer in time; a metric is no reason to end a run."""
    answers = await asyncio.gather(*(or_none(actor.gauges.remote(), GAUGES_TIMEOUT_S) for actor in actors))
    return [answer for answer in answers if answer is not None]


class Rates:
    """Counters of all actors turned into metrics."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._counts: dict[str, float] = {}
        self._time = time.monotonic()

    async def read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Metrics for a step's line, and what each part does, for people."""
        owner = self._house.owner
        rollouts, executors, memberships, buffers = await asyncio.gather(
            gauges(list(self._house.rollouts.values())),
            gauges(list(self._house.executors.values())),
            gauges([owner.membership] if owner is not None else []),
            gauges([self._house.buffer]),
        )
        buffer = buffers[0] if buffers else {}
        clients, workers = total(rollouts), total(executors)
        counts = {
            "tokens": clients["generated_tokens"],
            **{name: clients[name] for name in ("prompt_tokens", "cached_prompt_tokens")},
            "executions": workers["executions"],
            **{f"executions_{outcome.value}": workers[f"outcome_{outcome.value}"] for outcome in JUDGED},
            **{name: value for name, value in clients.items() if name.startswith("executor_latency")},
        }
        now = time.monotonic()
        elapsed = max(now - self._time, 1e-9)
        since = increases(self._counts, counts)
        self._counts, self._time = counts, now
        told = summary(since, "executor_latency")
        latency = (
            {"executor_latency_seconds": told["mean"], "executor_latency_p95_seconds": told["p95"]} if told else {}
        )
        metrics = {
            "tokens_per_second": since["tokens"] / elapsed,
            "cached_prompt_share": since["cached_prompt_tokens"] / max(1.0, since["prompt_tokens"]),
            "rollout_loop_lag_seconds": max((a.get("loop_lag_seconds", 0.0) for a in rollouts), default=0.0),
            "executions_per_second": since["executions"] / elapsed,
            **{f"executions_per_second_{o.value}": since[f"executions_{o.value}"] / elapsed for o in JUDGED},
            "executor_queue": clients["executor_queue"],
            "executor_queue_age_seconds": max((a.get("executor_queue_age", 0.0) for a in rollouts), default=0.0),
            "executor_busy_slots": workers["busy_slots"],
            "executor_slots": workers["slots"],
            "executor_failures": workers["infrastructure_failures"] + clients["executor_moved"],
            **latency,
            **{f"executor_{name}": answer[name] for answer in memberships for name in ("workers_up", "workers_lost")},
            "infrastructure": clients["infrastructure"],
            **{name: value for name, value in clients.items() if name == "linter_failures"},
            "buffer_ready": float(buffer.get("ready", 0.0)),
            "buffer_outstanding": float(buffer.get("outstanding", 0.0)),
        }
        doing = {
            "rollout": f"{clients['generating']:.0f} generating",
            "executor": f"{clients['judging']:.0f} being judged",
            "buffer": f"{metrics['buffer_ready']:.0f} groups ready, {metrics['buffer_outstanding']:.0f} under way",
        }
        return metrics, doing


def total(answers: list[dict[str, float]]) -> dict[str, float]:
    """The sum of each gauge over all that have it; 0 for a name that none has."""
    sums: dict[str, float] = defaultdict(float)
    for answer in answers:
        for name, value in answer.items():
            sums[name] += value
    return sums


def increases(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """How much each counter has grown; one that fell (an actor was replaced and counts from 0 again) has not."""
    return {name: max(0.0, value - before.get(name, 0.0)) for name, value in now.items()}

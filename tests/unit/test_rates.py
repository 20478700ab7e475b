"""Gauges of many actors become the metrics of a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from asynchronous import asynchronous

from cluster.rates import Rates
from executor.latency import BOUNDS, Latencies


class Actor:
    """Stands in for a handle whose gauges are `values`; one without values is dead."""

    def __init__(self, values: dict[str, float] | None) -> None:
        self.values = values
        self.gauges = SimpleNamespace(remote=self._answer)

    async def _answer(self) -> Any:
        if self.values is None:
            raise ConnectionError
        return self.values


def client(generated: float, *seconds: float) -> dict[str, float]:
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    return {
        "generated_tokens": generated,
        "executor_queue": 2.0,
        "executor_queue_age": 1.5,
        "executor_moved": 1.0,
        "judging": 3.0,
    } | latencies.gauges("executor_latency")


def worker(passes: float, failures: float) -> dict[str, float]:
    return {
        "executions": passes + failures,
        "outcome_pass": passes,
        "outcome_failure": failures,
        "busy_slots": 1.0,
        "slots": 2.0,
        "infrastructure_failures": 1.0,
    }


@asynchronous
async def test_counters_become_rates_and_levels_are_summed() -> None:
    house: Any = SimpleNamespace(
        rollouts={0: Actor(client(100, 0.5)), 1: Actor(client(50, 0.5))},
        executors={"a": Actor(worker(4, 2)), "b": Actor(worker(6, 0)), "dead": Actor(None)},
        owner=SimpleNamespace(membership=Actor({"workers_up": 2.0, "workers_lost": 1.0, "workers_draining": 0.0})),
        buffer=Actor({"ready": 3.0}),
    )
    rates = Rates(house)
    first, doing = await rates.read()
    assert first["executor_queue_age_seconds"] == 1.5, "the longest of all"
    assert first["executor_queue"] == 4 and first["executor_busy_slots"] == 2 and first["executor_slots"] == 4
    assert first["executor_failures"] == 4 and first["buffer_ready"] == 3
    assert first["executor_latency_seconds"] == 0.5 <= first["executor_latency_p95_seconds"]
    assert first["executions_per_second"] == pytest.approx(
        first["executions_per_second_pass"] + first["executions_per_second_failure"]
    )
    assert first["executions_per_second_pass"] == pytest.approx(5 * first["executions_per_second_failure"])
    assert first["executions_per_second_timeout"] == 0 and doing["executor"] == "6 being judged"

    assert first["executor_workers_up"] == 2 and first["executor_workers_lost"] == 1

    # One client has three more verdicts, slow ones; one worker has judged, the other was replaced and counts from 0.
    house.rollouts[0].values = client(100, 0.5, 8.0, 8.0, 8.0)
    house.executors["a"].values, house.executors["b"].values = worker(4, 2), worker(5, 1)
    second, _ = await rates.read()
    assert second["executor_latency_seconds"] == 8.0 and 8.0 <= second["executor_latency_p95_seconds"] < BOUNDS[-1]
    assert second["tokens_per_second"] == 0 and second["executions_per_second_pass"] == 0
    assert second["executions_per_second_failure"] > 0
    assert "linter_failures" not in second
    for rollout in house.rollouts.values():
        rollout.values = client(100, 0.5) | {"linter_failures": 2.0}
    house.owner.membership.values = None
    third, _ = await rates.read()
    assert "executor_workers_up" not in third, "what nobody told is not 0"
    assert third["linter_failures"] == 4
    assert "executor_latency_seconds" not in third, "nothing was judged since"

"""A step's line becomes what Prometheus shows; what fails is told once and ends nothing."""

from __future__ import annotations

import logging
import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from metrics_lines import LINES

from cluster.config import Config
from cluster.exported_metrics import EXPORTED
from cluster.exporting import Exporter

RUN = "2026-01-31_12-00-00"
Shown = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Library:
    """Stands in for ray.util.metrics, which exports nothing without a Ray, and holds callers to its rules."""

    def __init__(self) -> None:
        self.shown: Shown = {}
        self.made: list[str] = []
        self.Gauge = self._class(lambda old, value: value)
        self.Counter = self._class(lambda old, value: old + value)

    def _class(self, join: Any) -> Any:
        library = self

        class Instrument:
            def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
                assert isinstance(tag_keys, tuple) and description
                self._name, self._keys = name, tag_keys
                library.made.append(name)

            def set(self, value: float, tags: dict[str, str]) -> None:
                assert isinstance(value, int | float) and all(isinstance(v, str) for v in tags.values())
                assert set(tags) == set(self._keys)
                place = (self._name, frozenset(tags.items()))
                library.shown[place] = join(library.shown.get(place, 0.0), value)

            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0, "as Ray's"
                self.set(value, tags)

        return Instrument

    def value(self, name: str, **tags: str) -> float | None:
        return self.shown.get((name, frozenset({"run": RUN, **tags}.items())))


def exporter(library: Any, **changes: Any) -> Exporter:
    return Exporter(RUN, Config.model_validate(changes), library)


def started(**changes: Any) -> tuple[Exporter, Library]:
    library = Library()
    made = exporter(library, **changes)
    made.start()
    return made, library


def test_settings_and_totals_are_shown_from_the_start() -> None:
    before = time.time()
    _, library = started(run={"steps": 7}, weights={"max_staleness": 3})
    assert library.value("cupel_steps_planned") == 7
    assert library.value("cupel_staleness_bound") == 3
    assert library.value("cupel_infrastructure_failures") == 0, "else the first failure would be no growth"
    began = library.value("cupel_last_step_timestamp_seconds")
    assert began is not None and before <= began <= time.time()
    assert library.value("cupel_step") is None and library.value("cupel_learner_tokens", tokens="trained") is None


@pytest.mark.parametrize("line", LINES, ids=["rlef", "rltf"])
def test_a_real_line_is_shown_key_by_key(line: dict[str, Any]) -> None:
    made, library = started()
    made.write(line)
    for metric in EXPORTED:
        for series in metric.series:
            if metric.kind != "setting" and series.key in line:
                assert library.value(metric.name, **series.tags) == line[series.key], series.key
            elif metric.kind == "gauge":
                assert library.value(metric.name, **series.tags) is None, "what nobody told is not shown"
    assert sorted(library.made) == sorted(metric.name for metric in EXPORTED)


def test_counters_add_up_and_take_nothing_from_a_line_without_them() -> None:
    made, library = started()
    for line in ({"trained_tokens": 5.0, "updates": 1.0}, {"trained_tokens": 2.0, "updates": 0.0}, {}):
        made.write(line)
    assert library.value("cupel_learner_tokens", tokens="trained") == 7
    assert library.value("cupel_updates") == 1


def test_totals_show_their_growth_and_never_fall() -> None:
    """One of two actors is replaced and counts from 0 again: 5 falls to 3, then grows to 4."""
    made, library = started()
    seen = []
    for total in (2.0, 5.0, 3.0, 4.0):
        made.write({"infrastructure": total})
        seen.append(library.value("cupel_infrastructure_failures"))
    made.write({})
    assert seen == [2, 5, 5, 6]
    assert library.value("cupel_infrastructure_failures") == 6


def test_a_gauge_that_a_line_has_not_any_more_is_taken_away() -> None:
    made, library = started()
    made.write({"executor_latency_seconds": 0.5, "reward": 1.0})
    made.write({"reward": 2.0})
    gone = library.value("cupel_executor_latency_seconds", statistic="mean")
    assert gone is not None and math.isnan(gone)
    assert library.value("cupel_reward") == 2
    made.write({"executor_latency_seconds": 0.25})
    assert library.value("cupel_executor_latency_seconds", statistic="mean") == 0.25


def test_a_failure_is_told_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made, library = started()
    made.write({"reward": 1.0})

    def fails(value: float, tags: dict[str, str]) -> None:
        raise RuntimeError("the agent is gone")

    assert made._instruments is not None
    made._instruments["cupel_reward"].set = fails
    with caplog.at_level(logging.WARNING, "cupel"):
        for reward in (2.0, 3.0):
            made.write({"reward": reward})
    assert library.value("cupel_reward") == 1
    assert [r.getMessage() for r in caplog.records] == [
        "metrics are not exported to Prometheus any more (RuntimeError: the agent is gone); metrics.jsonl is written"
    ]


def test_a_library_that_makes_nothing_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = exporter(SimpleNamespace())
    with caplog.at_level(logging.WARNING, "cupel"):
        made.start()
        made.write({"reward": 1.0})
    assert len(caplog.records) == 1


def test_nothing_is_exported_before_the_start(caplog: pytest.LogCaptureFixture) -> None:
    library = Library()
    exporter(library).write({"reward": 1.0})
    assert library.shown == {} and not caplog.records

"""A run's metrics for Prometheus, by way of Ray: what is told here shows on the metrics port of this process's node.

Invariants: what is exported is the table in exported_metrics.py; a failure is told once and never ends a run; a key that a line does not have any
more is not shown any more, since what nobody told is not what was told last.
"""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from cluster.config import Config
from cluster.exported_metrics import EXPORTED, RUN_TAG, Exported, Series

log = logging.getLogger("cupel")


class Exporter:
    """Exports the lines of one run."""

    def __init__(self, run: str, config: Config, library: Any = None) -> None:
        """`run` is the value of the tag `run`; `library` holds Gauge and Counter, those of Ray if None."""
        self._run = run
        self._config = config
        self._library = library
        self._instruments: dict[str, Any] | None = None  # None: before `start`, and after a failure
        self._told: set[str] = set()  # keys of gauges
        self._newest: dict[str, float] = {}  # of totals, as lines had them
        self._grown: dict[str, float] = defaultdict(float)  # what totals have grown by

    def start(self) -> None:
        """Begin to export; for a process that has joined Ray, since earlier instruments would export nothing."""
        self._guarded(self._start)

    def write(self, line: Mapping[str, Any]) -> None:
        """Export the line of a step."""
        if self._instruments is not None:
            self._guarded(lambda: self._write(line))

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # whatever Ray's metrics do must not end a run
            self._instruments = None
            log.warning(
                "metrics are not exported to Prometheus any more (%s: %s); metrics.jsonl is written",
                type(error).__name__,
                error,
            )

    def _start(self) -> None:
        library = self._library
        if library is None:
            from ray.util import metrics as library
        classes = {"counter": library.Counter}
        self._instruments = {
            metric.name: classes.get(metric.kind, library.Gauge)(metric.name, metric.description, metric.tags)
            for metric in EXPORTED
        }
        for metric in EXPORTED:
            for series in metric.series:
                if metric.kind == "setting":
                    self._set(metric, float(_setting(self._config, series.key)), series)
                elif metric.kind == "total":
                    self._set(metric, 0.0, series)
            if metric.kind == "clock":
                self._set(metric, time.time())

    def _write(self, line: Mapping[str, Any]) -> None:
        for metric in EXPORTED:
            if metric.kind == "clock":
                self._set(metric, time.time())
            for series in metric.series:
                value = line.get(series.key)
                if metric.kind == "gauge":
                    self._gauge(metric, series, value)
                elif metric.kind == "counter" and value:
                    self._instrument(metric).inc(float(value), tags=self._tags(series))
                elif metric.kind == "total" and value is not None:
                    self._grown[series.key] += max(0.0, value - self._newest.get(series.key, 0.0))
                    self._newest[series.key] = value
                    self._set(metric, self._grown[series.key], series)

    def _gauge(self, metric: Exported, series: Series, value: float | None) -> None:
        if value is not None:
            self._told.add(series.key)
            self._set(metric, float(value), series)
        elif series.key in self._told:
            self._set(metric, math.nan, series)  # Ray's agent leaves out what is not finite

    def _set(self, metric: Exported, value: float, series: Series | None = None) -> None:
        self._instrument(metric).set(value, tags=self._tags(series))

    def _instrument(self, metric: Exported) -> Any:
        assert self._instruments is not None
        return self._instruments[metric.name]

    def _tags(self, series: Series | None) -> dict[str, str]:
        return {RUN_TAG: self._run, **(series.tags if series is not None else {})}


def _setting(config: Config, key: str) -> float:
    """The value of `section.name`."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value

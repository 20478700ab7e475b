"""Where a run's metrics go beside `metrics.jsonl`: one tracker a file of this folder, opened by name.

Invariant: a tracker is a convenience, and whatever it does ends no run: one that fails is told of once and left out. Steps that a resumed run does
again are struck out in TensorBoard, ignored by W&B, and shown twice by MLflow, which cannot forget.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from executor.errors import UserError

log = logging.getLogger("cupel")


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker is told of it."""

    folder: Path
    config: Mapping[str, Any]
    resume_step: int | None = None
    """The last step to keep; None for a fresh run."""


class Tracker(Protocol):
    """What `Tracker` in a file of this folder is; it is opened with a `Tracked`."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of a step."""
        ...

    def close(self) -> None:
        """The run ends."""
        ...


def check(names: Sequence[str]) -> None:
    """Raises UserError for a tracker that cannot be used here."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(f"run.trackers: {name} is not installed; install cupel[{name}], or leave it out")
    if "mlflow" in names and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise UserError("run.trackers: mlflow needs MLFLOW_TRACKING_URI, the address of an MLflow server")


class Trackers:
    """All of a run."""

    def __init__(self, names: Sequence[str], run: Tracked) -> None:
        self._open: dict[str, Tracker] = {}
        for name in names:
            try:
                self._open[name] = importlib.import_module(f"cluster.trackers.{name}").Tracker(run)
            except Exception as error:
                self._without(name, error)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """To each of them."""
        for name, tracker in list(self._open.items()):
            try:
                tracker.write(step, metrics)
            except Exception as error:
                self._without(name, error)

    def close(self) -> None:
        """All of them; closing twice does nothing."""
        while self._open:
            name, tracker = self._open.popitem()
            try:
                tracker.close()
            except Exception as error:
                self._without(name, error)

    def _without(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        log.warning("%s gets no metrics any more (%s: %s); metrics.jsonl does", name, type(error).__name__, error)

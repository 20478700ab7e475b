"""Metrics of a run: `metrics.jsonl`, one line a learner step, and the same numbers for trackers.

Invariants: steps rise from line to line, none twice; a line is on the disk before `write` returns; going on from step K drops everything after K.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.run_folder import write_atomically
from cluster.trackers.base import Tracked, Trackers
from executor.errors import UserError

NAME = "metrics.jsonl"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file in order; a line cut short by the death of its writer is left out. Raises UserError
    if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    lines: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int | float):
            lines.append(value)
    return lines


class MetricsWriter:
    """Writes the metrics of one run."""

    def __init__(
        self,
        folder: Path,
        resume_step: int | None = None,
        trackers: Sequence[str] = ("tensorboard",),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the files in `folder`; `resume_step` is the last step to keep, None for a fresh run; trackers are told the
        run's `config`. Raises UserError where the disk refuses.
        """
        self._path = folder / NAME
        self._last = 0
        if resume_step is not None:
            kept = {int(line["step"]): line for line in read_metrics(self._path) if line["step"] <= resume_step}
            write_atomically(self._path, "".join(_line(kept[step]) for step in sorted(kept)))
            self._last = resume_step
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"{self._path} could not be opened: {error.strerror or error}") from None
        self._trackers = Trackers(trackers, Tracked(folder, config or {}, resume_step))

    def write(self, metrics: Mapping[str, float]) -> None:
        """Append the line of a step. Raises ValueError for a step that was written before, UserError where the disk
        refuses.
        """
        step = int(metrics["step"])
        if step <= self._last:
            raise ValueError(f"metrics of step {step} after those of step {self._last}")
        data = _line(metrics).encode()
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, data)
            while written < len(data):
                written += os.write(self._file, data[written:])
            os.fsync(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, size)  # half a line would be a damaged file
            raise UserError(f"{self._path} could not be written: {error.strerror or error}") from None
        self._last = step
        numbers = {
            name: float(value) for name, value in metrics.items() if name != "step" and isinstance(value, int | float)
        }
        self._trackers.write(step, numbers)

    def close(self) -> None:
        """Close the files; closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._trackers.close()


def _line(metrics: Mapping[str, Any]) -> str:
    """One line of JSON; what is not finite becomes null, since JSON has no name for it."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }
    return json.dumps({**plain, "step": int(metrics["step"])}) + "\n"

"""Metrics of a run: `metrics.jsonl`, one line a learner step, and the same numbers for TensorBoard.

Invariants: steps rise from line to line, none twice; a line is on the disk before `write` returns; going on from step K
drops everything after K in both. TensorBoard is a convenience: its failure is told once and never ends a run.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.run_folder import write_atomically
from executor.errors import UserError

NAME = "metrics.jsonl"

log = logging.getLogger("cupel")


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

    def __init__(self, folder: Path, resume_step: int | None = None) -> None:
        """Open the files in `folder`; `resume_step` is the last step to keep, None for a fresh run. Raises UserError
        where the disk refuses.
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
        self._board: _Board | None = None
        try:
            self._board = _Board(folder / "tensorboard", resume_step)
        except Exception as error:  # whatever TensorBoard does must not end a run
            self._without_board(error)

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
        if self._board is not None:
            try:
                self._board.write(step, metrics)
            except Exception as error:
                self._without_board(error)

    def close(self) -> None:
        """Close the files; closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._board is not None:
            board, self._board = self._board, None
            try:
                board.close()
            except Exception as error:
                self._without_board(error)

    def _without_board(self, error: Exception) -> None:
        self._board = None
        log.warning(
            "TensorBoard files are not written any more (%s: %s); metrics.jsonl is", type(error).__name__, error
        )


class _Board:
    """TensorBoard's event file, written record by record in this thread: no background thread that could hang, neither
    torch nor TensorFlow.
    """

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        # Made by the protocol buffer compiler at run time: type checkers see no names in them.
        self._event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._add(0, file_version="brain.Event:2")
        if resume_step is not None:
            log_of_session = self._event.SessionLog
            # Events from this step on in earlier files are struck out by the reader.
            self._add(resume_step + 1, session_log=log_of_session(status=log_of_session.START))
        self._writer.flush()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        values = [
            self._summary.Summary.Value(tag=name, simple_value=float(value))
            for name, value in metrics.items()
            if name != "step" and isinstance(value, int | float)
        ]
        self._add(step, summary=self._summary.Summary(value=values))
        self._writer.flush()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.write(self._event.Event(wall_time=time.time(), step=step, **content).SerializeToString())

    def close(self) -> None:
        self._writer.close()


def _line(metrics: Mapping[str, Any]) -> str:
    """One line of JSON; what is not finite becomes null, since JSON has no name for it."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in metrics.items()
    }
    return json.dumps({**plain, "step": int(metrics["step"])}) + "\n"

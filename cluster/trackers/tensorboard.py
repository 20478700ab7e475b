"""TensorBoard's event files, written record by record in the caller's thread: no background thread that could hang, neither torch nor TensorFlow."""

from __future__ import annotations

import importlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from tensorboard.summary.writer.record_writer import RecordWriter

from cluster.trackers.base import Tracked


class Tracker:
    """One event file a process."""

    def __init__(self, run: Tracked) -> None:
        # Made by the protocol buffer compiler at run time: type checkers see no names in them.
        self._event: Any = importlib.import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        folder = run.folder / "tensorboard"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000:016d}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._add(0, file_version="brain.Event:2")
        if run.resume_step is not None:
            log_of_session = self._event.SessionLog
            # Events from this step on in earlier files are struck out by the reader.
            self._add(run.resume_step + 1, session_log=log_of_session(status=log_of_session.START))
        self._writer.flush()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """A summary of the step, on the disk when this returns."""
        values = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=self._summary.Summary(value=values))
        self._writer.flush()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.write(self._event.Event(wall_time=time.time(), step=step, **content).SerializeToString())

    def close(self) -> None:
        """Close the file."""
        self._writer.close()

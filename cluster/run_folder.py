"""The run folder: where everything that a run leaves behind is kept.

Invariants: a file written here appears whole or not at all; one process at a time trains in a folder; a checkpoint
counts only if it is complete. What the disk refuses is told in one line with the path and the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from executor.errors import UserError
from learner.checkpoint_folder import folder_of, steps_of

SUBFOLDERS = ("checkpoints", "trajectories", "tensorboard", "logs")
HEARTBEAT_S = 1.0
STEPS_DIGITS = 6

log = logging.getLogger("cupel")


def write_atomically(path: Path, text: str, *, sync: bool = True) -> None:
    """Write `text` under a temporary name beside `path`, then rename. Raises UserError where the disk refuses."""
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


class RunFolder:
    """One run folder. Make it with `create` or `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_heartbeat = 0.0
        self._heartbeat_failed = False
        self._handler: logging.Handler | None = None

    @classmethod
    def create(cls, directory: str | Path, name: str | None = None) -> RunFolder:
        """A fresh folder `directory/name`; without a name one from the date and time. Raises UserError if it is there
        or cannot be made.
        """
        parent = Path(directory).expanduser()
        if name is not None and (name in ("", ".", "..") or "/" in name or "\0" in name):
            raise UserError(f"run.name={name!r} is not the name of a folder")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = cls._fresh(parent, name)
            for subfolder in SUBFOLDERS:
                (path / subfolder).mkdir()
        except OSError as error:
            raise UserError(
                f"run folder in {parent} cannot be made: {error.strerror or error}; choose another run.directory"
            ) from None
        return cls(path.resolve())

    @staticmethod
    def _fresh(parent: Path, name: str | None) -> Path:
        if name is not None:
            path = parent / name
            try:
                path.mkdir()
            except FileExistsError:
                raise UserError(
                    f"run folder {path} is there already: choose another run.name, or go on with it: cupel train --resume {path}"
                ) from None
            return path
        stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for number in range(1, 1000):
            path = parent / (stem if number == 1 else f"{stem}_{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
        raise UserError(f"no free name for a run folder in {parent}; give run.name")

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run folder. Raises UserError if `path` is none, or nothing can be written there."""
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise UserError(f"run folder {folder}: no such folder")
        if not (folder / "config.yaml").is_file():
            raise UserError(f"{folder} is not a run folder: it has no config.yaml")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"run folder {folder} is not writable")
        try:
            for subfolder in SUBFOLDERS:
                (folder / subfolder).mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"run folder {folder}: {error.strerror or error}") from None
        return cls(folder.resolve())

    # Files ----------------------------------------------------------------------------------------------------------

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder, whole. Raises UserError where the disk refuses."""
        write_atomically(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder, whole. Raises UserError where the disk refuses."""
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any | None:
        """What a JSON file of the folder holds; None if there is no such file. Raises UserError if it is damaged."""
        return read_json(self.path / name)

    def trajectories(self, step: int) -> Path:
        """Where the episodes of a learner step are kept."""
        return self.path / "trajectories" / f"step_{step:0{STEPS_DIGITS}d}.jsonl"

    def latest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, None if there is none."""
        return latest_checkpoint(self.path)

    # While a run goes on --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder. The lock ends with the process, however that ends. Raises UserError if another process holds
        it.
        """
        try:
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UserError(f"run folder {self.path} cannot be locked: {error.strerror or error}") from None
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise UserError(
                    f"run folder {self.path} is in use by process {holder}; stop that first: cupel stop {self.path}"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            self._last_heartbeat = 0.0
            self.heartbeat({"controller": "starting"})
            yield
        finally:
            os.close(descriptor)
            self._close_log()

    def heartbeat(self, state: Mapping[str, Any]) -> None:
        """Keep `status.json` fresh, at most once a second. A full disk is no reason to end a run here: it is told once,
        in the log.
        """
        now = time.monotonic()
        if now - self._last_heartbeat < HEARTBEAT_S and self._last_heartbeat:
            return
        self._last_heartbeat = now
        pid = os.getpid()
        started = psutil.Process(pid).create_time()
        record = {"pid": pid, "pid_started": started, "host": platform.node(), "written": time.time(), **state}
        try:
            write_atomically(self.path / "status.json", json.dumps(record) + "\n", sync=False)
            self._heartbeat_failed = False
        except UserError as error:
            if not self._heartbeat_failed:
                log.warning("%s", error)
            self._heartbeat_failed = True

    def log_to_file(self) -> None:
        """Send the log of this process to `logs/controller.log` as well. Raises UserError where it cannot be opened."""
        path = self.path / "logs" / "controller.log"
        try:
            self._handler = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path} could not be opened: {error.strerror or error}") from None
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(self._handler)
        log.setLevel(logging.INFO)
        log.propagate = False

    def _close_log(self) -> None:
        if self._handler is not None:
            log.removeHandler(self._handler)
            self._handler.close()
            self._handler = None


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of the run folder `folder`, None if there is none."""
    steps = steps_of(folder / "checkpoints")
    return folder_of(folder / "checkpoints", steps[-1]) if steps else None


def read_json(path: Path) -> Any | None:
    """What a JSON file holds; None if there is no such file. Raises UserError if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is not JSON") from None

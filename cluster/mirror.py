"""A run's checkpoints in a second place as well: a bucket, another disk, whatever fsspec has a URL for.

Invariants: training never waits for a copy, except at its end; a checkpoint there counts once its last file is there, and that goes up last and is the first to
be taken away; what is kept there is what is kept here; a failure is told and ends nothing, the next checkpoint tries again.
"""

from __future__ import annotations

import contextlib
import fnmatch
import logging
import queue
import shutil
import threading
from pathlib import Path
from typing import Any

import fsspec

from executor.errors import UserError
from learner.checkpoint_folder import COMPLETE, folder_of, steps_of

log = logging.getLogger("cupel")

# What a run goes on from, beside a checkpoint.
SMALL_FILES = ("config.yaml", "metrics.jsonl", "best.json", "evaluation_*.json")


class Mirror:
    """The copy of one run folder below `url`."""

    def __init__(self, url: str, run_folder: Path) -> None:
        """Raises UserError for a URL that cannot be used here."""
        self.place = f"{url.rstrip('/')}/{run_folder.name}"
        self._here = run_folder
        self._system, self._there = _opened(self.place)
        self._asked: queue.Queue[None] = queue.Queue(maxsize=1)  # whatever is asked for, a copy takes all there is
        self._thread = threading.Thread(
            target=self._run, name="cupel-mirror", daemon=True
        )  # a run may end before a hung store

    def follow(self) -> None:
        """Have what is new copied; returns at once."""
        if self._thread.ident is None:
            self._thread.start()
        with contextlib.suppress(queue.Full):
            self._asked.put_nowait(None)

    def settle(self, seconds: float) -> None:
        """Wait until all is copied that was asked for, so long at most."""
        done = self._asked.all_tasks_done
        with done:
            if self._asked.unfinished_tasks:
                log.info("copying to %s", self.place)
            if not done.wait_for(lambda: not self._asked.unfinished_tasks, seconds):
                log.warning("not all is at %s after %.0f s; it is in %s", self.place, seconds, self._here)

    def _run(self) -> None:
        while True:
            self._asked.get()
            try:
                self.copy()
            except Exception as error:  # each store has errors of its own
                log.warning(
                    "not copied to %s (%s: %s); the next checkpoint tries again",
                    self.place,
                    type(error).__name__,
                    error,
                )
            finally:
                self._asked.task_done()

    def copy(self) -> None:
        """Make the place hold what the run folder holds of checkpoints and small files."""
        checkpoints = self._here / "checkpoints"
        self._system.makedirs(f"{self._there}/checkpoints", exist_ok=True)
        there = _complete(self._system, self._there)
        for step in reversed(steps_of(checkpoints)):
            if step not in there:
                self._upload(folder_of(checkpoints, step))
        for path in self._here.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in SMALL_FILES):
                self._system.put_file(str(path), f"{self._there}/{path.name}")
        kept = {folder_of(checkpoints, step).name for step in steps_of(checkpoints)}
        for path in self._system.ls(f"{self._there}/checkpoints", detail=False):
            if path.rstrip("/").rpartition("/")[2] not in kept:  # what came there only in part among them
                self._remove(path.rstrip("/"))

    def _upload(self, checkpoint: Path) -> None:
        target = f"{self._there}/checkpoints/{checkpoint.name}"
        try:
            for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
                name = path.relative_to(checkpoint)
                if name != COMPLETE:
                    self._put(path, f"{target}/{name.as_posix()}")
            self._put(checkpoint / COMPLETE, f"{target}/{COMPLETE.as_posix()}")
        except FileNotFoundError:
            if checkpoint.exists():
                raise
            self._remove(target)  # it was too old to be kept before it was copied

    def _put(self, path: Path, target: str) -> None:
        self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._system.put_file(str(path), target)

    def _remove(self, target: str) -> None:
        if self._system.exists(f"{target}/{COMPLETE.as_posix()}"):
            self._system.rm_file(f"{target}/{COMPLETE.as_posix()}")
        if self._system.exists(target):
            self._system.rm(target, recursive=True)


def check(url: str | None) -> None:
    """Raises UserError where fsspec lacks what the URL asks for."""
    if url is not None:
        _opened(url)


def is_url(text: str) -> bool:
    """Whether a run is named by where its copy is."""
    return "://" in text


def fetch(url: str, directory: Path) -> Path:
    """Make a run folder below `directory` from the copy at `url`, with its newest complete checkpoint.

    Raises UserError where there is no copy, or the run folder is there already.
    """
    system, there = _opened(url.rstrip("/"))
    target = directory.expanduser() / there.rpartition("/")[2]
    if target.exists():
        raise UserError(
            f"{target} is there already: cupel train --resume {target}, or another run.directory for the copy"
        )
    try:
        steps = _complete(system, there)
        if not steps or not system.exists(f"{there}/config.yaml"):
            raise UserError(f"{url}: there is no run with a complete checkpoint")
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        (part / "checkpoints").mkdir(parents=True, exist_ok=True)
        for path in system.ls(there, detail=False):
            name = path.rstrip("/").rpartition("/")[2]
            if any(fnmatch.fnmatch(name, pattern) for pattern in SMALL_FILES):
                system.get_file(path, str(part / name))
        checkpoint = f"{there}/checkpoints/step_{steps[-1]}"
        for path in system.find(checkpoint):
            file = folder_of(part / "checkpoints", steps[-1]) / path.removeprefix(checkpoint).lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(file))
        part.rename(target)
    except UserError:
        raise
    except Exception as error:  # each store has errors of its own
        raise UserError(f"{url} could not be fetched to {target}: {type(error).__name__}: {error}") from error
    return target


def _opened(url: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UserError(f"{url}: {error}") from None


def _complete(system: Any, there: str) -> list[int]:
    """Steps whose checkpoints are whole there, oldest first."""
    found = [path.rsplit("/", 3)[-3] for path in system.glob(f"{there}/checkpoints/step_*/{COMPLETE.as_posix()}")]
    return sorted(int(name.removeprefix("step_")) for name in found if name.removeprefix("step_").isdigit())

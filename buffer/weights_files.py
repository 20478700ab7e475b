"""Weights as files in a machine's shared memory: what the learner lays out for the engines of its own machine, and an actor for its engine elsewhere.

Invariants: a reader sees a file whole or not at all; at most two versions of a process lie in memory at a time; files of processes that no longer
live are removed by the next one that starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

ROOT = Path("/dev/shm")
PREFIX = "cupel-weights-"


class WeightsFiles:
    """Those of this process."""

    def __init__(self) -> None:
        _remove_orphans()
        self._folder = ROOT / f"{PREFIX}{os.getpid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def add(self, policy_version: int, write: Callable[[Path], object]) -> Path:
        """The file that `write` makes at the path it is given; older versions but one go. What `write` raises leaves nothing behind."""
        for old in self._folder.glob("*.safetensors"):
            if int(old.stem) < policy_version - 1:
                old.unlink()
        path = self.path(policy_version)
        temporary = path.with_suffix(".part")
        try:
            write(temporary)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def path(self, policy_version: int) -> Path:
        """Where the weights of that version are, or would be."""
        return self._folder / f"{policy_version}.safetensors"

    def close(self) -> None:
        """Give the memory back."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _remove_orphans() -> None:
    for folder in ROOT.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX)
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)

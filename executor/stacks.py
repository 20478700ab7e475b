"""Where an actor's process is and where its threads are: the stacks are written by the process itself when a signal asks for it, also while it
computes or hangs.

Invariants: only processes that have said that they can be asked are signalled, since the signal ends any other; a file tells of one process, and
goes with it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import IO

import psutil

SIGNAL = signal.SIGUSR2
WRITE_S = 2.0  # a process that is stopped or swapped out writes nothing
_kept_open: list[IO[str]] = []


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"cupel-stacks-{os.getuid()}"


def be_askable() -> None:
    """Let `stacks_of` ask this process from now on."""
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    for file in folder.glob("*.txt"):
        if not psutil.pid_exists(int(file.stem)):
            file.unlink(missing_ok=True)
    if not _kept_open:
        file = _file(os.getpid()).open("w")
        _kept_open.append(file)
        faulthandler.register(SIGNAL, file=file, all_threads=True)


def place() -> tuple[str, int]:
    """The id of Ray's node that this process is on, and its process id; it can be asked for its stacks from now on."""
    import ray

    be_askable()
    return ray.get_runtime_context().get_node_id(), os.getpid()


def stacks_of(pid: int, wait_s: float = WRITE_S) -> str:
    """The stacks of the process and of those of its children that can be asked, or a line on why there are none."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return f"process {pid} is gone\n"
    askable = [one.pid for one in family if _file(one.pid).exists()]
    return "".join(_one(one, wait_s) for one in askable) or f"process {pid} cannot be asked\n"


def _file(pid: int) -> Path:
    return _folder() / f"{pid}.txt"


def _one(pid: int, wait_s: float) -> str:
    path = _file(pid)
    before = path.stat().st_size
    os.kill(pid, SIGNAL)
    deadline = time.monotonic() + wait_s
    size = before
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = path.stat().st_size
        if now == size > before:
            break
        size = now
    text = path.read_text(errors="replace")[before:]
    return f"process {pid}:\n{text}" if text else f"process {pid} has not answered within {wait_s:.0f} s\n"

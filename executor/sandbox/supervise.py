"""Watch the processes of one test: feed and drain their pipes together, hold them to their limits.

Invariants: CPU time decides, wall time is the backstop; output beyond its cap ends the test; nothing waits for a pipe
to end once the main process is dead; at most cap + 64 KiB of any pipe is ever held.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass, field
from typing import Literal

from executor.sandbox.process import Process

_CHUNK = 1 << 16
_ANSWER_S = 0.1
WHERE_SIGNAL = 41
"""At which a process of ours tells where it is; a real-time signal that nothing else uses. languages/python_child.py has the other end."""
_CORES = os.cpu_count() or 1
Reason = Literal["exited", "cpu", "wall", "output"]


@dataclass
class Watched:
    """What to watch: processes (the first is the main one), what to write where, and how much to read whence."""

    processes: list[Process]
    writes: dict[int, bytes] = field(default_factory=dict)
    reads: dict[int, int] = field(default_factory=dict)
    asked: tuple[Process, int] | None = None
    """Who is asked where it is when its time is up, and the descriptor among `reads` on which it tells."""


@dataclass
class Seen:
    """What was seen: why the watch ended, what was read from each descriptor, who was dead by then, wall seconds."""

    reason: Reason
    read: dict[int, bytearray]
    dead: set[Process]
    wall_s: float


def watch(watched: Watched, cpu_limit_s: float, wall_limit_s: float) -> Seen:
    """Watch until the main process is dead or a limit is reached; descriptors stay open, processes may live on."""
    start = time.monotonic()
    deadline = start + wall_limit_s
    ends = {process.fd: process for process in watched.processes}
    poller = select.poll()
    writes = {fd: memoryview(data) for fd, data in watched.writes.items()}
    read = {fd: bytearray() for fd in watched.reads}
    dead: set[Process] = set()
    reason: Reason | None = None
    for fd in [*writes, *read]:
        os.set_blocking(fd, False)
    for fd in writes:
        poller.register(fd, select.POLLOUT)
    for fd in [*read, *ends]:
        poller.register(fd, select.POLLIN)

    while reason is None:
        now = time.monotonic()
        used = max((cpu_seconds(p.pid) for p in watched.processes if p not in dead), default=0.0)
        if used > cpu_limit_s:
            reason = "cpu"
            break
        if now >= deadline:
            reason = "wall"
            break
        # The limit cannot be reached sooner than this, however many threads there are.
        patience = min(deadline - now, max(0.004, (cpu_limit_s - used) / _CORES + 0.001), 1.0)
        for fd, _ in poller.poll(patience * 1000):
            if fd in ends:
                dead.add(ends[fd])
                poller.unregister(fd)
            elif fd in writes:
                writes[fd] = _write(fd, writes[fd])
                if not writes[fd]:
                    poller.unregister(fd)
                    os.close(fd)
                    del writes[fd], watched.writes[fd]
            elif not _read(fd, read[fd]):
                poller.unregister(fd)
            elif len(read[fd]) > watched.reads[fd]:
                reason = "output"
        if watched.processes[0] in dead:
            reason = reason or "exited"

    if reason in ("cpu", "wall") and watched.asked is not None:
        _ask(*watched.asked, read)
    if reason == "exited":
        for fd in read:  # what was written before the end is in the pipe
            while len(read[fd]) <= watched.reads[fd] and _read(fd, read[fd]):
                pass
            if len(read[fd]) > watched.reads[fd]:
                reason = "output"
    return Seen(reason, read, dead, time.monotonic() - start)


def _ask(process: Process, fd: int, read: dict[int, bytearray]) -> None:
    """Have a process tell where it is; one that does not answer at once is not waited for."""
    try:
        signal.pidfd_send_signal(process.fd, WHERE_SIGNAL)
    except OSError:
        return
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + _ANSWER_S
    while (left := deadline - time.monotonic()) > 0 and b"\n\n" not in read[fd][-2:]:
        if not poller.poll(left * 1000) or not _read(fd, read[fd]) or len(read[fd]) > _CHUNK:
            return


def _write(fd: int, data: memoryview) -> memoryview:
    try:
        return data[os.write(fd, data[:_CHUNK]) :] if data else data
    except BlockingIOError:
        return data
    except OSError:  # nobody reads: not an error of anybody's
        return memoryview(b"")


def _read(fd: int, into: bytearray) -> bool:
    """Whether something was read."""
    try:
        piece = os.read(fd, _CHUNK)
    except (BlockingIOError, OSError):
        return False
    into += piece
    return bool(piece)


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a living process and its threads have used; 0 for one that is gone."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0

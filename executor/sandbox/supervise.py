"""Watch the processes of one test: feed and drain their pipes together, hold them to their limits.

Invariants: CPU time decides; wall time is the backstop, and the time that processes were ready and had to wait for a core does not count, up
to PATIENCE times the limit, so that a loaded machine changes no verdict; output beyond its cap ends the test; nothing waits for a pipe
to end once the main process is dead; at most cap + 64 KiB of any pipe is ever held.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Literal

from executor.sandbox.process import Process

_CHUNK = 1 << 16
_ANSWER_S, _QUIET_S = 0.5, 0.005
_EARLY_MS = 5
WHERE_SIGNAL = 41
"""At which a process of ours tells where it is; a real-time signal that nothing else uses. languages/python_child.py has the other end."""
PATIENCE = 4.0
"""Times its wall limit that a test may take on a machine too busy to run it."""
_CORES = os.cpu_count() or 1
Reason = Literal["answered", "exited", "cpu", "wall", "output"]


class Watch:
    """Some processes, of which the first is the main one, and our ends of their pipes."""

    def __init__(self, processes: list[Process], over: int, open_ends: set[int]) -> None:
        """`over` can be read when the main process is dead and all others ended. `open_ends` are our ends of all pipes; those closed here, all of
        their bytes written, are taken out."""
        self.over = False
        self._dead: set[Process] = set()
        self.read: dict[int, bytearray] = {}
        self._open_ends = open_ends
        self._processes = processes
        self._caps: dict[int, int] = {}
        self._writes: dict[int, memoryview] = {}
        self._kept: set[int] = set()
        self._unheard: list[int] = []
        self._over = over
        self._ends = {process.fd: process for process in processes[1:]}
        self._poller = select.poll()
        for fd in (over, *self._ends):
            self._poller.register(fd, select.POLLIN)

    def feed(self, fd: int, data: bytes, keep_open: bool = False) -> None:
        """Write `data` to a pipe as far as it is read, then close it, unless it is to be kept for more."""
        os.set_blocking(fd, False)
        if keep_open:
            self._kept.add(fd)
        # Most of what is written fits into the pipe at once.
        self._written(fd, _write(fd, memoryview(data)), fresh=True)

    def _written(self, fd: int, left: memoryview, fresh: bool) -> None:
        if left:
            self._writes[fd] = left
            if fresh:
                self._poller.register(fd, select.POLLOUT)
            return
        if not fresh:
            self._poller.unregister(fd)
            del self._writes[fd]
        if fd not in self._kept:
            self._open_ends.discard(fd)
            os.close(fd)

    def listen(self, fd: int, cap: int) -> None:
        """Read from a pipe, at most `cap` bytes."""
        os.set_blocking(fd, False)
        self.read[fd], self._caps[fd] = bytearray(), cap
        self._unheard.append(fd)

    def run(self, cpu_limit_s: float, wall_limit_s: float, answered: Callable[[], bool] | None = None) -> Reason:
        """Watch until the main process is dead, a limit is reached, or `answered` says that what was asked is there.

        The CPU limit is of each process since its start. Descriptors stay open, processes may live on.
        """
        start = time.monotonic()
        deadline = start + wall_limit_s
        reason: Reason | None = self._early() if answered is None else None
        for fd in self._unheard:
            self._poller.register(fd, select.POLLIN)
        self._unheard.clear()
        while reason is None:
            now = time.monotonic()
            used = max((cpu_seconds(p.pid) for p in self._processes if p not in self._dead), default=0.0)
            if used > cpu_limit_s:
                reason = "cpu"
            elif now >= deadline:
                deadline = start + min(wall_limit_s + self._waited_s(), PATIENCE * wall_limit_s)
                reason = "wall" if now >= deadline else None
            else:
                # The limit cannot be reached sooner than this, however many threads there are.
                patience = min(deadline - now, max(0.004, (cpu_limit_s - used) / _CORES + 0.001), 1.0)
                reason = self._step(patience, answered)
        if reason == "exited":
            self._drain()
            if any(len(data) > self._caps[fd] for fd, data in self.read.items()):
                reason = "output"
        return reason

    def _early(self) -> Reason | None:
        """Most tests are over before their pipes could fill, and waking up for each of those would take longer than they do."""
        if self._writes:
            return None
        poller = select.poll()
        poller.register(self._over, select.POLLIN)
        self.over = bool(poller.poll(_EARLY_MS))
        return "exited" if self.over else None

    def _waited_s(self) -> float:
        return sum(waited_seconds(p.pid) for p in self._processes if p not in self._dead)

    def _step(self, patience_s: float, answered: Callable[[], bool] | None) -> Reason | None:
        reason: Reason | None = None
        for fd, _ in self._poller.poll(patience_s * 1000):
            if fd == self._over:
                self.over = True
            elif fd in self._ends:
                self._dead.add(self._ends[fd])
                self._poller.unregister(fd)
            elif fd in self._writes:
                self._written(fd, _write(fd, self._writes[fd]), fresh=False)
            elif not _read(fd, self.read[fd]):
                self._poller.unregister(fd)
            elif len(self.read[fd]) > self._caps[fd]:
                reason = "output"
        if reason is None and answered is not None and answered():
            return "answered"
        return reason or ("exited" if self.over else None)

    def _drain(self) -> None:
        """What was written before the end is in the pipes."""
        for fd, data in self.read.items():
            while len(data) <= self._caps[fd] and _read(fd, data):
                pass

    def ask_where(self, process: Process, fd: int) -> None:
        """Have a process tell on `fd` where it is; one that does not answer at once is not waited for."""
        try:
            signal.pidfd_send_signal(process.fd, WHERE_SIGNAL)
        except OSError:
            return
        data = self.read[fd]
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        patience_s = _ANSWER_S
        while len(data) <= self._caps[fd] and poller.poll(patience_s * 1000) and _read(fd, data):
            patience_s = _QUIET_S


def _write(fd: int, data: memoryview) -> memoryview:
    """What could not be written yet."""
    try:
        while data:
            data = data[os.write(fd, data[:_CHUNK]) :]
    except BlockingIOError:
        pass
    except OSError:  # nobody reads: not an error of anybody's
        return memoryview(b"")
    return data


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


def waited_seconds(pid: int) -> float:
    """Seconds that a living process's main thread has been ready to run and had no core; 0 where the kernel does not tell."""
    try:
        return int(_told(pid, "schedstat").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def peak_bytes(pid: int) -> int:
    """The most memory that a living process has had at a time; 0 for one that is gone."""
    try:
        return int(_told(pid, "status").partition(b"VmHWM:")[2].split(None, 1)[0]) << 10
    except (OSError, IndexError):
        return 0


def _told(pid: int, name: str) -> bytes:
    """A file of /proc, which takes half as long without Python's file objects."""
    fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 14)
    finally:
        os.close(fd)

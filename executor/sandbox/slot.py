"""One place where one test runs at a time: a zygote, the users of its level, a fresh scratch folder a test.

Invariants: after `run` no process, descriptor or file of the test is left, whatever became of it; a slot whose
machinery failed raises SandboxLost and starts anew at its next use.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from executor.languages import wire
from executor.languages.interpreter import Interpreter
from executor.sandbox.level import Isolation
from executor.sandbox.process import End, SandboxLost, Zygote
from executor.sandbox.scratch import remove
from executor.sandbox.supervise import Reason, Watched, watch

_FILE_BYTES = 64 << 20
_OPEN_FILES = 256
_STACK_BYTES = 512 << 20
_STDERR_KEPT = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one test may use: CPU seconds, wall seconds, bytes of memory, bytes on any one channel."""

    cpu_s: float
    wall_s: float
    memory_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Part:
    """One process of a test: what it is told, and what is on its standard input."""

    control: bytes
    stdin: bytes = b""


@dataclass(frozen=True)
class Ran:
    """What one process did."""

    end: End
    by_itself: bool
    """False if we killed it."""
    stdout: bytes
    stderr: bytes
    report: bytes


@dataclass(frozen=True)
class Run:
    """What became of a test's processes."""

    reason: Reason
    program: Ran
    tester: Ran | None
    rest_cpu_s: float
    """CPU seconds of processes that the program left behind."""
    wall_s: float


class _Pipes:
    """The pipes of one test: the ends that its processes get, and ours."""

    def __init__(self) -> None:
        self.theirs: set[int] = set()
        self.ours: set[int] = set()

    def to_them(self) -> tuple[int, int]:
        """(their end, ours): we write."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self.theirs.add(read)
        self.ours.add(write)
        return read, write

    def from_them(self) -> tuple[int, int]:
        """(their end, ours): we read."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self.theirs.add(write)
        self.ours.add(read)
        return write, read

    def between(self) -> tuple[int, int]:
        """(read end, write end), both theirs."""
        ends = os.pipe2(os.O_CLOEXEC)
        self.theirs.update(ends)
        return ends

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())


class Slot:
    """One sandbox, used by one thread at a time."""

    def __init__(self, interpreter: Interpreter, isolation: Isolation, base: str, number: int) -> None:
        self._interpreter, self._isolation = interpreter, isolation
        self._base, self._number, self._tests = base, number, 0
        self._zygote: Zygote | None = None
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    @property
    def level(self) -> str:
        """Name of the level of isolation."""
        return self._isolation.level

    def run(self, program: Part, tester: Part | None, limits: Limits) -> Run:
        """Run one test to its end or its limit. Raises SandboxLost."""
        zygote = self._ready()
        self._tests += 1
        scratch = f"{self._base}/s{self._number}t{self._tests}"
        pipes = _Pipes()
        try:
            os.mkdir(scratch, 0o700)
            self._isolation.own(scratch)
            run = self._run(zygote, scratch, pipes, program, tester, limits)
            remove(scratch)
            self._isolation.clean()
            return run
        except BaseException as error:  # an interrupt, too, leaves the zygote with a test that nobody waits for
            self._start_anew(scratch)
            if isinstance(error, SandboxLost | OSError):
                raise SandboxLost(str(error)) from error
            raise
        finally:
            pipes.close()

    def _start_anew(self, scratch: str) -> None:
        """A new zygote at once, since it also ends what the old one may have left alive."""
        if self._zygote is not None:
            self._zygote.kill()
            self._zygote = None
        try:
            self._ready()
            remove(scratch)
            self._isolation.clean()
        except (SandboxLost, OSError):
            pass  # the next test tries again; the folder goes with the base at the end

    def _ready(self) -> Zygote:
        if self._zygote is None or not self._zygote.alive:
            if self._zygote is not None:
                self._zygote.kill()
            self._zygote = Zygote(self._interpreter)
            if self._isolation.users is not None:
                self._zygote.purge(list(self._isolation.users))
        return self._zygote

    def _run(
        self, zygote: Zygote, scratch: str, pipes: _Pipes, program: Part, tester: Part | None, limits: Limits
    ) -> Run:
        rlimits = [
            ("RLIMIT_AS", zygote.base_bytes + limits.memory_bytes),
            ("RLIMIT_CPU", math.ceil(limits.cpu_s) + 1),
            ("RLIMIT_FSIZE", _FILE_BYTES),
            ("RLIMIT_NOFILE", _OPEN_FILES),
            ("RLIMIT_STACK", min(_STACK_BYTES, limits.memory_bytes)),
            ("RLIMIT_CORE", 0),
            *self._isolation.limits(),
        ]
        users = self._isolation.users or (None, None)
        watched = Watched([])
        stdin, stdin_end = pipes.to_them()
        stdout, stdout_end = pipes.from_them()
        stderr, stderr_end = pipes.from_them()
        for fd in (stdin, stdout, stderr):
            self._isolation.own_pipe(fd)
        control, control_end = pipes.to_them()
        report, report_end = pipes.from_them()
        watched.writes = {stdin_end: program.stdin, control_end: wire.frame(program.control)}
        watched.reads = {
            stdout_end: limits.output_bytes,
            stderr_end: limits.output_bytes,
            report_end: limits.output_bytes + _STDERR_KEPT,
        }
        fds = [stdin, stdout, stderr, control, report]
        tester_report_end = -1
        if tester is None:
            watched.pids = [zygote.spawn(fds, scratch, users[0], rlimits)]
        else:
            calls_in, asks_out = pipes.between()
            asks_in, calls_out = pipes.between()
            tester_control, tester_control_end = pipes.to_them()
            tester_report, tester_report_end = pipes.from_them()
            watched.writes[tester_control_end] = wire.frame(tester.control)
            watched.reads[tester_report_end] = limits.output_bytes
            pid = zygote.spawn([*fds, calls_in, calls_out], scratch, users[0], rlimits)
            tester_fds = [self._null, self._null, self._null, tester_control, tester_report, asks_in, asks_out]
            watched.pids = [zygote.spawn(tester_fds, self._base, users[1], rlimits), pid]
        pipes.close_theirs()
        before = set(watched.writes)
        try:
            seen = watch(watched, limits.cpu_s, limits.wall_s)
        finally:
            pipes.ours -= before - set(watched.writes)
        ends, rest = zygote.finish()

        def ran(pid: int, out: int | None, err: int | None, rep: int) -> Ran:
            stdout = bytes(seen.read[out]) if out is not None else b""
            stderr = bytes(seen.read[err][-_STDERR_KEPT:]) if err is not None else b""
            by_itself = pid in seen.dead or ends[pid].signal != 9
            return Ran(ends[pid], by_itself, stdout, stderr, bytes(seen.read[rep]))

        program_ran = ran(watched.pids[-1], stdout_end, stderr_end, report_end)
        tester_ran = None if tester is None else ran(watched.pids[0], None, None, tester_report_end)
        return Run(seen.reason, program_ran, tester_ran, rest, seen.wall_s)

    def close(self) -> None:
        """End everything."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        self._isolation.close()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

"""One place where one test runs at a time: a zygote, what its level of isolation holds, a fresh scratch folder a test.

Invariants: after `run` no process, descriptor or file of the test is left, whatever became of it; a slot whose
machinery failed raises SandboxLost and starts anew at its next use.
"""

from __future__ import annotations

import math
import os
import signal
from dataclasses import dataclass

from executor.languages import wire
from executor.languages.interpreter import Interpreter
from executor.languages.packages import Packages
from executor.sandbox import namespaces
from executor.sandbox.level import Isolation
from executor.sandbox.process import End, Process, SandboxLost, Zygote
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
    source: str = ""
    """The program, for what it may import."""


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
    out_of_memory: bool = False
    """Whether the kernel killed a process of it for memory."""


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

    def hold(self, process: Process) -> Process:
        """Close the process's descriptor with ours."""
        self.ours.add(process.fd)
        return process

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())


class Slot:
    """One sandbox, used by one thread at a time."""

    def __init__(
        self, interpreter: Interpreter, isolation: Isolation, base: str, number: int, packages: Packages | None = None
    ) -> None:
        self._interpreter, self._isolation, self._packages = interpreter, isolation, packages
        self._base, self._number, self._tests = base, number, 0
        # The bare one, and one with the packages loaded; each is started when the first program needs it.
        self._zygotes: dict[bool, Zygote] = {}
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def run(self, program: Part, tester: Part | None, limits: Limits) -> Run:
        """Run one test to its end or its limit. Raises SandboxLost."""
        loaded = self._packages is not None and self._packages.mentioned_in(program.source)
        zygote = self._ready(loaded)
        pipes = _Pipes()
        try:
            scratch = self._make_scratch(loaded)
            run = self._run(zygote, scratch, pipes, program, tester, limits)
            self._clean(scratch)
            return run
        except BaseException as error:  # an interrupt, too, leaves the zygote with a test that nobody waits for
            self._start_anew(loaded)
            if isinstance(error, SandboxLost | OSError):
                raise SandboxLost(str(error)) from error
            raise
        finally:
            pipes.close()

    def _folder(self, loaded: bool) -> str:
        return f"{self._base}/s{self._number}{'p' if loaded else ''}"

    def _make_scratch(self, loaded: bool) -> str:
        """An empty folder for one test: the path at which the program sees it."""
        if self._isolation.scratch_inside:
            return namespaces.SCRATCH
        self._tests += 1
        scratch = f"{self._folder(loaded)}/t{self._tests}"
        os.mkdir(scratch, 0o700)
        if self._isolation.users is not None:
            self._isolation.users.own(scratch)
        return scratch

    def _clean(self, scratch: str) -> None:
        if not self._isolation.scratch_inside:
            remove(scratch)
        if self._isolation.leaves_traces and self._isolation.users is not None:
            self._isolation.users.clean()

    def _start_anew(self, loaded: bool) -> None:
        """A new zygote at once, since it also ends what the old one may have left alive."""
        self._end_zygote(loaded)
        try:
            self._ready(loaded)
        except (SandboxLost, OSError):
            pass  # the next test tries again; the folder goes with the base at the end

    def _end_zygote(self, loaded: bool) -> None:
        zygote = self._zygotes.pop(loaded, None)
        if zygote is not None:
            zygote.kill()

    def _ready(self, loaded: bool) -> Zygote:
        zygote = self._zygotes.get(loaded)
        if zygote is not None and zygote.alive:
            return zygote
        self._end_zygote(loaded)
        folder, users = self._folder(loaded), self._isolation.users
        remove(folder)
        os.mkdir(folder, 0o711)
        setup = self._isolation.setup(folder, self._packages if loaded else None)
        zygote = self._zygotes[loaded] = Zygote(self._interpreter, setup, self._isolation.group)
        if users is not None:
            zygote.purge([users.program, users.tester])
            users.clean()
        return zygote

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
        ]
        users, group = self._isolation.users, self._isolation.group
        if users is not None:
            rlimits += users.limits()
        if group is not None:
            group.limit(limits.memory_bytes)
        program_user, tester_user = (None, None) if users is None else (users.program, users.tester)
        watched = Watched([])
        stdin, stdin_end = pipes.to_them()
        stdout, stdout_end = pipes.from_them()
        stderr, stderr_end = pipes.from_them()
        for fd in (stdin, stdout, stderr):
            if users is not None:
                users.own_pipe(fd)
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
            watched.processes = [pipes.hold(zygote.spawn(fds, scratch, program_user, rlimits))]
        else:
            calls_in, asks_out = pipes.between()
            asks_in, calls_out = pipes.between()
            tester_control, tester_control_end = pipes.to_them()
            tester_report, tester_report_end = pipes.from_them()
            watched.writes[tester_control_end] = wire.frame(tester.control)
            watched.reads[tester_report_end] = limits.output_bytes
            solution = pipes.hold(zygote.spawn([*fds, calls_in, calls_out], scratch, program_user, rlimits))
            tester_fds = [self._null, self._null, self._null, tester_control, tester_report, asks_in, asks_out]
            watched.processes = [pipes.hold(zygote.spawn(tester_fds, None, tester_user, rlimits)), solution]
        watched.asked = (watched.processes[-1], report_end)
        pipes.close_theirs()
        before = set(watched.writes)
        try:
            seen = watch(watched, limits.cpu_s, limits.wall_s)
        finally:
            pipes.ours -= before - set(watched.writes)
        ends, rest = zygote.finish()

        def ran(process: Process, out: int | None, err: int | None, rep: int) -> Ran:
            stdout = bytes(seen.read[out]) if out is not None else b""
            stderr = bytes(seen.read[err][-_STDERR_KEPT:]) if err is not None else b""
            end = ends[process.number]
            by_itself = process in seen.dead or end.signal != signal.SIGKILL
            return Ran(end, by_itself, stdout, stderr, bytes(seen.read[rep]))

        program_ran = ran(watched.processes[-1], stdout_end, stderr_end, report_end)
        tester_ran = None if tester is None else ran(watched.processes[0], None, None, tester_report_end)
        killed = any(end.signal == signal.SIGKILL for end in ends.values())
        out_of_memory = killed and group is not None and group.out_of_memory()
        return Run(seen.reason, program_ran, tester_ran, rest, seen.wall_s, out_of_memory)

    def close(self) -> None:
        """End everything."""
        for loaded, zygote in self._zygotes.items():
            zygote.close()
            remove(self._folder(loaded))
        self._zygotes = {}
        self._isolation.close()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

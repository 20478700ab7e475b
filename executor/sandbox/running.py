"""What runs of one test: its pipes and its processes, from their start to their end.

Invariants: every descriptor that is opened here is closed by `end`, or by whatever goes wrong; what is read stays under
its cap; a failure of our own machinery is SandboxLost, after the slot has started anew.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from executor.languages import wire
from executor.sandbox.level import Isolation
from executor.sandbox.process import End, Process, SandboxLost, Zygote
from executor.sandbox.supervise import Reason, Watch, cpu_seconds, peak_bytes

_STACK_BYTES = 512 << 20
_STDERR_KEPT = 1 << 16
_SPOILED = 1 << 62  # more answers than anybody waits for: what comes after this can never be read


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
    """The program or the test code, for what it may import."""


@dataclass(frozen=True)
class Ran:
    """What one process did."""

    end: End
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
    out_of_memory: bool
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


class Running:
    """The processes of one test, or of one program that is asked several times, from their start to their end."""

    def __init__(self, clean: Callable[[str], None], start_anew: Callable[[], None]) -> None:
        """`clean` removes what was left in a scratch folder; `start_anew` replaces a zygote that cannot be trusted."""
        self._clean, self._start_anew, self._pipes = clean, start_anew, _Pipes()
        self._reason: Reason = "exited"
        self.reports: list[bytes] = []
        """What the program's process has reported so far, frame by frame, while it is asked; without what it told on the side."""
        self.reported_bytes = 0

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever goes wrong in our own machinery ends the processes and renews the slot. Raises SandboxLost for it."""
        try:
            yield
        except BaseException as error:  # an interrupt, too, leaves the zygote with a test that nobody waits for
            self._pipes.close()
            self._start_anew()
            if isinstance(error, SandboxLost | OSError):
                raise SandboxLost(str(error)) from error
            raise

    def begin(
        self,
        zygote: Zygote,
        scratch: str,
        isolation: Isolation,
        program: Part,
        tester: Part | None,
        limits: Limits,
        calls: int,
        null: int,
    ) -> None:
        """Make the pipes and the processes; `null` is open on /dev/null."""
        self._zygote, self._scratch, self._group = zygote, scratch, isolation.group
        pipes, users = self._pipes, isolation.users
        rlimits = [
            ("RLIMIT_AS", zygote.base_bytes + limits.memory_bytes),
            ("RLIMIT_CPU", math.ceil(limits.cpu_s * max(1, calls)) + 1),
            ("RLIMIT_STACK", min(_STACK_BYTES, limits.memory_bytes)),
        ]
        if self._group is not None:
            self._group.limit(limits.memory_bytes)
        program_user, tester_user = (None, None) if users is None else (users.program, users.tester)
        stdin, stdin_end = pipes.to_them()
        stdout, self._stdout = pipes.from_them()
        stderr, self._stderr = pipes.from_them()
        for fd in (stdin, stdout, stderr):
            if users is not None:
                users.own_pipe(fd)
        control, self._control = pipes.to_them()
        report, self._report = pipes.from_them()
        fds = [stdin, stdout, stderr, control, report]
        tester_control_end = self._tester_report = -1
        if tester is None:
            processes = [pipes.hold(zygote.spawn(fds, scratch, program_user, rlimits, main=True))]
        else:
            calls_in, asks_out = pipes.between()
            asks_in, calls_out = pipes.between()
            tester_control, tester_control_end = pipes.to_them()
            tester_report, self._tester_report = pipes.from_them()
            solution = pipes.hold(zygote.spawn([*fds, calls_in, calls_out], scratch, program_user, rlimits, main=False))
            tester_fds = [null, null, null, tester_control, tester_report, asks_in, asks_out]
            processes = [pipes.hold(zygote.spawn(tester_fds, None, tester_user, rlimits, main=True)), solution]
        pipes.close_theirs()
        self._processes = processes
        watch = self._watch = Watch(processes, zygote.fd, pipes.ours)
        for fd in (self._stdout, self._stderr):
            watch.listen(fd, limits.output_bytes)
        self._report_cap = limits.output_bytes + _STDERR_KEPT
        watch.listen(self._report, self._report_cap)
        watch.feed(stdin_end, program.stdin)
        watch.feed(self._control, wire.frame(program.control), keep_open=calls > 0)
        if tester is not None:
            watch.listen(self._tester_report, limits.output_bytes)
            watch.feed(tester_control_end, wire.frame(tester.control))

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the program's process so far."""
        return cpu_seconds(self._processes[-1].pid)

    @property
    def peak_bytes(self) -> int:
        """The most memory that the program's process has had at a time."""
        return peak_bytes(self._processes[-1].pid)

    def watch(self, cpu_s: float, wall_s: float) -> Reason:
        """Wait for the end of the main process, or for a limit; CPU seconds count from its start."""
        with self.guarded():
            self._reason = self._watch.run(cpu_s, wall_s)
            return self._reason

    def ask(self, request: bytes, answers: int, cpu_s: float, wall_s: float) -> Reason:
        """Send a request and wait until the process has reported `answers` times in all, or for its end or a limit.

        `cpu_s` are CPU seconds in all, since its start.
        """
        with self.guarded():
            for fd in (self._stdout, self._stderr):
                self._watch.read[fd].clear()  # what earlier calls wrote is not this one's
            self._watch.feed(self._control, wire.frame(request), keep_open=True)
            self._reason = self._watch.run(cpu_s, wall_s, lambda: self._count_answers() >= answers)
            return self._reason

    def _count_answers(self) -> int:
        data = self._watch.read[self._report]
        while (end := wire.frame_end(data, self.reported_bytes)) is not None:
            frame = bytes(data[self.reported_bytes + wire.FRAME_HEAD : end])
            if not frame.startswith(wire.ASIDE):
                self.reports.append(frame)
            self.reported_bytes = end
        spoiled = wire.frame_size(data, self.reported_bytes) > self._report_cap
        return _SPOILED if spoiled else len(self.reports)

    def end(self) -> Run:
        """End all of it and say what became of it. Raises SandboxLost."""
        with self.guarded():
            if self._reason in ("cpu", "wall"):
                self._watch.ask_where(self._processes[-1], self._report)
            ends, rest = self._zygote.finish(self._watch.over)
            killed = any(end.signal == signal.SIGKILL for end in ends.values())
            out_of_memory = killed and self._group is not None and self._group.out_of_memory()
            read = self._watch.read

            def ran(process: Process, out: int, err: int, report: int) -> Ran:
                end = ends[process.number]
                stdout, stderr = bytes(read.get(out, b"")), bytes(read.get(err, b"")[-_STDERR_KEPT:])
                return Ran(end, stdout, stderr, bytes(read[report]))

            program = ran(self._processes[-1], self._stdout, self._stderr, self._report)
            tester = None if len(self._processes) == 1 else ran(self._processes[0], -1, -1, self._tester_report)
            self._clean(self._scratch)
        self._pipes.close()
        return Run(self._reason, program, tester, rest, out_of_memory)

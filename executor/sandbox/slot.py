"""One place where one test runs at a time: a zygote, what its level of isolation holds, a fresh scratch folder a test.

Invariants: after `run` no process, descriptor or file of the test is left, whatever became of it; a slot whose
machinery failed raises SandboxLost and starts anew at its next use.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from executor.languages import wire
from executor.languages.interpreter import Interpreter
from executor.languages.packages import Packages
from executor.sandbox import namespaces
from executor.sandbox.level import Isolation
from executor.sandbox.process import End, Process, SandboxLost, Zygote
from executor.sandbox.scratch import remove
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
    """The program, for what it may import."""


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

    def __init__(self, slot: Slot, loaded: bool) -> None:
        self._slot, self._loaded, self._pipes = slot, loaded, _Pipes()
        self._reason: Reason = "exited"
        self._answers, self._scanned = 0, 0

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Whatever goes wrong in our own machinery ends the processes and renews the slot. Raises SandboxLost for it."""
        try:
            yield
        except BaseException as error:  # an interrupt, too, leaves the zygote with a test that nobody waits for
            self._pipes.close()
            self._slot.start_anew(self._loaded)
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
    ) -> None:
        """Make the pipes and the processes."""
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
            null = self._slot.null
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

    @property
    def report(self) -> bytes:
        """What the program's process has reported so far."""
        return bytes(self._watch.read[self._report])

    def watch(self, cpu_s: float, wall_s: float) -> Reason:
        """Wait for the end of the main process, or for a limit; CPU seconds count from its start."""
        with self.guarded():
            self._reason = self._watch.run(cpu_s, wall_s)
            return self._reason

    def ask(self, request: bytes, answers: int, cpu_s: float, wall_s: float) -> Reason:
        """Send a request and wait until the process has reported `answers` times in all, or for its end or a limit."""
        with self.guarded():
            for fd in (self._stdout, self._stderr):
                self._watch.read[fd].clear()  # what earlier calls wrote is not this one's
            self._watch.feed(self._control, wire.frame(request), keep_open=True)
            self._reason = self._watch.run(self.cpu_s + cpu_s, wall_s, lambda: self._count_answers() >= answers)
            return self._reason

    def _count_answers(self) -> int:
        data = self._watch.read[self._report]
        while (end := wire.frame_end(data, self._scanned)) is not None:
            self._answers, self._scanned = self._answers + 1, end
        spoiled = wire.frame_size(data, self._scanned) > self._report_cap
        return _SPOILED if spoiled else self._answers

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
            self._slot.clean(self._scratch)
        self._pipes.close()
        return Run(self._reason, program, tester, rest, out_of_memory)


class Slot:
    """One sandbox, used by one thread at a time."""

    def __init__(
        self, interpreter: Interpreter, isolation: Isolation, base: str, number: int, packages: Packages | None = None
    ) -> None:
        self._interpreter, self._isolation, self._packages = interpreter, isolation, packages
        self._base, self._number = base, number
        self._clean_folders: set[str] = set()
        # The bare one, and one with the packages loaded; each is started when the first program needs it.
        self._zygotes: dict[bool, Zygote] = {}
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def run(self, program: Part, tester: Part | None, limits: Limits) -> Run:
        """Run one test to its end or its limit. Raises SandboxLost."""
        running = self.start(program, tester, limits)
        running.watch(limits.cpu_s, limits.wall_s)
        return running.end()

    def start(self, program: Part, tester: Part | None, limits: Limits, calls: int = 0) -> Running:
        """Start the processes of a test, or of a program that will be asked `calls` times. Raises SandboxLost.

        They have to be ended before the next are started.
        """
        loaded = self._packages is not None and self._packages.mentioned_in(program.source)
        zygote = self._ready(loaded)
        running = Running(self, loaded)
        with running.guarded():
            running.begin(zygote, self._make_scratch(loaded), self._isolation, program, tester, limits, calls)
        return running

    def _folder(self, loaded: bool) -> str:
        return f"{self._base}/s{self._number}{'p' if loaded else ''}"

    def _make_scratch(self, loaded: bool) -> str:
        """An empty folder for one test: the path at which the program sees it."""
        if self._isolation.scratch_inside:
            return namespaces.SCRATCH
        scratch = f"{self._folder(loaded)}/scratch"
        if scratch not in self._clean_folders:
            remove(scratch)
            os.mkdir(scratch, 0o700)
            if self._isolation.users is not None:
                self._isolation.users.own(scratch)
        self._clean_folders.discard(scratch)
        return scratch

    def clean(self, scratch: str) -> None:
        """Remove what a test left. Raises OSError."""
        if not self._isolation.scratch_inside:
            # Where a program can do nothing to the folder itself, an empty one is as good as a fresh one.
            if self._isolation.keeps_scratch and not os.listdir(scratch):
                self._clean_folders.add(scratch)
            else:
                remove(scratch)
        if self._isolation.leaves_traces and self._isolation.users is not None:
            self._isolation.users.clean()

    def start_anew(self, loaded: bool) -> None:
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
        self._clean_folders.clear()
        os.mkdir(folder, 0o711)
        setup = self._isolation.setup(folder, self._packages if loaded else None)
        zygote = self._zygotes[loaded] = Zygote(self._interpreter, setup, self._isolation.group)
        if users is not None:
            zygote.purge([users.program, users.tester])
            users.clean()
        return zygote

    def close(self) -> None:
        """End everything."""
        for loaded, zygote in self._zygotes.items():
            zygote.close()
            remove(self._folder(loaded))
        self._zygotes = {}
        self._isolation.close()
        if self.null >= 0:
            os.close(self.null)
            self.null = -1

"""One place where one test runs at a time: a zygote, what its level of isolation holds, a fresh scratch folder a test.

Invariants: after `run` no process, descriptor or file of the test is left, whatever became of it; a slot whose
machinery failed raises SandboxLost and starts anew at its next use.
"""

from __future__ import annotations

import os
from functools import partial

from executor.languages.interpreter import Interpreter
from executor.languages.packages import Packages
from executor.sandbox import namespaces
from executor.sandbox.level import Isolation
from executor.sandbox.process import SandboxLost, Zygote
from executor.sandbox.running import Limits, Part, Run, Running
from executor.sandbox.scratch import remove


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
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def run(self, program: Part, tester: Part | None, limits: Limits) -> Run:
        """Run one test to its end or its limit. Raises SandboxLost."""
        running = self.start(program, tester, limits)
        running.watch(limits.cpu_s, limits.wall_s)
        return running.end()

    def start(self, program: Part, tester: Part | None, limits: Limits, calls: int = 0) -> Running:
        """Start the processes of a test, or of a program that will be asked `calls` times. Raises SandboxLost.

        They have to be ended before the next are started.
        """
        sources = (program.source, tester.source if tester else "")
        loaded = self._packages is not None and any(map(self._packages.mentioned_in, sources))
        zygote = self._ready(loaded)
        running = Running(self._clean, partial(self._start_anew, loaded))
        with running.guarded():
            scratch = self._make_scratch(loaded)
            running.begin(zygote, scratch, self._isolation, program, tester, limits, calls, self._null)
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

    def _clean(self, scratch: str) -> None:
        """Remove what a test left. Raises OSError."""
        if not self._isolation.scratch_inside:
            # Where a program can do nothing to the folder itself, an empty one is as good as a fresh one.
            if self._isolation.keeps_scratch and not os.listdir(scratch):
                self._clean_folders.add(scratch)
            else:
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
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

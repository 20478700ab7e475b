"""Judge programs: run the tests asked for, compare outside, sum up.

Invariants: `judge` never raises for anything a program does, and gives exactly one verdict; what our own machinery
breaks is tried again, then called infrastructure; at most `slots` tests run at a time, whatever number of threads
ask.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from dataclasses import dataclass
from typing import Literal

from executor.errors import UserError
from executor.languages.base import BrokenTest, Finding, OpenProgram, open_program, refuse
from executor.languages.interpreter import find
from executor.languages.packages import find as find_packages
from executor.problem import Problem, Test
from executor.sandbox.choosing import choose
from executor.sandbox.level import Isolation, LevelName, at_least
from executor.sandbox.process import SandboxLost
from executor.sandbox.running import Limits
from executor.sandbox.scratch import Base
from executor.sandbox.slot import Slot
from executor.settings import ExecutorSettings
from executor.showing import shorten, shown
from executor.verdict import ErrorInfo, Outcome, TestResult, Verdict, aggregate, infrastructure

Tests = Literal["public", "private", "all"]


@dataclass(frozen=True)
class JudgeRequest:
    """One program to judge on some tests of one problem."""

    problem: Problem
    program: str
    tests: Tests = "all"
    stop_at_first_failure: bool = False
    index: int = 0
    executed_lines: bool = False
    """Whether the verdict is to say what no test ran."""

    def chosen(self) -> list[tuple[Test, bool]]:
        """The tests asked for, public first, each with whether it is public."""
        public = [(test, True) for test in self.problem.public_tests] if self.tests != "private" else []
        private = [(test, False) for test in self.problem.private_tests] if self.tests != "public" else []
        return public + private


class Judge:
    """Judges programs, from any thread. A context manager; `close` ends everything it started."""

    def __init__(self, settings: ExecutorSettings) -> None:
        """Open the slots. Raises UserError where the level of isolation asked for cannot be had."""
        self.settings = settings
        self._free: queue.LifoQueue[Slot] = queue.LifoQueue()
        self._slots: list[Slot] = []
        self._lock = threading.Lock()
        self._closed = False
        self.infrastructure_failures = 0
        self.busy_slots = 0
        other_user = os.geteuid() == 0 and settings.max_level != "L0"
        interpreter = find(other_user)
        self.level: LevelName = choose(settings.min_level, settings.max_level, interpreter, settings.scratch_dir)
        self._base = Base(settings.scratch_dir, other_user and at_least(self.level, "L1"))
        packages = find_packages(tuple(settings.packages))
        isolations: list[Isolation] = []
        try:
            for number in range(settings.slots):
                isolations.append(Isolation(self.level, interpreter, f"{id(self):x}-{number}"))
        except OSError as error:
            for isolation in isolations:
                isolation.close()
            self._base.close()
            raise UserError(f"executor.slots={settings.slots}: {error}") from None
        for number, isolation in enumerate(isolations):
            slot = Slot(interpreter, isolation, self._base.path, number, packages)
            self._slots.append(slot)
            self._free.put(slot)

    def judge(self, request: JudgeRequest) -> Verdict:
        """The verdict on one program. Blocks, first for a free slot. Raises UserError for an unknown language."""
        refuse(request.problem)
        start = time.monotonic()
        problem, chosen = request.problem, request.chosen()
        if not chosen:
            message = f"problem {problem.id!r} has no {request.tests} tests"
            return infrastructure(problem.id, 0, message, request.index)
        slot = self._take()
        if slot is None:
            return infrastructure(problem.id, len(chosen), "the judge is closed", request.index)
        try:
            results, error, unexecuted = self._run_all(slot, request, chosen)
        finally:
            self._give(slot)
        outcomes = [result.outcome for result in results]
        return Verdict(
            problem_id=problem.id,
            index=request.index,
            outcome=aggregate(outcomes, len(chosen)),
            passed=outcomes.count(Outcome.PASS),
            total=len(chosen),
            tests=results,
            error=error,
            unexecuted=unexecuted,
            level=self.level,
            seconds=time.monotonic() - start,
        )

    def _take(self) -> Slot | None:
        """A free slot, None if there will be none. Others give theirs back within the limits of their tests."""
        while True:
            if self._closed:
                return None
            try:
                slot = self._free.get(timeout=1.0)
                break
            except queue.Empty:
                continue
        with self._lock:
            self.busy_slots += 1
        return slot

    def _give(self, slot: Slot) -> None:
        with self._lock:
            self.busy_slots -= 1
        self._free.put(slot)

    def _run_all(
        self, slot: Slot, request: JudgeRequest, chosen: list[tuple[Test, bool]]
    ) -> tuple[list[TestResult], ErrorInfo | None, list[tuple[int, int]] | None]:
        """Results in order, up to the first after which the rest would say nothing new; the first error; what did not run."""
        problem, settings = request.problem, self.settings
        limits = Limits(
            cpu_s=problem.time_limit_s,
            wall_s=settings.wall_s(problem.time_limit_s),
            memory_bytes=problem.memory_limit_mb << 20,
            output_bytes=settings.output_limit_bytes,
        )
        results: list[TestResult] = []
        error: ErrorInfo | None = None
        program = open_program(slot, problem, request.program, limits, len(chosen), request.executed_lines)
        try:
            for test, public in chosen:
                finding = self._run_one(program, test)
                results.append(_result(finding, test, public))
                error = error or finding.error
                last = (Outcome.SYNTAX_ERROR, Outcome.TIMEOUT, Outcome.INFRASTRUCTURE)
                if finding.outcome in last or (request.stop_at_first_failure and finding.outcome is not Outcome.PASS):
                    break
        finally:
            self._end(program)
        return results, error, program.unexecuted()

    def _run_one(self, program: OpenProgram, test: Test) -> Finding:
        failures, starved = 0, False
        while True:
            try:
                finding = program.run(test)
            except BrokenTest as error:
                return Finding(Outcome.INFRASTRUCTURE, 0.0, str(error))
            except (SandboxLost, OSError) as error:
                failures += 1
                self._count_failure()
                if failures > self.settings.retries or self._closed:
                    return Finding(Outcome.INFRASTRUCTURE, 0.0, str(error)[:300])
                continue
            if finding.starved and not starved:
                starved = True
                continue
            return finding

    def _end(self, program: OpenProgram) -> None:
        try:
            program.close()
        except (SandboxLost, OSError):
            self._count_failure()  # the slot has started anew; no verdict hangs on it

    def _count_failure(self) -> None:
        with self._lock:
            self.infrastructure_failures += 1

    def close(self) -> None:
        """End everything. Waits for tests that run now, as long as their limits let them."""
        if self._closed:
            return
        self._closed = True
        for _ in self._slots:
            self._free.get().close()
        self._base.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _result(finding: Finding, test: Test, public: bool) -> TestResult:
    result = TestResult(
        outcome=finding.outcome,
        public=public,
        seconds=finding.seconds,
        message=finding.message if public else _private(finding),
    )
    if public and finding.outcome is not Outcome.PASS:
        result.input, result.expected = shown(test)
        if finding.assertion is not None:
            result.assertion = shorten(finding.assertion.text)
            result.expected = None if finding.assertion.expected is None else shorten(finding.assertion.expected)
        result.got = None if finding.got is None else shorten(finding.got)
        result.error = finding.error
    return result


def _private(finding: Finding) -> str:
    """A message that gives nothing of a private test away: an exception's message may quote its input."""
    if finding.outcome in (Outcome.ERROR, Outcome.FAILURE):
        return finding.message.partition(":")[0]
    return finding.message

"""A Python program under test: which processes a test takes, and how they are asked.

A test on standard streams has a process of its own. Calls (tests by arguments, and asserts that are nothing but calls and constants) are made one
after the other in one process, which holds the program as a module; it is started anew after a test that ended it. Any other test code runs in a
second process beside a fresh one of the program.
Invariants: a test's limits are its own, whichever process it shares; a process is told of a call only when it has answered the one before.
"""

from __future__ import annotations

import marshal
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any

from executor.languages import python_findings as findings
from executor.languages import wire
from executor.languages.base import BrokenTest, Finding
from executor.languages.python_asserts import Assertion, Call, read
from executor.languages.python_executed import Executed
from executor.languages.python_tests import TestPlan, assertion_at, plan
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.sandbox.running import Limits, Part, Run, Running
from executor.sandbox.slot import Slot
from executor.showing import written
from executor.verdict import Outcome

# Bytes that a process may have reported when it is asked again: they are read again with the next answer.
_MOST_REPORTED = 1 << 16
_WRITTEN_BYTES_A_SECOND = 32 << 30  # of fresh memory, by one core: more than any can
# Events of lines and calls that a process may tell of for each CPU second of a test: what that costs stays under a twentieth of the test's time.
_LINE_EVENTS_A_SECOND = 250_000
# What a process that is asked reports first: that it has compiled, then that it has loaded; then an answer a call.
_BEGUN = [wire.encode(("compiled",)), wire.encode(("loaded",))]
_LINE_END = re.compile(r"\r\n?|\n")


@dataclass(frozen=True)
class _Answer:
    """What came of one call: a value, or a finding instead."""

    seconds: float
    value: Any = None
    finding: Finding | None = None
    plain: bool = True
    """False for a value that cannot leave the program's process."""


class PythonProgram:
    """One program in one slot; see base.py."""

    def __init__(
        self, slot: Slot, problem: Problem, source: str, limits: Limits, tests: int, executed_lines: bool = False
    ) -> None:
        self._slot, self._problem, self._source, self._limits, self._tests = slot, problem, source, limits, tests
        self._running: Running | None = None
        self._answers = 0  # reports of the running process that have been dealt with
        self._used_s = 0.0  # CPU seconds of it that earlier calls have answered for
        self._failed_to_load: Finding | None = None
        self._executed = Executed(source) if executed_lines else None

    def run(self, test: Test) -> Finding:
        """Run one test. Raises SandboxLost and BrokenTest."""
        finding = self._run(test)
        if finding.error is None or not finding.error.frames:
            return finding
        lines = 1 + len(_LINE_END.findall(self._source))
        frames = [frame for frame in finding.error.frames if frame.line <= lines]
        return replace(finding, error=finding.error.model_copy(update={"frames": frames}))

    def _run(self, test: Test) -> Finding:
        if isinstance(test, StdioTest):
            finding = self._stdio(test)
        elif isinstance(test, FunctionTest):
            finding = self._function(test)
        else:
            return self._code(test)
        return finding if finding.undecided is None else self._checked(test, finding)

    def close(self) -> None:
        """End the process that is still asked. Raises SandboxLost."""
        running, self._running = self._running, None
        if running is not None:
            self._note(running.end())

    def unexecuted(self) -> list[tuple[int, int]] | None:
        """What no test has run; see base.py."""
        return None if self._executed is None else self._executed.unexecuted()

    def _job(self, **job: Any) -> bytes:
        """What a process of the program is told."""
        if self._executed is not None:
            self._executed.expect()
            job["line_events"] = int(self._limits.cpu_s * _LINE_EVENTS_A_SECOND)
        return marshal.dumps({"source": self._source, **job})

    def _note(self, run: Run) -> Run:
        """Take what the program's process told of its lines."""
        if self._executed is not None:
            self._executed.add(run.program.report)
        return run

    def _stdio(self, test: StdioTest) -> Finding:
        given = test.input.encode("utf-8", "surrogatepass")
        run = self._note(self._slot.run(Part(self._job(role="stdio"), given, self._source), None, self._limits))
        return findings.stdio(run, self._limits, self._problem, test)

    def _function(self, test: FunctionTest) -> Finding:
        assert self._problem.entry_point is not None
        answer = self._call(Call(self._problem.entry_point, tuple(test.args), test.kwargs), self._limits.cpu_s)
        return answer.finding or findings.value(answer.value, self._problem, test, answer.seconds)

    def _code(self, test: CodeTest) -> Finding:
        steps = plan(test.code, self._problem.entry_point)
        functions: frozenset[str] = frozenset(steps.names) | ({steps.entry_point} if steps.entry_point else set())
        assertions = read(steps.code, functions)
        finding = None if assertions is None else self._assertions(steps.code, assertions)
        return finding or self._tester(steps)

    def _assertions(self, code: str, assertions: tuple[Assertion, ...]) -> Finding | None:
        """None where an answer is an object of the program, which only a tester beside it can ask."""
        seconds = 0.0
        for assertion in assertions:
            values = []
            for call in assertion.calls:
                answer = self._call(call, self._limits.cpu_s - seconds)
                if not answer.plain:
                    return None
                if answer.finding is not None:
                    return replace(answer.finding, assertion=assertion_at(code, assertion.line))
                seconds += answer.seconds
                values.append(answer.value)
            if not assertion.holds(values):
                text = "an assertion of the test does not hold"
                message = f"{text}: {assertion.message}" if assertion.message else text
                unmet = assertion_at(code, assertion.line)
                return Finding(Outcome.FAILURE, seconds, message, got=written(values[-1]), assertion=unmet)
        return Finding(Outcome.PASS, seconds)

    def _call(self, call: Call, cpu_s: float) -> _Answer:
        """One call in the program's process, which is started if there is none."""
        if self._failed_to_load is not None:
            return _Answer(0.0, finding=self._failed_to_load)
        try:
            request = wire.encode((call.name, list(call.args), call.kwargs))
        except wire.WireError as error:
            raise BrokenTest(f"the arguments cannot be handed over: {error}") from None
        running = self._running or self._start()
        before_s = self._used_s
        reason = running.ask(request, self._answers + 1, before_s + cpu_s, self._limits.wall_s)
        if reason == "answered" and (self._answers > len(_BEGUN) or running.reports[: len(_BEGUN)] == _BEGUN):
            report = (
                findings.report_of(running.reports[self._answers]) if len(running.reports) > self._answers else None
            )
            if report is not None:
                return self._answered(running, report, before_s)
        self._running = None
        run = self._note(running.end())
        reports = findings.reports_in(run.program.report)
        loaded = reports[1:2] == [("loaded",)]
        finding = findings.settled(run, self._limits, reports, before_s, self._answers if loaded else 1, cpu_s)
        finding = finding or findings.refused(("",), self._limits, run.program.end.cpu_s)
        if not loaded and finding is not None and finding.outcome is Outcome.ERROR:
            self._failed_to_load = finding
        return _Answer(0.0, finding=finding)

    def _start(self) -> Running:
        job = self._job(role="solution", cap=self._limits.output_bytes, calls=True)
        self._running = self._slot.start(Part(job, source=self._source), None, self._limits, max(1, self._tests))
        self._answers, self._used_s = len(_BEGUN), 0.0
        return self._running

    def _answered(self, running: Running, report: tuple[Any, ...], before_s: float) -> _Answer:
        self._answers += 1
        self._used_s = max(before_s, running.cpu_s)
        seconds = self._used_s - before_s
        limit = self._limits.memory_bytes
        # To ask for the peak takes as long as a small call; whoever has had no time to write so much has not.
        if self._used_s * _WRITTEN_BYTES_A_SECOND >= limit and running.peak_bytes >= limit:
            report = ("raised", "MemoryError", "MemoryError", "", None, None, ())
        refused = findings.refused(report, self._limits, seconds)
        if running.reported_bytes > _MOST_REPORTED or (refused is not None and refused.outcome is Outcome.MEMORY):
            self.close()  # what it holds and has told must not count against the next test
        if refused is None:
            return _Answer(seconds, report[1])
        return _Answer(seconds, finding=refused, plain=report[0] != "unjudgeable")

    def _tester(self, steps: TestPlan) -> Finding:
        """Test code in a process of its own, beside a fresh one of the program."""
        self.close()
        nonce = secrets.token_bytes(16)
        told = {
            "role": "tester",
            "code": steps.code,
            "modules": list(steps.modules),
            "names": list(steps.names),
            "entry_point": steps.entry_point,
            "nonce": nonce,
            "cap": self._limits.output_bytes,
        }
        job = self._job(role="solution", cap=self._limits.output_bytes)
        parts = Part(job, source=self._source), Part(marshal.dumps(told), source=steps.code)
        return findings.tested(self._note(self._slot.run(*parts, self._limits)), self._limits, nonce, steps.code)

    def _checked(self, test: StdioTest | FunctionTest, finding: Finding) -> Finding:
        """The problem's own checker on an answer, in a process that holds nothing of the program any more."""
        self.close()
        assert finding.undecided is not None
        code = self._problem.checker.code or ""
        given, expected = (test.input, test.output) if isinstance(test, StdioTest) else (test.args, test.expected)
        nonce = secrets.token_bytes(16)
        job = {
            "role": "checker",
            "code": code,
            "values": wire.encode((given, expected, finding.undecided[0])),
            "nonce": nonce,
        }
        run = self._slot.run(Part(marshal.dumps(job), source=code), None, self._limits)
        return findings.checked(run, finding, nonce)

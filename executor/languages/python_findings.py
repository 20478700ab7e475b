"""What became of the processes of a Python test, as a finding. Pure.

Invariants: the order of findings is verdict.PRECEDENCE; only the kernel's word (status, CPU, bytes, clock) and values
compared here decide, the process's own reports explain; a compile error is believed only as the first report, made
before any of the program ran.
"""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from typing import Any

from executor.comparing import text_equal, value_equal
from executor.languages import wire
from executor.languages.base import BrokenTest, Finding
from executor.languages.python_tests import assertion_at
from executor.problem import FunctionTest, Problem, StdioTest
from executor.sandbox.process import SandboxLost
from executor.sandbox.running import Limits, Run
from executor.showing import written
from executor.verdict import ErrorInfo, Frame, Outcome

_SHOWN = 2000
_MOST_FRAMES = 8
_MOST_LEFT_OUT = 100_000_000
_NO_FUNCTION = re.compile(r"<[a-z]{1,20}>")  # <module>, <lambda>


def report_of(frame: bytes) -> tuple[Any, ...] | None:
    """The report that a frame is, None for one that cannot be read."""
    try:
        report = wire.decode(frame)
    except wire.WireError:
        return None
    return report if type(report) is tuple and report and type(report[0]) is str else None


def reports_in(data: bytes) -> list[tuple[Any, ...]]:
    """The reports that can be read, without those on the side; the first that cannot ends them."""
    found: list[tuple[Any, ...]] = []
    for frame in wire.frames(data):
        if frame.startswith(wire.ASIDE):
            continue
        report = report_of(frame)
        if report is None:
            break
        found.append(report)
    return found


def settled(
    run: Run,
    limits: Limits,
    reports: list[tuple[Any, ...]],
    before_s: float = 0.0,
    answered: int = 0,
    cpu_s: float | None = None,
) -> Finding | None:
    """What the program's process showed by itself, None if it may have answered.

    `before_s` CPU seconds and `answered` reports belong to earlier tests that it has answered; `cpu_s` is what was left to this one.
    """
    seconds = max(0.0, run.program.end.cpu_s + run.rest_cpu_s - before_s)
    first = reports[0] if reports else ("",)
    if first[0] == "broken":
        if "MemoryError" in written(first[1:2]):
            return Finding(Outcome.MEMORY, seconds, "out of memory before the program began")
        raise SandboxLost(f"the sandbox cannot shut a process in: {written(first[1:2])}")
    if first[0] == "syntax":
        return _syntax(first, seconds)
    if run.reason == "cpu" or seconds > (limits.cpu_s if cpu_s is None else cpu_s):
        return _timeout(run, seconds, f"more than {limits.cpu_s:g} s of CPU time")
    if run.reason == "wall":
        return replace(_timeout(run, seconds, f"no end after {limits.wall_s:g} s"), starved=True)
    if first[0] != "compiled":
        if run.program.end.signal is None and run.program.end.code != 1:
            raise SandboxLost(f"the sandbox's process ended with status {run.program.end.status} before it began")
        error = ErrorInfo(type="SyntaxError", message="the source makes the compiler fail", trusted=True)
        return Finding(Outcome.SYNTAX_ERROR, seconds, "SyntaxError: the source makes the compiler fail", error)
    raised = raised_in(reports[max(1, answered) :])
    if (
        run.out_of_memory
        or run.program.end.peak_bytes >= limits.memory_bytes
        or (raised is not None and raised.type == "MemoryError")
    ):
        error = raised or ErrorInfo(type="MemoryError")
        return Finding(Outcome.MEMORY, seconds, f"more than {limits.memory_bytes >> 20} MiB", error)
    if run.reason == "output":
        return Finding(Outcome.OUTPUT_LIMIT, seconds, f"more than {limits.output_bytes} bytes of output")
    if not run.program.end.by_itself:
        return None
    if run.program.end.signal is not None:
        name = _signal(run.program.end.signal)
        return _error(ErrorInfo(type=name, message=f"killed by {name}"), seconds)
    if run.program.end.code:
        exit_error = ErrorInfo(type="SystemExit", message=f"exit status {run.program.end.code}")
        return _error(raised or exit_error, seconds)
    return None


_FRAME = re.compile(rb'File "<program>", line (\d{1,7}) in ')


def _timeout(run: Run, seconds: float, message: str) -> Finding:
    """A program whose time is up, with the line that it was in, where it says so."""
    stack = run.program.report.rpartition(b"(most recent call first):")[2]
    frame = _FRAME.search(stack[: 1 << 16])
    line = int(frame.group(1)) if frame else None
    if not line:
        return Finding(Outcome.TIMEOUT, seconds, message)
    error = ErrorInfo(type="TimeoutError", message=message, line=line)
    return Finding(Outcome.TIMEOUT, seconds, f"{message} (line {line})", error)


def _syntax(report: tuple[Any, ...], seconds: float) -> Finding:
    if len(report) != 5:
        raise SandboxLost("the sandbox's process told a compile error that cannot be read")
    error = _info(*report[1:]).model_copy(update={"trusted": True})
    place = "" if error.line is None else f" (line {error.line})"
    return Finding(Outcome.SYNTAX_ERROR, seconds, _one_line(f"{error.type}: {error.message}{place}"), error)


def raised_in(reports: list[tuple[Any, ...]]) -> ErrorInfo | None:
    """The first exception among the reports, as the process tells it."""
    for report in reports:
        if report[0] == "raised" and len(report) == 7:
            return _info(report[1], *report[3:])
    return None


def _info(name: Any, message: Any, line: Any, column: Any, frames: Any = ()) -> ErrorInfo:
    """What a process says of its own exception, held to the form; it may be a lie."""
    name = name if type(name) is str and name.isidentifier() and len(name) <= 100 else "Exception"
    message = message if type(message) is str else ""
    line = line if type(line) is int and 1 <= line <= 1_000_000 else None
    column = column if type(column) is int and 1 <= column <= 1_000_000 else None
    message = _printable(message)[:_SHOWN]
    return ErrorInfo(type=name, message=message, line=line, column=column, frames=_frames(frames))


def _frames(told: Any) -> list[Frame]:
    """The frames of a stack as a process tells it; those that cannot be are left out."""
    if type(told) is not tuple or len(told) > _MOST_FRAMES:
        return []
    frames = []
    for item in told:
        if type(item) is not tuple or list(map(type, item)) != [int, str, int]:
            return []
        line, name, left_out = item
        if line >= 1 and 0 <= left_out <= _MOST_LEFT_OUT:
            named = (name.isidentifier() and len(name) <= 100) or _NO_FUNCTION.fullmatch(name)
            frames.append(Frame(line=line, function=name if named else "?", left_out=left_out))
    return frames


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text[: 2 * _SHOWN])


def _one_line(text: str) -> str:
    return " ".join(_printable(text).split())[:300]


def _error(error: ErrorInfo, seconds: float) -> Finding:
    place = "" if error.line is None else f" (line {error.line})"
    message = f"{error.type}: {error.message}" if error.message else error.type
    return Finding(Outcome.ERROR, seconds, _one_line(message + place), error)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def stdio(run: Run, limits: Limits, problem: Problem, test: StdioTest) -> Finding:
    """A program on its standard streams."""
    found = settled(run, limits, reports_in(run.program.report))
    if found is not None:
        return found
    seconds = run.program.end.cpu_s + run.rest_cpu_s
    if problem.checker.type == "code":
        text = run.program.stdout.decode("utf-8", "replace")
        return Finding(Outcome.FAILURE, seconds, "wrong output", got=text, undecided=(text,))
    if text_equal(test.output, run.program.stdout, problem.checker):
        return Finding(Outcome.PASS, seconds)
    return Finding(Outcome.FAILURE, seconds, "wrong output", got=run.program.stdout.decode("utf-8", "replace"))


def refused(answer: tuple[Any, ...], limits: Limits, seconds: float) -> Finding | None:
    """Why a report is not an answer, None if it is one: ("value", what the call returned)."""
    if answer[0] == "too_large":
        return Finding(Outcome.OUTPUT_LIMIT, seconds, f"an answer of more than {limits.output_bytes} bytes")
    if answer[0] == "unjudgeable":
        return _error(_info("TypeError", answer[1] if len(answer) > 1 else "", None, None), seconds)
    error = raised_in([answer])
    if error is not None and error.type == "MemoryError":
        return Finding(Outcome.MEMORY, seconds, f"more than {limits.memory_bytes >> 20} MiB", error)
    if error is not None:
        return _error(error, seconds)
    if answer[0] != "value" or len(answer) != 2:
        return _error(ErrorInfo(type="SystemExit", message="the program ended without an answer"), seconds)
    return None


def value(answer: Any, problem: Problem, test: FunctionTest, seconds: float) -> Finding:
    """What a call returned."""
    if problem.checker.type == "code":
        return Finding(Outcome.FAILURE, seconds, "wrong answer", got=written(answer), undecided=(answer,))
    if value_equal(test.expected, answer, problem.checker):
        return Finding(Outcome.PASS, seconds)
    return Finding(Outcome.FAILURE, seconds, "wrong answer", got=written(answer))


def tested(run: Run, limits: Limits, nonce: bytes, code: str) -> Finding:
    """Test `code` in a process of its own; its `passed` counts only with the nonce, which the program never saw."""
    assert run.tester is not None
    found = settled(run, limits, reports_in(run.program.report))
    if found is not None:
        return found
    seconds = run.program.end.cpu_s + run.rest_cpu_s
    if run.tester.end.cpu_s > limits.cpu_s:
        return Finding(Outcome.TIMEOUT, run.tester.end.cpu_s, f"the test took more than {limits.cpu_s:g} s of CPU time")
    reports = reports_in(run.tester.report)
    last: tuple[Any, ...] = reports[-1] if reports else ("",)
    if last == ("passed", nonce) and run.tester.end.code == 0:
        return Finding(Outcome.PASS, seconds)
    if last[0] == "broken":
        raise SandboxLost(f"the sandbox cannot run the test: {written(last[1:2])}")
    line = next(iter(last[1:2]), None)
    unmet = assertion_at(code, line if type(line) is int else None)
    if last[0] == "failed" and len(last) == 5:
        said = _info(last[2], last[3], None, None)
        text = "an assertion of the test does not hold" if said.type == "AssertionError" else f"{said.type} in the test"
        got = _printable(last[4]) if type(last[4]) is str else None
        message = _one_line(f"{text}: {said.message}" if said.message else text)
        return Finding(Outcome.FAILURE, seconds, message, got=got, assertion=unmet)
    if last[0] == "solution":
        finding = refused(("raised", *last[2:]), limits, seconds) or Finding(Outcome.ERROR, seconds)
        return replace(finding, assertion=unmet)
    return _error(ErrorInfo(type="SystemExit", message="the program ended before it answered"), seconds)


def checked(run: Run, finding: Finding, nonce: bytes) -> Finding:
    """What a problem's own checker said of the answer in `finding`. Raises BrokenTest where it said nothing."""
    reports = reports_in(run.program.report)
    last: tuple[Any, ...] = reports[-1] if reports else ("",)
    if run.reason == "exited" and len(last) == 3 and last[:2] == ("checked", nonce) and type(last[2]) is bool:
        return replace(finding, outcome=Outcome.PASS, message="", got=None) if last[2] else finding
    said = f"it ended with {run.reason}, status {run.program.end.status}"
    said = written(last[1]) if last[0] == "broken" and len(last) > 1 else said
    raise BrokenTest(f"the problem's checker gives no answer: {said[:_SHOWN]}")

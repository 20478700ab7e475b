"""A verdict as text for the model: what went wrong, where, and on which public test. Pure.

Invariants: nothing of a private test is ever told, nor how many there are; the text is bounded (MAX_CHARS); what the
program says of itself is told as its own words.
"""

from __future__ import annotations

from executor.problem import Problem
from executor.verdict import ErrorInfo, Outcome, TestResult, Verdict

MAX_CHARS = 2000

_SAID = {
    Outcome.PASS: "All tests passed.",
    Outcome.FAILURE: "The program gives a wrong answer.",
    Outcome.ERROR: "The program ends with an error.",
    Outcome.SYNTAX_ERROR: "The program does not compile.",
    Outcome.TIMEOUT: "The program is too slow.",
    Outcome.MEMORY: "The program uses too much memory.",
    Outcome.OUTPUT_LIMIT: "The program writes too much.",
    Outcome.NO_CODE: "The answer holds no program. Put the whole program into one code block.",
    Outcome.INFRASTRUCTURE: "The program could not be tested.",
}


def feedback(verdict: Verdict, problem: Problem) -> str:
    """What to tell the model after this verdict, at most MAX_CHARS characters."""
    lines = [_SAID[verdict.outcome]]
    if verdict.outcome is Outcome.TIMEOUT:
        lines[0] += f" The limit is {problem.time_limit_s:g} s a test."
        if verdict.error is not None and verdict.error.line is not None:
            lines[0] += f" It was in line {verdict.error.line} when it was stopped."
    if verdict.outcome is Outcome.MEMORY:
        lines[0] += f" The limit is {problem.memory_limit_mb} MiB."
    test = next((t for t in verdict.tests if t.public and t.outcome is not Outcome.PASS), None)
    hidden = test is None and verdict.outcome not in (Outcome.PASS, Outcome.NO_CODE, Outcome.SYNTAX_ERROR)
    if verdict.error is not None and verdict.outcome in (Outcome.ERROR, Outcome.SYNTAX_ERROR, Outcome.MEMORY):
        lines.append(_error(verdict.error, hidden))
    if test is not None and verdict.outcome is not Outcome.SYNTAX_ERROR:
        lines += _test(test)
    elif hidden and verdict.outcome is not Outcome.INFRASTRUCTURE:
        seen = any(t.public for t in verdict.tests)
        lines.append("The public tests pass; a hidden test does not." if seen else "A hidden test does not pass.")
    text = "\n".join(lines)
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 4] + " ..."


def _error(error: ErrorInfo, hidden: bool) -> str:
    """`Line 3: ZeroDivisionError: division by zero`; without the message where it could quote a hidden test."""
    place = "" if error.line is None else f"Line {error.line}: "
    message = f": {_cut(error.message, 400)}" if error.message and not hidden else ""
    return f"{place}{error.type}{message}"


def _test(test: TestResult) -> list[str]:
    lines = []
    if test.input is not None:
        lines.append(_labelled("Test" if test.expected is None else "Input", test.input))
    if test.expected is not None:
        lines.append(_labelled("Expected", test.expected))
    if test.got is not None:
        lines.append(_labelled("Got", test.got))
    return lines


def _labelled(label: str, text: str) -> str:
    text = _cut(text.rstrip("\n"), 500)
    return f"{label}:\n{text}" if "\n" in text else f"{label}: {text}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 4] + " ..."

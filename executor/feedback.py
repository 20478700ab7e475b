"""What a model is told after an attempt that failed: which public tests failed and how, and to try again. Pure.

Invariants: nothing of a private test is told, not even that there are any; the text is never longer than it may be, and what is cut or left out
is said to be; what a program wrote or said of itself is filled in as it is and never read as a template; lines of the program come from its text as
we have it, not from its process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from executor.feedback_templates import DEFAULT, FeedbackTemplates
from executor.problem import LANGUAGE_NAMES, CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.showing import arguments, written
from executor.verdict import ErrorInfo, Outcome, TestResult, Verdict

Mode = Literal["tests", "random", "none"]
"""What feedback is about: the attempt; a problem that has nothing to do with it (unrelated_feedback.py); nothing."""

MAX_CHARS = 2000
MAX_TEST_CHARS = 512  # of what is told of one test, the words around it not counted
_LEAST_TEST_CHARS = 160  # with less of it than this a test is not worth telling
_SOURCE_CHARS = 100
_INDENT = "    "
_PARAGRAPH = "\n\n"
_LINE_END = re.compile(r"\r\n?|\n")  # what ends a line of source for Python; str.splitlines knows more


def feedback(
    problem: Problem,
    program: str | None,
    verdict: Verdict,
    templates: FeedbackTemplates = DEFAULT,
    max_chars: int = MAX_CHARS,
    max_test_chars: int = MAX_TEST_CHARS,
) -> str:
    """What to tell the model that wrote `program` (None: its answer held none) after this verdict, in at most `max_chars` characters.

    Raises ValueError for a verdict after which there is nothing to mend: `pass` and `infrastructure`.
    """
    if verdict.outcome in (Outcome.PASS, Outcome.INFRASTRUCTURE):
        raise ValueError(f"there is no feedback on a verdict of {verdict.outcome}")
    told = _Telling(problem, program or "", templates, max_test_chars)
    room = max_chars - len(told.retry) - len(_PARAGRAPH)
    if verdict.outcome is Outcome.NO_CODE:
        return told.closed(templates.no_code.format(), max_chars)
    if verdict.outcome is Outcome.SYNTAX_ERROR:
        return told.closed(told.syntax_error(verdict.error, room), max_chars)
    results = [result for result in verdict.tests if result.public]
    failed = [(t, r) for t, r in zip(problem.public_tests, results, strict=False) if r.outcome is not Outcome.PASS]
    return told.closed(told.tests(failed, room) if failed else None, max_chars)


def no_feedback(problem: Problem, templates: FeedbackTemplates = DEFAULT, max_chars: int = MAX_CHARS) -> str:
    """That the attempt failed, and nothing else: the mode `none`."""
    return _Telling(problem, "", templates, MAX_TEST_CHARS).closed(None, max_chars)


@dataclass(frozen=True)
class _Detail:
    """A text to fill in, and the end of it that is kept where it is too long."""

    text: str
    keep_end: bool = False

    def bounded(self, most: int) -> _Detail:
        """Of a text that is cut anyway no more than is looked at, as it may be very long."""
        if len(self.text) <= most:
            return self
        return replace(self, text=self.text[-most - 1 :] if self.keep_end else self.text[: most + 1])


class _Telling:
    """The parts of a feedback on one program. A part is None where there is not room enough for it."""

    def __init__(self, problem: Problem, program: str, templates: FeedbackTemplates, max_test_chars: int) -> None:
        self._problem, self._templates, self._most = problem, templates, max_test_chars
        self._lines = _LINE_END.split(program)
        self.retry = templates.retry.format(language=LANGUAGE_NAMES[problem.language])

    def closed(self, body: str | None, max_chars: int) -> str:
        """The body, or less if there is none or no room for it, and what to do now."""
        bodies = ([] if body is None else [body]) + [self._templates.not_solved.format()]
        texts = [*(f"{body}{_PARAGRAPH}{self.retry}" for body in bodies), self.retry]
        text = next((text for text in texts if len(text) <= max_chars), self.retry[: max(0, max_chars)])
        return text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair is no text

    def syntax_error(self, error: ErrorInfo | None, room: int) -> str | None:
        """A program that does not compile."""
        error = error or ErrorInfo(type="SyntaxError")
        lines = [self._place(error.line)] if error.line is not None else []
        traceback = "\n".join([*lines, self._exception(error)])
        return self._filled(self._templates.syntax_error, room, traceback=_Detail(traceback, keep_end=True))

    def tests(self, failed: list[tuple[Test, TestResult]], room: int) -> str | None:
        """The tests that failed, in order, as many as there is room for."""
        text = self._templates.header.format()
        room_for_rest = len(self._left_out(len(failed)))
        for number, (test, result) in enumerate(failed):
            last = number == len(failed) - 1
            told = self._test(test, result, room - len(text) - 1 - (0 if last else room_for_rest))
            if told is None:
                return text + self._left_out(len(failed) - number) if number else None
            text = f"{text}\n{told}" if text else told
        return text

    def _left_out(self, count: int) -> str:
        return "\n" + self._templates.left_out.format(count=count)

    def _test(self, test: Test, result: TestResult, room: int) -> str | None:
        """What came of one test."""
        templates, problem = self._templates, self._problem
        shown = _Detail(self._shown(test, result))
        if result.outcome is Outcome.TIMEOUT:
            fixed = {"seconds": f"{problem.time_limit_s:g}", "place": self._stopped_at(result.error)}
            return self._filled(templates.timeout, room, fixed, test=shown)
        if result.outcome is Outcome.MEMORY:
            fixed = {"megabytes": str(problem.memory_limit_mb), "place": self._stopped_at(result.error)}
            return self._filled(templates.memory, room, fixed, test=shown)
        if result.outcome is Outcome.OUTPUT_LIMIT:
            return self._filled(templates.output_limit, room, test=shown)
        if result.outcome is Outcome.FAILURE:
            return self._wrong(test, result, shown, room)
        said = result.message or "Exception" if result.error is None else self._traceback(result.error)
        traceback = _Detail(said, keep_end=True)
        return self._filled(templates.exception, room, test=shown, traceback=traceback)

    def _shown(self, test: Test, result: TestResult) -> str:
        if isinstance(test, StdioTest):
            return self._text(test.input)
        if isinstance(test, FunctionTest):
            return f"{self._problem.entry_point}({arguments(test)})"
        return self._text(result.assertion or test.code)

    def _text(self, text: str) -> str:
        return text.rstrip("\r\n") or self._templates.nothing.format()

    def _wrong(self, test: Test, result: TestResult, shown: _Detail, room: int) -> str | None:
        """A wrong answer."""
        templates = self._templates
        if result.got is None and isinstance(test, CodeTest):
            return self._filled(templates.check, room, test=shown)
        got = _Detail(self._text(result.got or ""), keep_end=True)
        if isinstance(test, StdioTest):
            expected = _Detail(self._text(test.output))
            return self._filled(templates.wrong_output, room, test=shown, expected=expected, got=got)
        value = written(test.expected) if isinstance(test, FunctionTest) else result.expected
        if value is None:
            return self._filled(templates.assertion, room, test=shown, got=got)
        return self._filled(templates.wrong_value, room, test=shown, expected=_Detail(value), got=got)

    def _stopped_at(self, error: ErrorInfo | None) -> str:
        if error is None or error.line is None:
            return ""
        return self._templates.stopped_at.format(place=_indented(self._place(error.line)))

    def _traceback(self, error: ErrorInfo) -> str:
        lines = []
        for frame in error.frames:
            if frame.left_out:
                lines.append(self._templates.frames_left_out.format(count=frame.left_out))
            source = self._source(frame.line)
            lines.append(self._templates.frame.format(line=frame.line, function=frame.function, source=source).rstrip())
        return "\n".join([*lines, self._exception(error)])

    def _exception(self, error: ErrorInfo) -> str:
        """Its last line, short enough to leave room for the stack."""
        message = error.message
        if len(message) > (most := self._most // 2):
            message = f"{message[:most]} {self._templates.rest_cut.format()}"
        return f"{error.type}: {message}" if message else error.type

    def _place(self, line: int) -> str:
        return self._templates.place.format(line=line, source=self._source(line)).rstrip()

    def _source(self, line: int) -> str:
        """A line of the program, empty where there is none."""
        text = self._lines[line - 1].strip() if line <= len(self._lines) else ""
        return text if len(text) <= _SOURCE_CHARS else f"{text[:_SOURCE_CHARS]} {self._templates.rest_cut.format()}"

    def _filled(
        self, template: str, room: int, fixed: dict[str, str] | None = None, /, **details: _Detail
    ) -> str | None:
        """The template with its details, which are cut to what may be told of one test, and to the room."""
        fixed = fixed or {}
        details = {name: detail.bounded(self._most) for name, detail in details.items()}
        room = min(self._most, room - len(template.format(**fixed, **dict.fromkeys(details, ""))))
        wanted = {name: _indented_length(detail.text) for name, detail in details.items()}
        if room < min(sum(wanted.values()), _LEAST_TEST_CHARS, self._most):
            return None
        for number, name in enumerate(sorted(wanted, key=wanted.__getitem__)):
            # What a short one leaves is for the longer ones.
            wanted[name] = min(wanted[name], room // (len(wanted) - number))
            room -= wanted[name]
        filled = {name: self._cut(detail, wanted[name]) for name, detail in details.items()}
        return template.format(**fixed, **filled)

    def _cut(self, detail: _Detail, most: int) -> str:
        """The detail, indented, in at most so many characters."""
        if _indented_length(detail.text) <= most:
            return _indented(detail.text)
        if detail.keep_end:
            marker = _indented(self._templates.beginning_cut.format()) + "\n"
            return (marker + _end(detail.text, most - len(marker)))[:most]
        marker = "\n" + _indented(self._templates.rest_cut.format())
        return (_beginning(detail.text, most - len(marker)) + marker)[:most]


def _indented(text: str) -> str:
    return _INDENT + text.replace("\n", "\n" + _INDENT)


def _indented_length(text: str) -> int:
    return len(text) + len(_INDENT) * (1 + text.count("\n"))


def _beginning(text: str, most: int) -> str:
    """As much of the beginning as fits, indented."""
    return _indented(text[: max(0, most)])[: max(0, most)].rstrip()


def _end(text: str, most: int) -> str:
    """As much of the end as fits, indented; from the beginning of a line, if that loses less than half."""
    room = max(0, most - len(_INDENT))
    piece = _indented(text[-room:] if room else "")
    piece = piece[len(piece) - room :] if len(piece) > room else piece
    _, newline, rest = piece.partition("\n")
    if newline and len(rest) >= room // 2:
        return rest
    return _INDENT + piece.lstrip()

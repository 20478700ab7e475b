"""Which part of a program an error is charged to (RLTF, fine-grained feedback): nothing, one line, or the whole program.

Pure. The classes are the paper's U_ignore, U_line and U_global; the rules go by exception class and line number, as Python 3.11 to 3.13 report them, not by
searching texts as the released code does. Invariant: an error whose line is not known is never charged to a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from executor.verdict import ErrorInfo, Outcome


class Blame(StrEnum):
    """What an error is charged to."""

    IGNORE = "ignore"
    LINE = "line"
    WHOLE = "whole"


# Resources ran out: no single line is at fault.
_WHOLE_OUTCOMES = {Outcome.TIMEOUT, Outcome.MEMORY, Outcome.OUTPUT_LIMIT}
_WHOLE_TYPES = {"RecursionError", "MemoryError", "TimeoutError"}
# The reported line is far from the mistake, or the mistake is everywhere.
_IGNORED_SYNTAX_TYPES = {"IndentationError", "TabError"}
_IGNORED_SYNTAX_TEXTS = ("triple-quoted", "duplicate argument", "import * only allowed at module level")
# What a compiler says, in the last line, of a program that was cut off there: something is open, or was to come. Python 3.12 has words of its own for
# f-strings, 3.13 for what follows `for` and `import`.
_CUT_OFF_TEXTS = re.compile(
    r"was never closed|unterminated|invalid syntax|unexpected EOF|(?i:(?<!')\bexpect(ed|ing)\b)|not allowed in format specifiers"
    r'|perhaps you meant "=="'
)
_LINE_END = re.compile(r"\r\n?|\n")  # what ends a line of source for Python; str.splitlines knows more


def blame(outcome: Outcome, error: ErrorInfo | None, program: str, truncated: bool) -> tuple[Blame, int | None]:
    """The class of the error and, for a line, its 1-based number. `truncated` says that the response was cut off at its length limit."""
    if outcome in _WHOLE_OUTCOMES:
        return Blame.WHOLE, None
    if error is None or outcome not in (Outcome.ERROR, Outcome.SYNTAX_ERROR):
        return Blame.IGNORE, None
    if error.type in _WHOLE_TYPES:
        return Blame.WHOLE, None
    if outcome == Outcome.SYNTAX_ERROR:
        if error.type in _IGNORED_SYNTAX_TYPES or any(text in error.message for text in _IGNORED_SYNTAX_TEXTS):
            return Blame.IGNORE, None
        in_last_line = error.line is not None and error.line >= len(line_starts(program.rstrip()))
        if truncated and in_last_line and _CUT_OFF_TEXTS.search(error.message):
            return Blame.WHOLE, None
    if error.line is None or line_range(program, error.line) is None:
        return Blame.IGNORE, None
    return Blame.LINE, error.line


def line_range(program: str, line: int) -> tuple[int, int] | None:
    """Characters of the 1-based line without the blanks around it; None if there is no such line or it is blank."""
    starts = [*line_starts(program), len(program)]
    if not 1 <= line < len(starts):
        return None
    text = program[starts[line - 1] : starts[line]]
    start = starts[line - 1] + len(text) - len(text.lstrip())
    stripped = text.strip()
    return (start, start + len(stripped)) if stripped else None


def line_starts(program: str) -> list[int]:
    """Where each line begins, the first after a byte order mark."""
    return [int(program.startswith("\ufeff")), *(end.end() for end in _LINE_END.finditer(program))]


def tokens_in(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The tokens `[first, last + 1)` that overlap the characters `[start, end)`; None if none does."""
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
    return (inside[0], inside[-1] + 1) if inside else None


def tokens_within(offsets: list[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The tokens `[first, last + 1)` that hold nothing but characters of `[start, end)`; None if none does."""
    inside = [i for i, (a, b) in enumerate(offsets) if start <= a < b <= end]
    return (inside[0], inside[-1] + 1) if inside else None


def outside(span: tuple[int, int], taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `span` that lie in none of the ranges `taken`, in order."""
    free = [span] if span[0] < span[1] else []
    for start, end in taken:
        free = [
            (a, b) for first, last in free for a, b in ((first, min(last, start)), (max(first, end), last)) if a < b
        ]
    return free

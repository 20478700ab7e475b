"""What a tool that reads programs without running them says of one, and which characters it means.

Pure, and the same for every tool: a linter, or a compiler. Invariants: lines and columns count from 1, columns in characters, a byte order mark is
none; whatever a tool says, a range lies within the program and begins and ends with something visible.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.error_spans import line_starts


@dataclass(frozen=True)
class Finding:
    """One remark on a place of a program; the place ends before `end_line`, `end_column`."""

    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    message: str = ""


def character_range(program: str, finding: Finding) -> tuple[int, int] | None:
    """The characters `[start, end)` that the finding means, without the blanks around them; None for a program of blanks.

    A place with nothing to see (a line's end, the end of a program that goes no further) stands for the last character before it.
    """
    start = _position(program, finding.line, finding.column)
    end = max(start, _position(program, finding.end_line, finding.end_column))
    text = program[start:end]
    if text.strip():
        return start + len(text) - len(text.lstrip()), start + len(text.rstrip())
    before = len(program[:start].rstrip())
    return (before - 1, before) if before else None


def _position(program: str, line: int, column: int) -> int:
    starts = [*line_starts(program), len(program)]
    if line >= len(starts):
        return len(program)
    return min(starts[max(line, 1) - 1] + max(column, 1) - 1, starts[max(line, 1)])

"""What a program's processes told of the lines that ran, summed up over its tests. Pure.

Invariants: what is told is never believed beyond its form, and where anything is missing, malformed or too much, nothing is known; a line belongs
to what ran if any statement that ran lies on it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Any

from executor.languages import wire

_STACK = b"Stack (most recent call first)"  # as faulthandler begins it
_LINE_END = re.compile(r"\r\n?|\n")


class Executed:
    """Which lines of one program ran in any of its processes."""

    def __init__(self, source: str) -> None:
        self._lines = 1 + len(_LINE_END.findall(source))
        self._statements: list[tuple[int, int, int]] | None = None
        self._ran: set[int] = set()
        self._known = True
        self._processes = 0

    def expect(self) -> None:
        """One more process runs the program."""
        self._processes += 1

    def add(self, report: bytes) -> None:
        """All that one of the processes has reported."""
        self._processes -= 1
        frames = wire.frames(report)
        told = [frame[len(wire.ASIDE) :] for frame in frames if frame.startswith(wire.ASIDE)]
        rest = report[sum(map(len, frames)) + wire.FRAME_HEAD * len(frames) :]
        # Its statements once, each line once, and at the end a stack at the most.
        if not told or len(told) > self._lines + 1 or (rest and not rest.startswith(_STACK)):
            self._known = False
            return
        try:
            messages: list[Any] = [wire.decode(payload) for payload in told]
            self._take_statements(messages[0])
            for message in messages[1:]:
                self._take_line(message)
        except wire.WireError:
            self._known = False

    def _take_statements(self, message: Any) -> None:
        """Raises WireError, as does `_take_line`, for what cannot be."""
        if (
            type(message) is not tuple
            or len(message) != 2
            or message[0] != "statements"
            or type(message[1]) is not list
        ):
            raise wire.WireError("no statements")
        for statement in message[1]:
            if type(statement) is not tuple or len(statement) != 3 or any(type(line) is not int for line in statement):
                raise wire.WireError("no statement")
            first, last, end = statement
            if not 1 <= first <= last <= end <= self._lines:
                raise wire.WireError("a statement of lines that there are not")
        if self._statements not in (None, message[1]):
            raise wire.WireError("other statements than another process has")
        self._statements = message[1]

    def _take_line(self, message: Any) -> None:
        if type(message) is not tuple or len(message) != 2 or message[0] != "ran" or type(message[1]) is not int:
            raise wire.WireError("no line")  # or one that says that nothing is known
        if not 1 <= message[1] <= self._lines:
            raise wire.WireError("a line that there is not")
        self._ran.add(message[1])

    def unexecuted(self) -> list[tuple[int, int]] | None:
        """First and last lines of what did not run, in order; None where that is not known."""
        if not self._known or self._processes or not self._ran or self._statements is None:
            return None
        ran = sorted(self._ran)
        live, dead = set[int](), set[int]()
        for first, last, end in self._statements:
            next_line = bisect_left(ran, first)
            runs = next_line < len(ran) and ran[next_line] <= end
            (live if runs else dead).update(range(first, last + 1))
        ranges: list[tuple[int, int]] = []
        for line in sorted(dead - live):
            if ranges and ranges[-1][1] == line - 1:
                ranges[-1] = ranges[-1][0], line
            else:
                ranges.append((line, line))
        return ranges

"""Which statements a program has, and which of its lines run: told by its own process, where the judge asks for it.

Invariants: a line is told when it first runs, so that no end of the process loses it; the source is parsed here, inside the sandbox, and nowhere else;
whatever goes wrong here is told as "unknown" and never raised into the program. What is told is advisory: a program can lie.
Loaded beside python_child.py; imports nothing of ours.

Messages: ("statements", [(first line, last line, last line with all that is in it)]), ("ran", line), ("unknown",).
"""

from __future__ import annotations

import re
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

Tell = Callable[..., None]
_BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")  # in the order in which they stand in the source
_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; ast itself is not loaded, nor its classes: it takes longer than a small program
_LINE_END = re.compile(r"\r\n?|\n")


def statements(source: str) -> list[tuple[int, int, int]]:
    """Every statement's own lines, without those of the statements in it, and the last line of all that is in it.

    A statement that is never an event of its own (a declaration, a constant), a comment, a blank line and an `else:` go with the statement after
    them; a docstring and what else stands between a header and its block, with the header. Raises whatever the compiler does.
    """
    tree: Any = compile(source, "<program>", "exec", _ONLY_AST, dont_inherit=True)
    lines = _LINE_END.split(source)
    found: list[tuple[int, int, int]] = []
    told = 0  # the last line that is somebody's
    stack: list[Any] = list(reversed(tree.body))
    while stack:
        node = stack.pop()
        if _silent(node):
            continue
        inside = [child for block in _BLOCKS for child in getattr(node, block, ())]
        start, last, end = _start(node), _end(node), _end(node)
        loud = [child for child in inside if not _silent(child)]
        if loud:
            behind_header = lines[_start(loud[0]) - 1].encode()[: _column(loud[0])].strip()
            last = max(start, _start(loud[0]) - (not behind_header))
        found.append((min(start, told + 1), last, end))
        told = max(told, last)
        stack += reversed(inside)
    return found


def _is(node: Any, *names: str) -> bool:
    return type(node).__name__ in names


def _silent(node: Any) -> bool:
    if _is(node, "Expr"):
        return _is(node.value, "Constant")
    if _is(node, "AnnAssign"):
        return node.value is None
    return _is(node, "Global", "Nonlocal")


def _start(node: Any) -> int:
    if _is(node, "match_case"):
        return node.pattern.lineno
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])


def _end(node: Any) -> int:
    return node.body[-1].end_lineno if _is(node, "match_case") else node.end_lineno


def _column(node: Any) -> int:
    return 0 if _is(node, "match_case") or getattr(node, "decorator_list", None) else node.col_offset


class Lines:
    """Tells what runs of one program, from `start` on, in all threads that `threading` makes."""

    def __init__(self, source: str, code: types.CodeType, tell: Tell, most_events: int) -> None:
        """`most_events` bounds what this may cost where the interpreter tells of every line each time that it runs (Python 3.11)."""
        self._source, self._code, self._tell, self._left = source, code, tell, most_events
        self._unseen: set[int] = set()
        self._over = False

    def start(self) -> None:
        """Tell the statements, and from now on the lines."""
        try:
            self._tell("statements", statements(self._source))
            codes = list(_codes(self._code))
            self._unseen = {line for code in codes for _, _, line in code.co_lines() if line}
            if sys.version_info >= (3, 12):
                self._monitor(codes)
            else:
                self._trace({id(code) for code in codes})
        except BaseException:  # out of memory, or nested too deep to be told: the program may still run
            self.lost()

    def lost(self) -> None:
        """What runs from now on is not known."""
        self._over = True
        try:
            self._tell("unknown")
        except BaseException:
            pass

    def _ran(self, line: int) -> None:
        try:
            self._unseen.discard(line)
            self._tell("ran", line)
        except BaseException:  # the program is at its limit of memory or depth
            self.lost()

    if sys.version_info >= (3, 12):

        def _monitor(self, codes: list[types.CodeType]) -> None:
            """Each line is an event once."""
            monitoring = sys.monitoring
            tool, line_events = monitoring.COVERAGE_ID, monitoring.events.LINE

            def on_line(code: types.CodeType, line: int) -> Any:
                if line in self._unseen:
                    self._ran(line)
                return monitoring.DISABLE

            monitoring.use_tool_id(tool, "cupel")
            monitoring.register_callback(tool, line_events, on_line)
            for code in codes:
                monitoring.set_local_events(tool, code, line_events)
            for name in ("free_tool_id", "register_callback", "set_local_events"):
                setattr(monitoring, name, self._guarded(getattr(monitoring, name), lambda first: first == tool))

        def check(self) -> None:
            """Tell if the program has put an end to this in a way that was not seen."""
            if not self._over and sys.monitoring.get_tool(sys.monitoring.COVERAGE_ID) != "cupel":
                self.lost()

    else:

        def _trace(self, ours: set[int]) -> None:
            """Every line is an event whenever it runs, as is every call: all of them together are bounded."""

            unseen, left, settrace = self._unseen, self._left, sys.settrace

            def on_line(frame: types.FrameType, event: str, _: Any) -> Any:
                nonlocal left
                left -= 1
                if frame.f_lineno in unseen and event == "line":
                    self._ran(frame.f_lineno)
                if left <= 0 or not unseen:
                    end()
                return on_line

            def on_call(frame: types.FrameType, event: str, _: Any) -> Any:
                nonlocal left
                if self._over or id(frame.f_code) not in ours:
                    return None
                left -= 1
                return on_line

            def end() -> None:
                self._over = True
                settrace(None)
                threading.settrace(None)  # type: ignore[arg-type]
                if unseen:
                    self.lost()

            self._on_call = on_call
            sys.settrace = self._guarded(settrace, lambda first: first is not on_call)
            threading.settrace(on_call)
            settrace(on_call)

        def check(self) -> None:
            """Tell if tracing has ended in a way that was not seen: an error in it, at the limit of depth, ends it."""
            if not self._over and sys.gettrace() is not self._on_call:
                self.lost()

    def _guarded(self, function: Callable[..., Any], ends_this: Callable[[Any], bool]) -> Callable[..., Any]:
        def guarded(first: Any, *rest: Any) -> Any:
            if not self._over and ends_this(first):
                self.lost()
            return function(first, *rest)

        return guarded


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code object and all within it."""
    stack = [code]
    while stack:
        code = stack.pop()
        yield code
        stack += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]

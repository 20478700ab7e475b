"""What a process tells of its statements and lines, and what is made of it: nothing that is told is believed beyond its form."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.languages import python_lines, wire
from executor.languages.python_executed import Executed


@pytest.mark.parametrize(
    "source, expected",
    [
        ("", []),
        ("# nothing\n", []),
        ("x = 1\n\n# about y\ny = (\n2)\n# end\n", [(1, 1, 1), (2, 5, 5)]),
        ("if x:\n    # of the header\n    y\nelse:\n    z", [(1, 2, 5), (3, 3, 3), (4, 5, 5)]),
        ("if x: y", [(1, 1, 1), (1, 1, 1)]),
        ("if (x and\n    z): y", [(1, 2, 2), (2, 2, 2)]),
        ("if a: pass\nelif b:\n    pass\nelse: c", [(1, 1, 4), (1, 1, 1), (2, 2, 4), (3, 3, 3), (4, 4, 4)]),
        ("@a\n@b(\n1)\ndef f(\n    x\n):\n    'doc'\n    global y\n    return x", [(1, 8, 9), (9, 9, 9)]),
        ("def f():\n    'doc'\nx = 1", [(1, 2, 2), (3, 3, 3)]),
        ("def f(): ...\nx: int\ny: int = 1", [(1, 1, 1), (2, 3, 3)]),
        ("def f():\n    @a\n    def g(): pass", [(1, 1, 3), (2, 3, 3), (3, 3, 3)]),
        (
            "try:\n    x\nexcept A:\n    y\nelse:\n    z\nfinally:\n    w",
            [(1, 1, 8), (2, 2, 2), (3, 3, 4), (4, 4, 4), (5, 6, 6), (7, 8, 8)],
        ),
        ("match x:\n    case 1:\n        y\n    case _: z", [(1, 1, 4), (2, 2, 3), (3, 3, 3), (4, 4, 4), (4, 4, 4)]),
        ("π = '''\r\n'''; y\r# c\rz", [(1, 2, 2), (2, 2, 2), (3, 4, 4)]),
    ],
)
def test_every_line_is_a_statements_own(source: str, expected: list[tuple[int, int, int]]) -> None:
    assert python_lines.statements(source) == expected


def test_many_branches_are_no_depth() -> None:
    source = "if x: y\n" + "elif x: y\n" * 800
    assert len(python_lines.statements(source)) == 1602


def test_what_cannot_be_told_is_not_raised_into_the_program() -> None:
    told: list[Any] = []
    python_lines.Lines("x = (", compile("", "x", "exec"), lambda *message: told.append(message), 100).start()
    assert told == [("unknown",)]

    def out_of_memory(*_: Any) -> None:
        raise MemoryError

    python_lines.Lines("x", compile("", "x", "exec"), out_of_memory, 100).start()


SOURCE = "if a:\n    b\nelse:\n    c\n\nd"
STATEMENTS = ("statements", [(1, 1, 4), (2, 2, 2), (3, 4, 4), (5, 6, 6)])


def report(*messages: Any, more: bytes = b"") -> bytes:
    """What a process reports: its answers, and these on the side."""
    sides = [wire.frame(wire.ASIDE + (m if isinstance(m, bytes) else wire.encode(m))) for m in messages]
    return wire.frame(wire.encode(("compiled",))) + b"".join(sides) + wire.frame(wire.encode(("value", 1))) + more


def unexecuted(*reports: bytes, source: str = SOURCE) -> list[tuple[int, int]] | None:
    executed = Executed(source)
    for one in reports:
        executed.expect()
        executed.add(one)
    return executed.unexecuted()


@pytest.mark.parametrize(
    "ran, expected",
    [
        ([1, 2, 6], [(3, 4)]),
        ([1, 4], [(2, 2), (5, 6)]),
        ([4], [(2, 2), (5, 6)]),  # what is in a statement does not run without it
        ([6], [(1, 4)]),
        ([6, 6, 1, 4, 2], []),
    ],
)
def test_a_statement_ran_if_one_of_its_lines_did(ran: list[int], expected: list[tuple[int, int]]) -> None:
    assert unexecuted(report(STATEMENTS, *(("ran", line) for line in ran))) == expected
    stack = b'Stack (most recent call first):\n  File "<program>", line 2 in <module>\n'
    assert unexecuted(report(STATEMENTS, *(("ran", line) for line in ran), more=stack)) == expected
    each = [report(STATEMENTS, ("ran", line)) for line in ran]
    assert unexecuted(*each) == expected, "in processes of their own"


def test_a_line_that_two_statements_share_ran_if_one_of_them_did() -> None:
    told = ("statements", [(1, 1, 2), (1, 2, 2)])
    assert unexecuted(report(told, ("ran", 2)), source="if x: y = [\n1]") == []
    told = ("statements", [(1, 1, 1), (1, 3, 3)])
    assert unexecuted(report(told, ("ran", 1)), source="a; b = [\n1,\n2]") == []


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [("ran", 1)],
        [STATEMENTS],  # nothing ran at all
        [STATEMENTS, ("ran", 7)],
        [STATEMENTS, ("ran", 0)],
        [STATEMENTS, ("ran", True)],
        [STATEMENTS, ("ran", "1")],
        [STATEMENTS, ("ran", 1), ("unknown",)],
        [STATEMENTS, ("ran", 1), STATEMENTS],
        [STATEMENTS, ("ran", 1), b""],
        [STATEMENTS, ("ran", 1), 7],
        [STATEMENTS, *[("ran", 1)] * 7],
        [("statements", [(1, 7, 7)]), ("ran", 1)],
        [("statements", [(2, 1, 1)]), ("ran", 1)],
        [("statements", [(1, 2, 1)]), ("ran", 1)],
        [("statements", [(0, 1, 1)]), ("ran", 1)],
        [("statements", [(1, 1)]), ("ran", 1)],
        [("statements", [(1, 1, 1.0)]), ("ran", 1)],
        [("statements", [[1, 1, 1]]), ("ran", 1)],
        [("statements", ((1, 1, 1),)), ("ran", 1)],
        [("statements",), ("ran", 1)],
    ],
)
def test_a_report_that_cannot_be_says_nothing(messages: list[Any]) -> None:
    good = report(STATEMENTS, ("ran", 1))
    assert unexecuted(good) is not None
    assert unexecuted(report(*messages)) is None
    if messages != [STATEMENTS]:
        assert unexecuted(good, report(*messages)) is None, "nor does the whole, then"


def test_other_statements_than_before_say_nothing() -> None:
    assert unexecuted(report(STATEMENTS, ("ran", 1)), report(("statements", [(1, 1, 1)]), ("ran", 1))) is None


def test_a_process_that_is_lost_took_its_lines_along() -> None:
    executed = Executed(SOURCE)
    executed.expect()
    executed.expect()
    executed.add(report(STATEMENTS, ("ran", 1)))
    assert executed.unexecuted() is None


def test_what_is_cut_short_says_nothing() -> None:
    whole = report(STATEMENTS, ("ran", 1))
    for size in range(len(whole)):
        assert unexecuted(whole[:size]) in (None, unexecuted(whole))
    assert unexecuted(whole + b"\xff\xff\xff\x7f") is None


VALUES = st.recursive(
    st.none() | st.integers(-2, 9) | st.sampled_from(["ran", "statements", "unknown"]) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
)


@given(
    st.lists(st.binary(max_size=20) | VALUES.map(wire.encode) | st.just(wire.encode(STATEMENTS)), max_size=5),
    st.binary(max_size=9),
)
def test_nothing_that_is_told_raises_or_names_a_line_that_there_is_not(sides: list[bytes], more: bytes) -> None:
    found = unexecuted(report(STATEMENTS, ("ran", 2), more=more), report(*sides))
    assert found is None or all(1 <= first <= last <= 6 for first, last in found)

"""An error is charged to what is at fault: nothing, its line, or the whole program."""

from __future__ import annotations

import traceback

import pytest
from golden_cases import golden

from actors.error_spans import Blame, blame, line_range, tokens_in
from executor.verdict import ErrorInfo, Outcome

# Golden A10 to A13: tokens of a program, a line of it, and which tokens the line's penalty falls on.
A10 = [
    "n",
    " =",
    " int",
    "(",
    "input",
    "())",
    "\n",
    "a",
    " =",
    " [",
    "]",
    "\n",
    "print",
    "(",
    "a",
    "[",
    "n",
    "])",
    "\n",
]
A11 = ["x=1", "\n  y", "=x", "+z\n", "print(y)"]
A13 = ["f(", "x", ")", "\n", "g", "(", "x", ")", "\n", "f(", "x", ")"]


def mask(tokens: list[str], line: int, padding: int = 0) -> list[int]:
    """1 for every token that the line's penalty falls on."""
    offsets: list[tuple[int, int]] = []
    for token in tokens:
        start = offsets[-1][1] if offsets else 0
        offsets.append((start, start + len(token)))
    offsets += [(offsets[-1][1], offsets[-1][1])] * padding
    place = line_range("".join(tokens), line)
    span = tokens_in(offsets, *place) if place else None
    return [int(span is not None and span[0] <= i < span[1]) for i in range(len(offsets))]


@pytest.mark.parametrize(
    "tokens, line, padding, expected",
    [
        pytest.param(A10, 3, 0, [0] * 12 + [1] * 6 + [0], id="A10"),
        pytest.param(A11, 2, 0, [0, 1, 1, 1, 0], id="A11 tokens over the line's ends"),
        pytest.param(A11, 3, 2, [0, 0, 0, 0, 1, 0, 0], id="A12 padding"),
        pytest.param(A11, 9, 2, [0] * 7, id="A12 no such line"),
        pytest.param(A13, 3, 0, [0] * 9 + [1] * 3, id="A13 a line that is there twice"),
        pytest.param(["a\n", "\n", "b"], 2, 0, [0, 0, 0], id="a blank line"),
    ],
)
def test_a_line_becomes_its_tokens(tokens: list[str], line: int, padding: int, expected: list[int]) -> None:
    assert mask(tokens, line, padding) == expected


def test_golden_lines() -> None:
    for name, tokens, line, expected in (
        ("A10", A10, 3, lambda lines: lines),
        ("A11", A11, 2, lambda lines: lines),
        ("A12", A11, 3, lambda lines: lines["line"]),
        ("A13", A13, 3, lambda lines: lines["correct_for_lineno_3"]),
    ):
        inputs, numbers = golden(name)
        assert inputs["tokens"] == tokens
        assert mask(tokens, line, inputs.get("pad", 0)) == expected(numbers)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_python_counts_them(end: str) -> None:
    program = end.join(["a = '\u2028\x0c'", "  b = 2  ", "c"])
    place = line_range(program, 2)
    assert place is not None and program[slice(*place)] == "b = 2"


def syntax_error(program: str) -> ErrorInfo:
    """What this Python's compiler says of the program."""
    with pytest.raises(SyntaxError) as caught:
        compile(program, "program", "exec")
    return ErrorInfo(
        type=type(caught.value).__name__, message=caught.value.msg or "", line=caught.value.lineno, trusted=True
    )


@pytest.mark.parametrize(
    "program, truncated, expected",
    [
        ("x = 1\nif x\nprint(x)\n", False, (Blame.LINE, 2)),
        ("x = 1\nif x\nprint(x)\n", True, (Blame.LINE, 2)),  # cut off, but that is not what is wrong with it
        ("x = 1\ny = 2\nprint(x,,", True, (Blame.WHOLE, None)),
        ("x = 1\ny = 2\nprint(x,,", False, (Blame.LINE, 3)),
        ("x = 1\nprint((x\n", True, (Blame.WHOLE, None)),
        ("x = 1\nprint((x\n", False, (Blame.LINE, 2)),
        ("s = 'abc\nprint(s)\n", False, (Blame.LINE, 1)),
        ("s = 'abc\nprint(s)\n", True, (Blame.LINE, 1)),
        ("x = 1\ns = 'abc", True, (Blame.WHOLE, None)),
        ("x = 1\nwhile x", True, (Blame.WHOLE, None)),
        ("x = 1\ny = [x x", True, (Blame.WHOLE, None)),
        ("s = '''abc\nprint(s)\n", False, (Blame.IGNORE, None)),
        ("s = '''abc\nprint(s)\n", True, (Blame.IGNORE, None)),
        ("if 1:\n    x=1\n  y=2\n", False, (Blame.IGNORE, None)),
        ("if 1:\n        x=1\n\ty=2\n", False, (Blame.IGNORE, None)),
        ("x=1\n    y=2\n", False, (Blame.IGNORE, None)),
        ("if 1:\nx=2\n", False, (Blame.IGNORE, None)),
        ("def f(a,a):\n    pass\n", False, (Blame.IGNORE, None)),
        ("def f():\n    from os import *\n", False, (Blame.IGNORE, None)),
        ("x = 1\nreturn x\n", False, (Blame.LINE, 2)),
        ("def f():\n    nonlocal x\n", False, (Blame.LINE, 2)),
    ],
)
def test_what_the_compiler_refuses(program: str, truncated: bool, expected: tuple[Blame, int | None]) -> None:
    assert blame(Outcome.SYNTAX_ERROR, syntax_error(program), program, truncated) == expected


CUT = """\
import os.path as path, sys
from math import (floor, ceil)
def area(a, *rest, b=1, **more) -> int:
    if a == 1 and not max(a, b) != 2: return f"a {a!r:>{b}} of {b['c']}" + 'it' "s"
    elif a in rest: x = [i ** 2 if j else more for i, j in enumerate(rest) if i % 2]
    else: x = {k: v for k, v in more.items()} or {1, 2} or (yield)
    try: x[a:b, -1] += lambda y, z=3: y if y <= z else -z
    except (ValueError, KeyError) as error: raise TypeError(f"{error=}") from error
    finally: del x; assert a is not b, "no"
class Shape(object, metaclass=type):
    @staticmethod
    def f(x): global a; a = (b := x); return a @ b
with open(path.join("a", 'b')) as f, open("c"): print(*f, sep="\\n", end="")
while True: x, *y = 1, 2; break
for i in range(3): print(i, file=sys.stderr)
"""


def test_a_cut_is_no_lines_fault() -> None:
    """Cut off anywhere, a program that is right has no line at fault, in the words of whichever Python this is."""
    compile(CUT, "program", "exec")
    refused = 0
    for end in range(1, len(CUT)):
        try:
            compile(CUT[:end], "program", "exec")
        except SyntaxError as error:
            refused += 1
            expected = Blame.IGNORE if isinstance(error, IndentationError) else Blame.WHOLE
            found = blame(Outcome.SYNTAX_ERROR, syntax_error(CUT[:end]), CUT[:end], truncated=True)
            assert found == (expected, None), CUT[:end]
    assert refused > len(CUT) // 2


@pytest.mark.parametrize(
    "program, expected",
    [
        ("a = [1, 2]\nx = 5\nprint(a[x])\n", (Blame.LINE, 3)),
        ("raise RuntimeError('x')\n", (Blame.LINE, 1)),
        ("k = 1 ^ 2\nz = y + k\n", (Blame.LINE, 2)),
        ("def f(n):\n    return 1 // n\nf(0)\n", (Blame.LINE, 2)),
        ("def f(n):\n    return f(n+1)\nf(0)\n", (Blame.WHOLE, None)),
        ("raise MemoryError\n", (Blame.WHOLE, None)),
    ],
)
def test_what_goes_wrong_in_a_run(program: str, expected: tuple[Blame, int | None]) -> None:
    with pytest.raises((Exception, RecursionError)) as caught:
        exec(compile(program, "program", "exec"), {})
    own = [frame.lineno for frame in traceback.extract_tb(caught.value.__traceback__) if frame.filename == "program"]
    error = ErrorInfo(type=type(caught.value).__name__, message=str(caught.value), line=own[-1])
    assert blame(Outcome.ERROR, error, program, truncated=False) == expected


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.MEMORY, Outcome.OUTPUT_LIMIT])
def test_a_limit_is_the_whole_programs_fault(outcome: Outcome) -> None:
    assert blame(outcome, None, "pass", truncated=False) == (Blame.WHOLE, None)


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.FAILURE, Outcome.NO_CODE, Outcome.INFRASTRUCTURE])
def test_a_wrong_answer_has_no_line(outcome: Outcome) -> None:
    assert blame(outcome, ErrorInfo(type="KeyError", line=1), "pass", truncated=True) == (Blame.IGNORE, None)


@pytest.mark.parametrize(
    "error",
    [
        None,
        ErrorInfo(type="SIGSEGV", message="killed by SIGSEGV"),
        ErrorInfo(type="SystemExit", message="exit status 3"),
        ErrorInfo(type="KeyError", line=7),
        ErrorInfo(type="KeyError", line=2),
    ],
)
def test_an_unknown_line_is_not_guessed(error: ErrorInfo | None) -> None:
    assert blame(Outcome.ERROR, error, "pass\n\n", truncated=False) == (Blame.IGNORE, None)

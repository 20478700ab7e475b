"""References as a model learns to write them: odd white space goes, and the program means the same."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.references import tidy


@pytest.mark.parametrize(
    "odd",
    [
        "def f(n):\n\treturn n + 1",
        "def f(n):\r\n    return n + 1\r\n",
        "def f(n): \n    return n + 1",
        "def f(n):\n \n \n    return n + 1",
        "def f(n):\n  return n + 1",
        "def f(n):\n    return n + 1 # one more\n\t",
    ],
)
def test_odd_white_space_goes(odd: str) -> None:
    assert tidy(odd) == "def f(n):\n    return n + 1"


@pytest.mark.parametrize(
    "program",
    [
        "def f(n):\n    # one more\n    return (n + 1)",
        "x = [\n    1,\n    2,\n]\n\n\ndef f():\n    if x:\n        return x",
        "print 'hello' \n",  # Python 2
        "x = " + "(" * 500 + ")" * 500 + " ",
        "",
    ],
)
def test_a_tidy_program_and_one_that_is_not_pythons_stay_as_they_are(program: str) -> None:
    assert tidy(program) == program


def test_what_is_inside_a_text_is_no_white_space_of_the_program() -> None:
    written = tidy("TEXT = '''a\tb \n  c'''\n\n\nprint(TEXT) \n")
    assert ast.literal_eval(ast.parse(written).body[0].value) == "a\tb \n  c"  # type: ignore[attr-defined]


@given(
    st.lists(
        st.sampled_from(["x = 1", "if x:", "for y in z:", "pass", "# c", "s = '\\t'", "\t", "  ", "\r"]), max_size=8
    )
)
def test_the_meaning_never_changes(parts: list[str]) -> None:
    program, depth = "", 0
    for part in parts:
        program += "\t" * depth + part + " \n"
        depth += part.endswith(":")
    program += "\t" * depth + "pass\n"
    try:
        meaning = ast.dump(ast.parse(program))
    except SyntaxError:
        assert tidy(program) == program
    else:
        assert ast.dump(ast.parse(tidy(program))) == meaning

"""What test code takes from the program, and what it never does."""

from __future__ import annotations

import pytest

from executor.languages.base import BrokenTest
from executor.languages.python_tests import plan


def test_an_assert_takes_the_functions_it_calls() -> None:
    steps = plan("assert f([1]) == g(2)\n", None)
    assert steps.names == ("f", "g") and steps.modules == () and steps.entry_point is None


def test_builtins_and_standard_modules_never_come_from_the_program() -> None:
    steps = plan("import json\nassert set(f(1)) == {1} and math.isclose(f(2), 2) and json.dumps(f(3))", "f")
    assert steps.names == () and steps.modules == ("math",) and steps.entry_point == "f"


def test_a_function_named_as_a_builtin_is_the_programs_only_where_it_is_what_is_tested() -> None:
    assert plan("assert sum(10, 15) == 6", None).entry_point == "sum"
    assert plan("assert sum(10, 15) == 6", "sum").entry_point == "sum"
    steps = plan("assert set(f(1)) == set()", None)
    assert steps.entry_point is None and steps.names == ("f",)


def test_check_is_called_once() -> None:
    code = "def check(candidate):\n    assert candidate(1) == helper(2)\n"
    steps = plan(code, "f")
    assert steps.code.rstrip().endswith("check(f)") and steps.names == ("helper",)
    assert plan(code + "check(f)\n", "f").code.count("check(f)") == 1
    assert plan(code, "Solution().f").entry_point == "Solution"


def test_names_that_the_test_binds_are_its_own() -> None:
    steps = plan(
        "x = 3\nfor i in range(x):\n    y = [z for z in (1,)]\ndef h(a):\n    return a + k\nassert f(x, h) == y", "f"
    )
    assert steps.names == ("k",)


def test_broken_test_code_is_told() -> None:
    with pytest.raises(BrokenTest, match="does not compile"):
        plan("assert f(", "f")
    with pytest.raises(BrokenTest, match="entry point"):
        plan("assert 1", "f; import os")

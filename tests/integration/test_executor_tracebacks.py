"""What a failed public test says of the way the program went: its stack, in its own source, and the assertion that was not met."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from executor.feedback import MAX_CHARS, feedback
from executor.feedback_templates import DEFAULT, FeedbackTemplates
from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest, Test
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, TestResult, Verdict

STDIO: list[Test] = [StdioTest(input="1\n", output="1\n")]
CALL: list[Test] = [FunctionTest(args=[1], expected=1)]
ASSERT: list[Test] = [CodeTest(code="assert f(1) == 1")]
CHECK: list[Test] = [CodeTest(code="def check(candidate):\n    x = 1\n    assert candidate(x) == 1\n")]
RAISES = """
def f(x):
    return inner(x)


def inner(x):
    return [x // 0 for _ in "a"][0]
"""


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0.5)) as judge:
        yield judge


def problem_of(public: list[Test], private: list[Test] | None = None, **fields: float) -> Problem:
    kind = "stdio" if isinstance([*public, *(private or [])][0], StdioTest) else "function"
    return Problem.model_validate(
        {
            "id": "p",
            "prompt": "?",
            "kind": kind,
            "entry_point": None if kind == "stdio" else "f",
            "public_tests": public,
            "private_tests": private or [],
            "time_limit_s": 2,
            **fields,
        }
    )


def judged(judge: Judge, public: list[Test], program: str) -> TestResult:
    (result,) = judge.judge(JudgeRequest(problem_of(public), program)).tests
    return result


def frames(result: TestResult) -> list[tuple[int, str, int]]:
    assert result.error is not None, result
    return [(frame.line, frame.function, frame.left_out) for frame in result.error.frames]


@pytest.mark.parametrize("tests", [CALL, ASSERT, CHECK], ids=["call", "assert", "check"])
def test_the_stack_is_told_however_a_function_is_called(judge: Judge, tests: list[Test]) -> None:
    result = judged(judge, tests, RAISES)
    assert result.outcome is Outcome.ERROR and result.error is not None
    inside = frames(result)
    assert inside[:2] == [(3, "f", 0), (7, "inner", 0)]
    assert inside[2:] in ([(7, "<listcomp>", 0)], [])  # Python 3.12 has no frame for it
    assert (result.error.type, result.error.line) == ("ZeroDivisionError", 7)


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "def f(x):\n    def inner():\n        return x // 0\n    return inner()\n\nprint(f(3))",
            [(6, "<module>", 0), (4, "f", 0), (3, "inner", 0)],
        ),
        ("class A:\n    def __init__(self):\n        self.x\n\nA()", [(5, "<module>", 0), (3, "__init__", 0)]),
        ("exec('''\n\n\ndef g():\n    1/0\ng()''')", [(1, "<module>", 0)]),  # not its source, but what it made
        ("exec(compile('\\n' * 50 + '1/0', '<program>', 'exec'))", [(1, "<module>", 0)]),  # nor in its source
        ("import json\njson.loads('{')", [(2, "<module>", 0)]),  # frames of a library
        ("sorted([1], key=lambda x: x.y)", [(1, "<module>", 0), (1, "<lambda>", 0)]),
        ("try:\n    1/0\nexcept ZeroDivisionError:\n    raise ValueError('x')", [(4, "<module>", 0)]),
        (
            "def f(): 1/0\nf.__code__ = f.__code__.replace(co_name='a b' * 99)\nf()",
            [(3, "<module>", 0), (1, "?", 0)],
        ),
        (
            "class S(str):\n    def __getitem__(self, i): return 3\n"
            "def f(): 1/0\nf.__code__ = f.__code__.replace(co_name=S('g'))\nf()",
            [(5, "<module>", 0), (3, "g", 0)],
        ),
        ("import sys\nsys.exit(3)", []),
        ("import os\nos.abort()", []),
    ],
)
def test_the_frames_are_those_of_the_programs_own_source(
    judge: Judge, program: str, told: list[tuple[int, str, int]]
) -> None:
    result = judged(judge, STDIO, program)
    assert result.outcome is Outcome.ERROR and frames(result) == told


@pytest.mark.parametrize("deep", [990, 100_000])
def test_of_a_deep_stack_both_ends_are_told(judge: Judge, deep: int) -> None:
    program = f"import sys\nsys.setrecursionlimit({deep})\ndef f(n):\n    return 1 + f(n + 1)\ndef g(n):\n    return f(n)\n\ng(0)"
    result = judged(judge, STDIO, program)
    told = frames(result)
    assert result.error is not None and result.error.type == "RecursionError"
    assert [(line, name) for line, name, _ in told] == [(8, "<module>"), (6, "g")] + [(4, "f")] * 6
    left_out = [number for _, _, number in told]
    assert left_out[:3] + left_out[4:] == [0] * 7 and deep - 30 < left_out[3] < deep
    text = feedback(problem_of(STDIO), program, Verdict(problem_id="p", outcome=Outcome.ERROR, tests=[result]))
    assert len(text) <= MAX_CHARS and "RecursionError" in text and "return 1 + f(n + 1)" in text


@pytest.mark.parametrize("tests", [STDIO, CALL, CHECK], ids=["stdio", "call", "check"])
def test_a_program_that_does_not_compile_has_no_stack(judge: Judge, tests: list[Test]) -> None:
    result = judged(judge, tests, "def f(:\n    pass")
    assert result.outcome is Outcome.SYNTAX_ERROR and frames(result) == []
    assert result.error is not None and result.error.line == 1


@pytest.mark.parametrize("tests", [CALL, ASSERT, CHECK], ids=["call", "assert", "check"])
def test_an_error_while_the_functions_are_made_is_told(judge: Judge, tests: list[Test]) -> None:
    result = judged(judge, tests, "x = 1\n\nx.y\ndef f(x): return x")
    assert result.error is not None and result.error.type == "AttributeError" and frames(result) == [(3, "<module>", 0)]
    assert judged(judge, tests, "x = [0] * (1 << 29)\ndef f(x): return x").outcome is Outcome.MEMORY


@pytest.mark.parametrize(
    ("test", "program", "assertion", "expected", "got"),
    [
        ("assert f(1) == 2", "def f(x): return 5", "assert f(1) == 2", "2", "5"),
        ("assert f(1) == 5\nassert f(2) == [\n    2,\n]", "def f(x): return 5", "assert f(2) == [\n    2,\n]", "[2]", "5"),
        ("assert sorted(f([2])) == [2]", "def f(x): return x + x", "assert sorted(f([2])) == [2]", None, "[2, 2]"),
        ("def check(candidate):\n    assert candidate(1) == 5\n    assert candidate(2) == 2", "def f(x): return 5", "assert candidate(2) == 2", "2", "5"),
        ("def check(candidate):\n    for i in range(9):\n        assert candidate(i) == i, 'no'", "def f(x): return 0", "assert candidate(i) == i, 'no'", None, "0"),
        ("import math\nx = f(3)\nif x != 3:\n    raise ValueError(x)", "def f(x): return 0", None, None, "0"),
    ],
)  # fmt: skip
def test_the_assertion_that_is_not_met_is_told(
    judge: Judge, test: str, program: str, assertion: str | None, expected: str | None, got: str
) -> None:
    result = judged(judge, [CodeTest(code=test)], program)
    assert result.outcome is Outcome.FAILURE
    assert (result.assertion, result.expected, result.got) == (assertion, expected, got)


@pytest.mark.parametrize(
    ("tests", "program", "why"),
    [
        (
            [StdioTest(input="5 secret", output="hush")],
            "s = input().split()[1]\nint(s)",
            "invalid literal for int() with base 10: 'secret'",
        ),
        ([FunctionTest(args=["secret"], expected="hush")], "def f(x):\n    return {}[x]", "'secret'"),
        ([CodeTest(code="assert f('secret') == 'hush'")], "def f(x):\n    return {}[x]", "'secret'"),
        ([CodeTest(code="x = 'secret'\nassert f(x) == 'hush'")], "def f(x): return x", None),
    ],
)
def test_private_tests_tell_nothing(judge: Judge, tests: list[Test], program: str, why: str | None) -> None:
    """That they fail is told to whoever judges; how, not beyond the first error, which no feedback shows."""
    problem = problem_of([], tests)
    verdict = judge.judge(JudgeRequest(problem, program))
    (result,) = verdict.tests
    assert result.error is result.assertion is result.got is result.expected is None
    assert "secret" not in result.message and (None if verdict.error is None else verdict.error.message) == why
    text = feedback(problem, program, verdict)
    assert not any(word in text for word in ("secret", "hush", "KeyError", "ValueError", "literal"))


def test_the_end_of_a_long_output_is_told(judge: Judge) -> None:
    result = judged(judge, STDIO, "for i in range(100_000): print(i)")
    assert result.got is not None and result.got.startswith("0\n1\n") and result.got.endswith("\n99998\n99999\n")
    result = judged(judge, CALL, "def f(x): return list(range(100_000))")
    assert result.got is not None and result.got.endswith(" 99998, 99999]")


def test_a_time_out_says_where_it_was(judge: Judge) -> None:
    program = "x = 1\nwhile x:\n    x += 1"
    verdict = judge.judge(JudgeRequest(problem_of(STDIO, time_limit_s=0.3), program))
    text = feedback(problem_of(STDIO, time_limit_s=0.3), program, verdict)
    assert "too long" in text and "0.3 s" in text and ("x += 1" in text or "while x:" in text)


def test_the_page_shows_what_a_run_gives(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "feedback.md").read_text(encoding="utf-8")
    program, told = (page.partition(f"```{kind}\n")[2].partition("```")[0] for kind in ("python", "text"))
    exec(program, {})
    assert told and capsys.readouterr().out == told
    words = page.partition("```yaml\n")[2].partition("```")[0]
    assert FeedbackTemplates.model_validate(yaml.safe_load(words)) != DEFAULT

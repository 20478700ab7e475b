"""HumanEval+ and MBPP+ in the forms of EvalPlus's data sets: what is public is not private, and references pass both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from evalplus_form import check, check_with_solution, loop

from actors.problem_sets.base import load
from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

HUMANEVAL = {
    "task_id": "HumanEval/2",
    "prompt": 'from typing import List\n\n\ndef mean(xs: List[float]) -> float:\n    """ The mean.\n    >>> mean([1.0, 2.0])\n    1.5\n    """\n',
    "canonical_solution": "    return sum(xs) / len(xs)\n\n",
    "entry_point": "mean",
    "test": check([[[1.0, 2.0, 3.0]], [[1.0, 2.0]], [[4]], [[1e20, 0.0]]], [2.0, 1.5, 4.0, 5e19]),
}
ODD = {
    "task_id": "HumanEval/130",
    "prompt": '\ndef odd(n):\n    """For example:\n    odd(1) = [1, 3]\n    """\n',
    "canonical_solution": "    return list(range(1, n + 3, 2))\n",
    "entry_point": "odd",
    "test": check_with_solution([[3], [4], [1], [0]], "def ref_func(n):\n    return list(range(1, n + 3, 2))\n"),
}
MBPP = {
    "task_id": 2,
    "code": "\ndef shared(a, b):\n  return tuple(sorted(set(a) & set(b)))\n",
    "prompt": "Give what two tuples share, in order.",
    "source_file": "questions.ipynb",
    "test_imports": ["import math"],
    "test_list": ["assert shared((4, 3, 1),(1, 3)) == (1, 3)", "assert len(shared((1, 2, 3, 4),(5, 4))) == 1"],
    "test": loop(
        "shared",
        [[(4, 3, 1), (1, 3)], [(1, 2, 3, 4), (5, 4)], [[1, float("inf")], [float("inf")]], [(), ()]],
        [(1, 3), (4,), (float("inf"),), ()],
    ),
}


def read(kind: str, path: Path, *rows: dict[str, Any]) -> list[Problem]:
    (path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(f"{kind}:{path / 'x.jsonl'}")


def private(problem: Problem) -> str:
    (test,) = problem.private_tests
    assert isinstance(test, CodeTest)
    return test.code


def outcomes(problem: Problem, *programs: str) -> list[tuple[Outcome, Outcome]]:
    """What the public and what all tests say of programs."""
    with Judge(ExecutorSettings()) as judge:
        return [
            (
                judge.judge(JudgeRequest(problem, p, tests="public")).outcome,
                judge.judge(JudgeRequest(problem, p)).outcome,
            )
            for p in programs
        ]


def test_humanevals_docstring_is_public_and_the_rest_decides(tmp_path: Path) -> None:
    (problem,) = read("humanevalplus", tmp_path, HUMANEVAL)
    assert (problem.id, problem.entry_point, problem.prompt) == ("humanevalplus/2", "mean", "Complete this function.")
    assert problem.public_tests == [CodeTest(code="assert abs(mean([1.0, 2.0]) - 1.5) <= 1e-06 + 1e-07 * abs(1.5)")]
    assert "inputs = [[[1.0, 2.0, 3.0]], [[4]], [[1e+20, 0.0]]]" in private(problem)
    assert "results = [2.0, 4.0, 5e+19]" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    assert outcomes(problem, *problem.references, "def mean(xs):\n    return 1.5") == [right, wrong]


def test_without_examples_the_first_are_public(tmp_path: Path) -> None:
    (problem,) = read("humanevalplus", tmp_path, {**HUMANEVAL, "prompt": "def mean(xs):\n"})
    assert [test.code.split(" - ")[0] for test in problem.public_tests if isinstance(test, CodeTest)] == [
        "assert abs(mean([1.0, 2.0, 3.0])",
        "assert abs(mean([1.0, 2.0])",
    ]
    assert "inputs = [[[4]], [[1e+20, 0.0]]]" in private(problem)


def test_a_test_that_holds_a_solution_shows_the_docstrings_answer_only(tmp_path: Path) -> None:
    (problem,) = read("humanevalplus", tmp_path, ODD)
    assert problem.public_tests == [CodeTest(code="assert odd(1) == [1, 3]")]
    assert "inputs = [[3], [4], [0]]" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    assert outcomes(problem, *problem.references, "def odd(n):\n    return [1, 3]") == [right, wrong]
    (nothing,) = read("humanevalplus", tmp_path, {**ODD, "prompt": "def odd(n):\n"})
    assert not nothing.public_tests and private(nothing) == ODD["test"]


def test_humaneval_makes_tests_public_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (problem,) = read("humaneval", tmp_path, HUMANEVAL)
    assert not problem.public_tests and private(problem) == HUMANEVAL["test"]
    (asked,) = load(f"humaneval:{tmp_path / 'x.jsonl'}#public")
    (plus,) = load(f"humanevalplus:{tmp_path / 'x.jsonl'}")
    assert asked.model_copy(update={"id": plus.id}) == plus


def test_mbpps_asserts_are_public_and_taken_out_of_evalplus_test(tmp_path: Path) -> None:
    (problem,) = read("mbppplus", tmp_path, MBPP)
    assert (problem.id, problem.entry_point, problem.kind) == ("mbppplus/2", "shared", "function")
    assert problem.public_tests == [CodeTest(code=f"import math\n{text}") for text in MBPP["test_list"]]
    assert problem.prompt.endswith(f"It must satisfy this test:\n{MBPP['test_list'][0]}")
    assert MBPP["test_list"][1] not in problem.prompt
    assert "inputs = [[[1, inf], [inf]], [(), ()]]\nresults = [(inf,), ()]\n" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    answers = "def shared(a, b):\n    return tuple(x for x in sorted(a) if x in b) if len(a) > 2 else (0,)"
    assert outcomes(problem, *problem.references, answers) == [right, wrong]


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"test": None}, "not a row of MBPP+"),
        ({"test_list": []}, "not a row of MBPP+"),
        ({"test_list": ["assert other(1)"]}, "not a row of MBPP+"),
        ({"test": "assert shared(1, 2)"}, ""),
        ({"test": "for i in range(3):\n    shared(i, i)"}, "its test has no inputs in EvalPlus's form"),
        (
            {"test": "inputs = [[(4, 3, 1), (1, 3)]]\nresults = [1]"},
            "its test has no inputs in EvalPlus's form",
        ),
        ({"test": f"inputs = [[1], [{'9' * 5000}]]\nresults = [1, 2]"}, "its test has no inputs in EvalPlus's form"),
        ({"task_id": "x"}, "not a row of MBPP"),
    ],
)
def test_mbpps_rows_in_another_form_are_left_out_and_named(
    tmp_path: Path, columns: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    problems = read("mbppplus", tmp_path, MBPP, {**MBPP, "task_id": 3, **columns})
    assert [problem.id for problem in problems] == ["mbppplus/2"] + ([] if reason else ["mbppplus/3"])
    assert reason in caplog.text

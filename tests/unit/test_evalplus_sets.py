"""HumanEval+ and MBPP+ in the forms of EvalPlus's data sets: what is public is not private, and references pass both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.problem_sets.base import load
from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

ASSERTION = """import numpy as np

def is_floats(x) -> bool:
    # a float, or a list or tuple of floats
    if isinstance(x, float):
        return True
    if isinstance(x, (list, tuple)):
        return all(isinstance(i, float) for i in x)
    if isinstance(x, np.ndarray):
        return x.dtype == np.float64 or x.dtype == np.float32
    return False


def assertion(out, exp, atol):
    exact_match = out == exp

    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if not exact_match and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert exact_match{message}

"""
USUAL = ASSERTION.format(message="")
HUMANEVAL = {
    "task_id": "HumanEval/2",
    "prompt": 'from typing import List\n\n\ndef mean(xs: List[float]) -> float:\n    """ The mean.\n    >>> mean([1.0, 2.0])\n    1.5\n    """\n',
    "canonical_solution": "    return sum(xs) / len(xs)\n\n",
    "entry_point": "mean",
    "test": "\n\n"
    + USUAL
    + "\ndef check(candidate):\n    inputs = [[[1.0, 2.0, 3.0]], [[1.0, 2.0]], [[4]], [[1e20, 0.0]]]\n"
    "    results = [2.0, 1.5, 4.0, 5e+19]\n    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assertion(candidate(*inp), exp, 0)\n\n",
}
TRI = {
    "task_id": "HumanEval/130",
    "prompt": '\ndef tri(n):\n    """For example:\n    tri(1) = [1, 3]\n    """\n',
    "canonical_solution": "    return list(range(1, n + 3, 2))\n",
    "entry_point": "tri",
    "test": USUAL
    + "\n\n\ndef ref_func(n):\n    return list(range(1, n + 3, 2))\n\n\ndef check(candidate):\n    inputs = [[3], [4], [1], [0]]\n"
    "    for i, inp in enumerate(inputs):\n        assertion(candidate(*inp), ref_func(*inp), 0)\n",
}
MBPP = {
    "task_id": 2,
    "code": "\ndef similar_elements(test_tup1, test_tup2):\n  return tuple(set(test_tup1) & set(test_tup2))\n",
    "prompt": "Write a function to find the shared elements from the given two lists.",
    "source_file": "Benchmark Questions Verification V2.ipynb",
    "test_imports": ["import math"],
    "test_list": [
        "assert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))",
        "assert set(similar_elements((1, 2, 3, 4),(5, 4, 3, 7))) == set((3, 4))",
    ],
    "test": "import numpy as np\nfrom math import inf\n\ndef is_floats(x) -> bool:\n    return isinstance(x, float)\n\ndef assertion(out, exp, atol):\n"
    '    out = set(out)\n    exp = set(exp)\n    assert out == exp, f"out: {out}, exp: {exp}"\n\n\n'
    "inputs = [[(3, 4, 5, 6), (5, 7, 4, 10)], [(1, 2, 3, 4), (5, 4, 3, 7)], [[1, inf], [inf]], [(), ()]]\n"
    "results = [(4, 5), (3, 4), (inf,), ()]\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(similar_elements(*inp), exp, 0)\n",
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
    assert "inputs = [[[1.0, 2.0, 3.0]], [[4]], [[1e20, 0.0]]]" in private(problem)
    assert "results = [2.0, 4.0, 5e+19]" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    assert outcomes(problem, *problem.references, "def mean(xs):\n    return 1.5") == [right, wrong]


def test_without_examples_the_first_are_public(tmp_path: Path) -> None:
    (problem,) = read("humanevalplus", tmp_path, {**HUMANEVAL, "prompt": "def mean(xs):\n"})
    assert [test.code.split(" - ")[0] for test in problem.public_tests if isinstance(test, CodeTest)] == [
        "assert abs(mean([1.0, 2.0, 3.0])",
        "assert abs(mean([1.0, 2.0])",
    ]
    assert "inputs = [[[4]], [[1e20, 0.0]]]" in private(problem)


def test_a_test_that_holds_a_solution_shows_the_docstrings_answer_only(tmp_path: Path) -> None:
    (problem,) = read("humanevalplus", tmp_path, TRI)
    assert problem.public_tests == [CodeTest(code="assert tri(1) == [1, 3]")]
    assert "inputs = [[3], [4], [0]]" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    assert outcomes(problem, *problem.references, "def tri(n):\n    return [1, 3]") == [right, wrong]
    (nothing,) = read("humanevalplus", tmp_path, {**TRI, "prompt": "def tri(n):\n"})
    assert not nothing.public_tests and private(nothing) == TRI["test"]


def test_humaneval_makes_tests_public_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (problem,) = read("humaneval", tmp_path, HUMANEVAL)
    assert not problem.public_tests and private(problem) == HUMANEVAL["test"]
    (asked,) = load(f"humaneval:{tmp_path / 'x.jsonl'}#public")
    (plus,) = load(f"humanevalplus:{tmp_path / 'x.jsonl'}")
    assert asked.model_copy(update={"id": plus.id}) == plus


def test_mbpps_asserts_are_public_and_taken_out_of_evalplus_test(tmp_path: Path) -> None:
    (problem,) = read("mbppplus", tmp_path, MBPP)
    assert (problem.id, problem.entry_point, problem.kind) == ("mbppplus/2", "similar_elements", "function")
    assert problem.public_tests == [CodeTest(code=f"import math\n{text}") for text in MBPP["test_list"]]
    assert problem.prompt.endswith(f"It must satisfy this test:\n{MBPP['test_list'][0]}")
    assert MBPP["test_list"][1] not in problem.prompt
    assert "inputs = [[[1, inf], [inf]], [(), ()]]\nresults = [(inf,), ()]\n" in private(problem)
    right, wrong = (Outcome.PASS, Outcome.PASS), (Outcome.PASS, Outcome.FAILURE)
    answers = "def similar_elements(a, b):\n    return [x for x in a if x in b] if len(a) > 2 else [0]"
    assert outcomes(problem, *problem.references, answers) == [right, wrong]


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"test": None}, "not a row of MBPP+"),
        ({"test_list": []}, "not a row of MBPP+"),
        ({"test_list": ["assert other(1)"]}, "not a row of MBPP+"),
        ({"test": "assert similar_elements(1, 2)"}, ""),
        ({"test": "for i in range(3):\n    similar_elements(i, i)"}, "its test has no inputs in EvalPlus's form"),
        (
            {"test": "inputs = [[(3, 4, 5, 6), (5, 7, 4, 10)]]\nresults = [1]"},
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

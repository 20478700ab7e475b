"""CodeContests: rows in the hub's columns, the odd ones that occur among them, and references in the real executor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.problem_sets.base import load
from cluster.problem_files import write_problems
from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

ADD = "a, b = map(int, input().split())\nprint(a + b)\n"
ROW: dict[str, Any] = {
    "name": "76_B. Sum",
    "description": "Print the sum of two numbers.\n\nExamples\n\nInput\n\n1 2\n\nOutput\n\n3\n",
    "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "private_tests": {"input": ["5 5\n", "1 2\n"], "output": ["10\n", "3\n"]},
    "generated_tests": {"input": ["5 6\n", "5 5\n", "-1 1\r\n"], "output": ["11\n", "10\n", "0\r\n"]},
    "source": 2,
    "difficulty": 8,
    "solutions": {
        "language": [2, 3, 1, 4, 3],
        "solution": ["int main() {}", ADD, "print 1", "class A {}", "print(sum(map(int, input().split())))"],
    },
    "incorrect_solutions": {"language": [3], "solution": ["print(3)"]},
    "cf_contest_id": 76,
    "cf_index": "B",
    "cf_points": 0.0,
    "cf_rating": 2100,
    "cf_tags": ["greedy", "two pointers"],
    "is_description_translated": False,
    "untranslated_description": "",
    "time_limit": {"seconds": 0, "nanos": 500000000},
    "memory_limit_bytes": 256000000,
    "input_file": "",
    "output_file": "",
}
NOTHING: dict[str, Any] = {"input": [], "output": []}


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def one(path: Path, words: str = "", **columns: Any) -> Problem:
    (problem,) = load("code_contests:" + write(path / "x.jsonl", {**ROW, **columns}) + words)
    return problem


def test_a_row_is_a_problem_with_its_limits_tests_and_python_solutions(tmp_path: Path) -> None:
    problem = one(tmp_path)
    assert (problem.id, problem.kind, problem.checker.type) == ("code_contests/codeforces/76_B. Sum", "stdio", "tokens")
    assert problem.prompt == ROW["description"].strip()
    assert problem.public_tests == [StdioTest(input="1 2\n", output="3\n")]
    assert problem.private_tests == [
        StdioTest(input="5 5\n", output="10\n"),
        StdioTest(input="5 6\n", output="11\n"),
        StdioTest(input="-1 1\n", output="0\n"),
    ]
    assert problem.references == [ADD, "print(sum(map(int, input().split())))"]
    assert (problem.time_limit_s, problem.memory_limit_mb) == (0.5, 245)
    assert (problem.difficulty, problem.topics) == (4, ["greedy", "two pointers"])


def test_generated_tests_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    assert one(tmp_path, "#private").private_tests == [StdioTest(input="5 5\n", output="10\n")]


def test_references_pass_and_what_prints_the_public_answer_does_not(tmp_path: Path) -> None:
    problem = one(tmp_path, time_limit=None)
    with Judge(ExecutorSettings()) as judge:
        outcomes = [judge.judge(JudgeRequest(problem, p)).outcome for p in [*problem.references, "print( 3 )"]]
        public = judge.judge(JudgeRequest(problem, "print( 3 )", tests="public")).outcome
    assert outcomes == [Outcome.PASS, Outcome.PASS, Outcome.FAILURE] and public is Outcome.PASS


def test_references_are_checked_by_name_of_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {**ROW, "name": "wrong", "solutions": {"language": [3], "solution": ["print(3)"]}}
    path = write(tmp_path / "x.jsonl", {**ROW, "time_limit": None}, wrong)
    assert write_problems(f"code_contests:{path}", None, check=True) == 1
    told = capsys.readouterr().out
    assert "code_contests/codeforces/wrong: reference 0: failure, 1 of 4 tests; test 2: wrong output" in told
    assert "3 references run at L" in told and ": 2 pass, 1 failure" in told


@pytest.mark.parametrize(
    "limit, seconds",
    [
        (None, 10),
        ({"seconds": 2, "nanos": 0}, 2),
        ({"seconds": 1, "nanos": 500000000}, 1.5),
        ({"seconds": 0, "nanos": 0}, 10),
        ({"seconds": 3, "nanos": None}, 3),
        ({"seconds": None, "nanos": None}, 10),
    ],
)
def test_time_limits(tmp_path: Path, limit: Any, seconds: float) -> None:
    assert one(tmp_path, time_limit=limit).time_limit_s == seconds


@pytest.mark.parametrize("limit, megabytes", [(0, 1024), (None, 1024), (50000, 1024), (64000000, 62), (2**30, 1024)])
def test_memory_limits(tmp_path: Path, limit: Any, megabytes: int) -> None:
    assert one(tmp_path, memory_limit_bytes=limit).memory_limit_mb == megabytes


@pytest.mark.parametrize(
    "rating, difficulty, expected",
    [
        (800, 7, 1),
        (1199, 7, 1),
        (1200, 7, 2),
        (1600, 7, 3),
        (2399, 7, 4),
        (2400, 7, 5),
        (3500, 7, 5),
        (0, 7, None),
        (0, 0, None),
        (0, 1, 1),
        (0, 5, 5),
        (0, "MEDIUM", 2),
        (0, 6, None),
        (None, None, None),
    ],
)
def test_difficulty_is_the_rating_else_the_sites_word(
    tmp_path: Path, rating: Any, difficulty: Any, expected: int | None
) -> None:
    assert one(tmp_path, cf_rating=rating, difficulty=difficulty).difficulty == expected


def test_a_row_of_another_site_has_little_but_its_tests(tmp_path: Path) -> None:
    row = {
        "cf_tags": [""],
        "cf_rating": 0,
        "difficulty": 6,
        "source": 6,
        "name": "p00001 Sum",
        "solutions": NOTHING | {"language": [], "solution": []},
    }
    problem = one(tmp_path, **row)
    assert (problem.id, problem.topics, problem.references, problem.difficulty) == (
        "code_contests/aizu/p00001 Sum",
        [],
        [],
        None,
    )


def test_lists_of_pairs_are_read_too(tmp_path: Path) -> None:
    tests: dict[str, Any] = {
        name: [{"input": i, "output": o} for i, o in zip(ROW[name]["input"], ROW[name]["output"], strict=True)]
        for name in ("public_tests", "private_tests", "generated_tests")
    }
    assert one(tmp_path, "", **tests) == one(tmp_path)


def test_the_same_name_on_two_sites_is_two_problems(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROW, {**ROW, "source": 1})
    assert [p.id for p in load(f"code_contests:{path}")] == [
        "code_contests/codeforces/76_B. Sum",
        "code_contests/codechef/76_B. Sum",
    ]


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"public_tests": NOTHING}, "no public tests"),
        ({"private_tests": NOTHING, "generated_tests": NOTHING}, "no private tests"),
        ({"private_tests": None, "generated_tests": None}, "no private tests"),
        (
            {"private_tests": ROW["public_tests"], "generated_tests": NOTHING},
            "no private tests but those that are public",
        ),
        ({"input_file": "sum.in"}, "it has input_file 'sum.in', and programs here use standard input and output"),
        ({"output_file": "sum.out"}, "it has output_file 'sum.out'"),
        ({"private_tests": {"input": ["1"], "output": []}}, "private_tests: 1 of input and 0 of output"),
        ({"private_tests": {"input": [1], "output": ["1"]}}, "private_tests: inputs and outputs are texts"),
        ({"private_tests": "none"}, "private_tests is not an object with input and output"),
        ({"description": None}, "not a row of CodeContests"),
        ({"description": " "}, "prompt: String should have at least 1 character"),
    ],
)
def test_rows_that_cannot_be_problems_are_left_out_and_named(
    tmp_path: Path, columns: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "x.jsonl", ROW, {**ROW, "name": "other", **columns})
    assert len(load(f"code_contests:{path}")) == 1
    assert f"1 of 2 rows are left out:\n  {path}:2: {reason}" in caplog.text


def test_the_hubs_split_is_called_valid_whatever_reads_it(tmp_path: Path) -> None:
    for name in ("valid", "validation"):
        path = write(tmp_path / f"{name}.jsonl", ROW)
        for word in ("valid", "validation", "valid,private"):
            assert len(load(f"code_contests:{path}#{word}")) == 1
        with pytest.raises(UserError, match="no such split; there: valid"):
            load(f"code_contests:{path}#train")

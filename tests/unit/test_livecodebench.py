"""LiveCodeBench: both forms of tasks, packed tests, the window of dates, and nothing of a pickle that runs."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from actors.problem_sets.base import load
from actors.problem_sets.livecodebench import _problem, _Window
from actors.problem_sets.rows import BrokenRow, Row
from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import FunctionTest, Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome


def cases(kind: str, *pairs: tuple[str, str]) -> str:
    return json.dumps([{"input": given, "output": answer, "testtype": kind} for given, answer in pairs])


def packed(value: Any, protocol: int | None = None) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


STDIN: dict[str, Any] = {
    "question_title": "Sum",
    "question_content": "Print the sum.\n",
    "platform": "atcoder",
    "question_id": "abc301_a",
    "contest_id": "abc301",
    "contest_date": "2023-05-13T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": cases("stdin", ("1 2\n", "3\n")),
    "private_test_cases": packed(cases("stdin", ("1 2\n", "3\n"), ("2 2\r\n", "4\r\n"))),
    "metadata": "{}",
}
CALLS: dict[str, Any] = {
    **STDIN,
    "platform": "leetcode",
    "question_id": "2777",
    "contest_date": "2024-10-31T00:00:00",
    "difficulty": "hard",
    "starter_code": "class Solution:\n    def times(self, nums: List[int], word: str) -> List[str]:\n        ",
    "public_test_cases": cases("functional", ('[1, 2]\n"a b"', '["a b", "a ba b"]')),
    "private_test_cases": cases("functional", ('[]\n""', "[]"), ('[3]\n"é"\n', '["ééé"]')),
    "metadata": '{"func_name": "times"}',
}
TIMES = "class Solution:\n    def times(self, nums, word):\n        return [word * n for n in nums]"


def one(**columns: Any) -> Problem:
    problem = _problem(Row("here", {**columns}), _Window())
    assert problem is not None
    return problem


def write(path: Path, *rows: dict[str, Any]) -> str:
    (path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"livecodebench:{path / 'test.jsonl'}"


def test_a_program_on_standard_streams() -> None:
    problem = one(**STDIN)
    assert (problem.id, problem.kind, problem.checker.type, problem.difficulty) == (
        "livecodebench/abc301_a",
        "stdio",
        "tokens",
        1,
    )
    assert problem.public_tests == [StdioTest(input="1 2\n", output="3\n")]
    assert problem.private_tests == [StdioTest(input="2 2\n", output="4\n")]
    assert (problem.time_limit_s, problem.topics, problem.starter_code) == (6, ["atcoder"], None)
    with Judge(ExecutorSettings()) as judge:
        assert judge.judge(JudgeRequest(problem, "print(sum(map(int, input().split())))")).outcome is Outcome.PASS


def test_a_method_with_an_argument_a_line() -> None:
    problem = one(**CALLS)
    assert (problem.id, problem.kind, problem.entry_point) == ("livecodebench/2777", "function", "Solution().times")
    assert problem.public_tests == [FunctionTest(args=[[1, 2], "a b"], expected=["a b", "a ba b"])]
    assert problem.private_tests == [
        FunctionTest(args=[[], ""], expected=[]),
        FunctionTest(args=[[3], "é"], expected=["ééé"]),
    ]
    assert problem.starter_code is not None and problem.starter_code.startswith(
        "from typing import List\n\nclass Solution:"
    )
    with Judge(ExecutorSettings()) as judge:
        programs = [TIMES, f"{problem.starter_code}\n        return []", TIMES.replace("word * n", "word")]
        assert [judge.judge(JudgeRequest(problem, p)).outcome for p in programs] == [
            Outcome.PASS,
            Outcome.FAILURE,
            Outcome.FAILURE,
        ]


def test_where_answers_are_fractions_a_whole_number_is_as_good() -> None:
    row = {
        **CALLS,
        "public_test_cases": cases("functional", ("4", "2.0")),
        "private_test_cases": cases("functional", ("1", "0.5")),
    }
    problem = one(**row)
    with Judge(ExecutorSettings()) as judge:
        programs = [
            f"class Solution:\n    def times(self, n):\n        return {answer}"
            for answer in ("n / 2", "n // 2 or 0.5", "n / 2 + 1e-12")
        ]
        outcomes = [judge.judge(JudgeRequest(problem, program)).outcome for program in programs]
    assert outcomes == [Outcome.PASS, Outcome.PASS, Outcome.FAILURE]
    assert one(**CALLS).checker.type == "exact"


def test_without_public_tests_some_are_derived() -> None:
    private = cases("stdin", *((f"{n}\n", f"{n}\n") for n in range(5)))
    problem = one(**{**STDIN, "public_test_cases": "[]", "private_test_cases": private})
    assert [len(problem.public_tests), len(problem.private_tests)] == [2, 3]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("text", [cases("stdin", ("é\n\ud800", "\n")), cases("stdin", ("1" * 70_000, "1"))])
def test_packed_tests_of_every_protocol(protocol: int, text: str) -> None:
    problem = one(**{**STDIN, "private_test_cases": packed(text, protocol)})
    assert problem == one(**{**STDIN, "private_test_cases": text})


class Runs:
    """A pickle that calls a function where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_and_does_not(tmp_path: Path, protocol: int) -> None:
    bait = packed(Runs(tmp_path / "ran"), protocol)
    pickle.loads(zlib.decompress(base64.b64decode(bait)))
    assert (tmp_path / "ran").exists()  # the bait works
    (tmp_path / "ran").unlink()
    with pytest.raises(BrokenRow, match="a pickle of more than a text"):
        one(**{**STDIN, "private_test_cases": bait})
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"private_test_cases": "!"}, "private_test_cases: neither JSON nor packed JSON"),
        ({"private_test_cases": "QUJD"}, "private_test_cases: neither JSON nor packed JSON"),
        ({"private_test_cases": packed("[]")[:-8]}, "private_test_cases: "),
        (
            {"private_test_cases": base64.b64encode(zlib.compress(b"\x80\x04N")).decode()},
            "private_test_cases: a pickle of more than a text (NONE)",
        ),
        ({"private_test_cases": base64.b64encode(zlib.compress(b"")).decode()}, "private_test_cases: not a pickle"),
        ({"private_test_cases": packed([])}, "private_test_cases: a pickle of more than a text (EMPTY_LIST)"),
        ({"private_test_cases": packed("{")}, "private_test_cases: not JSON"),
        ({"private_test_cases": "[1]"}, "private_test_cases is not a list of tests"),
        ({"public_test_cases": "[{}]"}, "public_test_cases: a test without texts in input and output"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no tests"),
        ({"public_test_cases": cases("functional", ("1", "1"))}, "its tests are of type functional, stdin"),
        ({"public_test_cases": cases("file", ("1", "1")), "private_test_cases": ""}, "its tests are of type file"),
        ({**CALLS, "metadata": "{}"}, "its tests are calls, and starter_code and func_name"),
        ({**CALLS, "metadata": '{"func_name": "f; x"}'}, "its tests are calls, and starter_code and func_name"),
        ({**CALLS, "metadata": "{"}, "metadata: not JSON"),
        ({**CALLS, "public_test_cases": cases("functional", ("a", "1"))}, "a call's argument or answer: not JSON"),
        ({"question_content": None}, "not a row of LiveCodeBench"),
    ],
)
def test_rows_that_cannot_be_problems_are_left_out_and_named(
    tmp_path: Path, columns: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = write(tmp_path, {**STDIN, "question_id": "good"}, {**STDIN, **columns})
    assert [p.id for p in load(name)] == ["livecodebench/good"]
    assert f"1 of 2 rows are left out:\n  {tmp_path / 'test.jsonl'}:2: {reason}" in caplog.text


@pytest.mark.parametrize(
    "window, ids",
    [
        ("2023-05-13..2024-10-31", ["abc301_a", "2777"]),
        ("2023-05-14..", ["2777"]),
        ("..2024-10", ["abc301_a", "2777"]),
        ("..2024-09", ["abc301_a"]),
        ("..2023-05-13", ["abc301_a"]),
        ("2024..2024", ["2777"]),
        ("..", ["abc301_a", "2777"]),
    ],
)
def test_a_window_of_contest_dates(tmp_path: Path, window: str, ids: list[str]) -> None:
    assert [p.id.removeprefix("livecodebench/") for p in load(write(tmp_path, STDIN, CALLS) + f"#{window}")] == ids


def test_dates_in_other_forms(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert _problem(Row("here", {**STDIN, "contest_date": datetime(2023, 5, 13, 8)}), _Window("2023-05", "2023-05"))
    assert len(load(write(tmp_path, STDIN, {**CALLS, "contest_date": "May 2024"}) + "#2023..")) == 1
    assert "contest_date 'May 2024' is no date" in caplog.text


@pytest.mark.parametrize("words", ["test", "2024", "2024-5..", "2024..,2023..", ""])
def test_what_is_no_window_is_told(tmp_path: Path, words: str) -> None:
    with pytest.raises(UserError, match=r"after # is a window of dates, like 2024-05\.\.2024-10"):
        load(write(tmp_path, STDIN) + f"#{words}")

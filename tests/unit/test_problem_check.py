"""`cupel problems --check`: every reference is run against the tests of its problem, and what disagrees is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from cluster import problem_files
from cluster.problem_files import write_problems
from executor.errors import UserError
from executor.files import load_problems
from executor.judging import JudgeRequest
from executor.problem import Problem
from executor.verdict import Outcome


def line(name: str, *references: str, **rest: object) -> str:
    problem = {
        "id": name,
        "prompt": "Add.",
        "kind": "function",
        "entry_point": "add",
        "public_tests": [{"args": [1, 2], "expected": 3}],
        "private_tests": [{"args": [0, 5], "expected": 5}],
        "references": references,
    }
    return json.dumps({**problem, **rest}) + "\n"


RIGHT, WRONG = "def add(a, b):\n    return a + b", "def add(a, b):\n    return 3"


def test_references_that_disagree_are_told_one_by_one_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line("a", RIGHT, WRONG) + line("b", "def add(a, b):\n    return x") + line("c") + line("d", RIGHT))
    assert write_problems(str(path), tmp_path / "out.jsonl", check=True) == 1
    assert load_problems(tmp_path / "out.jsonl") == load_problems(path)
    first, *found, counts, solved = capsys.readouterr().out.splitlines()
    assert first == f"4 problems, 8 tests -> {tmp_path / 'out.jsonl'}"
    assert found == [
        "a: reference 1: failure, 1 of 2 tests; test 2: wrong answer",
        "b: reference 0: error, 0 of 2 tests; test 1: NameError: name 'x' is not defined",
    ]
    assert counts.startswith("4 references run at L") and counts.endswith(": 2 pass, 1 failure, 1 error")
    assert solved == "4 problems: 2 with a reference that passes, 1 with none that passes, 1 without a reference"


def test_as_many_references_of_a_problem_as_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line("a", RIGHT, RIGHT, WRONG))
    assert write_problems(str(path), None, check=True, references=2) == 0
    assert "2 references run" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_check_cannot_do_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line("a", RIGHT, language="java"))
    with pytest.raises(UserError, match="'a': language java: not in this version"):
        write_problems(str(path), None, check=True)
    with pytest.raises(UserError, match=r"--out FILE\.jsonl to write the problems, --check"):
        write_problems(str(path), None, check=False)
    with pytest.raises(UserError, match="add --check"):
        write_problems(str(path), tmp_path / "y.jsonl", check=False, references=1)


def test_references_are_handed_over_as_verdicts_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_files, "cores", lambda: 1)
    problem = Problem.model_validate_json(line("a", RIGHT))
    drawn = 0

    def requests() -> Iterator[JudgeRequest]:
        nonlocal drawn
        for index in range(1000):
            drawn += 1
            yield JudgeRequest(problem, RIGHT, index=index)

    class Pool:
        def submit(self, request: JudgeRequest) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(problem_files.Judged(Outcome.PASS, str(request.index)))
            return future

    verdicts = problem_files._in_order(Pool(), requests())  # type: ignore[arg-type]
    assert next(verdicts)[1].line == "0" and drawn < 50
    assert [int(judged.line) for _, judged in verdicts] == list(range(1, 1000))

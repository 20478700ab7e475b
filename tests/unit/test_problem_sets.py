"""Problem sets by name: what is read is what the data say, and what is wrong is told with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.problem_sets import jsonl
from actors.problem_sets.base import forms, kinds, load
from actors.problem_sets.mbpp import PARTS, entry_point
from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, FunctionTest, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STARTER = Path(__file__).resolve().parents[2] / "actors" / "problem_sets" / "starter"
data = pytest.mark.skipif(not DATA.is_dir(), reason="the data sets (../shared/data) are not beside this checkout")

PROBLEM = {
    "id": "p",
    "prompt": "Add.",
    "kind": "function",
    "entry_point": "add",
    "private_tests": [{"args": [1, 2], "expected": 3}, {"args": [0, 0], "expected": None}],
}


def write(path: Path, *rows: object) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_a_kind_is_a_file_of_the_folder() -> None:
    folder = STARTER.parent
    assert set(kinds()) == {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "jsonl"}
    assert len(forms()) == len(kinds()) + 1


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(UserError) as caught:
        load("mbbp")
    assert all(kind in str(caught.value) for kind in kinds())


def test_the_starter_halves_share_no_problem() -> None:
    train, held_out = load("starter:train"), load("starter:held_out")
    assert train and held_out
    assert not {p.id for p in train} & {p.id for p in held_out}
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert load("starter") == train + held_out
    assert load("starter:train", 3) == train[:3]
    with pytest.raises(UserError, match="starter:train and starter:held_out"):
        load("starter:wrong")


def test_every_starter_problem_has_public_and_private_tests_and_a_reference() -> None:
    for problem in load("starter"):
        assert problem.public_tests and problem.private_tests and problem.references, problem.id
        assert not set(map(repr, problem.public_tests)) & set(map(repr, problem.private_tests)), problem.id


def test_own_form_goes_around_unchanged(tmp_path: Path) -> None:
    problems = load(write(tmp_path / "a.jsonl", PROBLEM))
    (tmp_path / "b.jsonl").write_text(jsonl.dump(problems))
    assert load(str(tmp_path / "b.jsonl")) == problems
    starter = load("starter")
    (tmp_path / "c.jsonl").write_text(jsonl.dump(starter))
    assert load(str(tmp_path / "c.jsonl")) == starter


@pytest.mark.parametrize(
    "rows, message",
    [
        (["{"], r"x\.jsonl:1: not JSON"),
        ([PROBLEM, {**PROBLEM, "id": "q", "private_tests": []}], r"x\.jsonl:2: .*problem 'q' has no tests"),
        ([PROBLEM, "", PROBLEM], r"x\.jsonl:3: problem 'p' is already on line 1"),
        ([{**PROBLEM, "colour": 1}], r"x\.jsonl:1: colour: Extra inputs"),
        ([{**PROBLEM, "time_limit_s": -1}], r"x\.jsonl:1: time_limit_s"),
        ([], r"x\.jsonl: no problems"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path / "x.jsonl", *rows))


def test_a_file_that_is_not_there_or_of_another_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(UserError, match=r"mbpp:.*or apps:"):
        load(write(tmp_path / "x.json", PROBLEM))


# MBPP ----------------------------------------------------------------------------------------------------------------

HUB = {
    "task_id": 601,
    "text": "Add.",
    "code": "def add(a, b):\n    return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
}
MXEVAL = {
    "task_id": "MBPP/11",
    "prompt": '\n\ndef add(a, b):\n\t"""Add."""\n',
    "canonical_solution": "\treturn a + b",
    "entry_point": "add",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "description": "Add.",
}


def test_mbpp_in_the_hubs_columns(tmp_path: Path) -> None:
    (problem,) = load("mbpp:" + write(tmp_path / "x.jsonl", {**HUB, "test_setup_code": "import math"}))
    assert (problem.id, problem.kind, problem.entry_point) == ("mbpp/601", "function", "add")
    assert "assert add(1, 2) == 3" in problem.prompt
    assert "add(0, 0)" not in problem.prompt
    assert problem.public_tests == [CodeTest(code="import math\nassert add(1, 2) == 3")]
    assert problem.private_tests == [CodeTest(code="import math\nassert add(0, 0) == 0")]


def test_mbpp_in_mxevals_form(tmp_path: Path) -> None:
    (problem,) = load("mbpp:" + write(tmp_path / "x.jsonl", MXEVAL))
    assert (problem.id, problem.kind, problem.entry_point) == ("mbpp/11", "script", "add")
    assert problem.starter_code is not None and problem.starter_code.startswith("def add")
    with Judge(ExecutorSettings()) as judge:
        assert judge.judge(JudgeRequest(problem, problem.references[0])).outcome is Outcome.PASS


def test_mbpp_parts_go_by_task_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", HUB, MXEVAL)
    assert [p.id for p in load(f"mbpp:{path}#train")] == ["mbpp/601"]
    assert [p.id for p in load(f"mbpp:{path}#test")] == ["mbpp/11"]
    with pytest.raises(UserError, match="no problems"):
        load(f"mbpp:{path}#validation")
    with pytest.raises(UserError, match="few_shot, test, validation, train"):
        load(f"mbpp:{path}#tset")


@pytest.mark.parametrize("row", [{"task_id": "MBJP/1"}, {"task_id": 1}, {**HUB, "test_list": []}, {"id": 3}])
def test_rows_that_are_not_mbpps_are_told_with_their_line(tmp_path: Path, row: dict) -> None:
    path = write(tmp_path / "x.jsonl", HUB, row)
    with pytest.raises(UserError, match=r"x\.jsonl:2: "):
        load(f"mbpp:{path}")


def test_the_entry_point_is_the_function_that_the_test_calls() -> None:
    assert entry_point("assert set(f(g(1))) == {1}", "def g(x): pass\ndef f(x): pass") == "f"
    assert entry_point("assert h(1)", "def f(x): pass") is None
    assert entry_point("assert (", "def f(x): pass") is None


@data
def test_all_of_mbpp_is_read_and_its_parts_cover_it() -> None:
    hub, mxeval = load(f"mbpp:{DATA / 'mbpp_hub_schema.jsonl'}"), load(f"mbpp:{DATA / 'mbpp_mxeval.jsonl'}")
    assert len(hub) == len(mxeval) == 974
    assert [p.id for p in hub] == [p.id for p in mxeval]
    assert all(p.entry_point and p.references for p in [*hub, *mxeval])
    assert sum(a.entry_point == b.entry_point for a, b in zip(hub, mxeval, strict=True)) > 950
    parts = [load(f"mbpp:{DATA / 'mbpp_hub_schema.jsonl'}#{part}") for part in PARTS]
    assert [len(p) for p in parts] == [10, 500, 90, 374]


# APPS ----------------------------------------------------------------------------------------------------------------


@data
def test_apps_is_the_same_as_folders_and_in_the_hubs_columns() -> None:
    folders, hub = load(f"apps:{DATA / 'apps_sample'}"), load(f"apps:{DATA / 'apps_hub_schema.jsonl'}")
    assert sorted(folders, key=lambda p: p.id) == sorted(hub, key=lambda p: p.id)
    by_id = {p.id: p for p in folders}
    assert by_id["apps/1"].kind == "stdio"
    assert by_id["apps/1"].private_tests == [StdioTest(input="3\n2 2 3\n4 3 7\n10 1 9\n", output="1\n6\n-1\n")]
    assert by_id["apps/2404"].entry_point == "Solution().findKthPositive"
    assert by_id["apps/2404"].private_tests == [FunctionTest(args=[[2, 3, 4, 7, 11], 5], expected=9)]
    assert by_id["apps/4184"].public_tests == [FunctionTest(args=[1], expected=False)]


@data
def test_apps_first_references_pass() -> None:
    problems = load(f"apps:{DATA / 'apps_hub_schema.jsonl'}")
    with Judge(ExecutorSettings()) as judge:
        outcomes = {p.id: judge.judge(JudgeRequest(p, p.references[0])).outcome for p in problems}
    assert outcomes == dict.fromkeys(outcomes, Outcome.PASS)


def test_apps_problems_without_tests_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"problem_id": 1, "question": "Echo.", "input_output": json.dumps({"inputs": ["a\n"], "outputs": ["a\n"]})}
    path = write(tmp_path / "x.jsonl", row, {**row, "problem_id": 2, "input_output": ""})
    assert [p.id for p in load(f"apps:{path}")] == ["apps/1"]
    assert "1 problems without tests" in caplog.text


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": "x"}, "not a row of APPS"),
        ({"question": "x", "input_output": "{"}, "not JSON"),
        ({"question": "x", "input_output": '{"inputs": ["a"], "outputs": []}'}, "1 inputs and 0 outputs"),
    ],
)
def test_rows_that_are_not_apps_are_told_with_their_line(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.jsonl:1: .*{message}|x\.jsonl:1: {message}"):
        load("apps:" + write(tmp_path / "x.jsonl", row))

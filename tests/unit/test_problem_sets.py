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
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest
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
    others = {"__init__", "base", "code_cases", "hub", "jsonl", "public_tests", "rows"}
    assert set(kinds()) == {path.stem for path in folder.glob("*.py")} - others
    assert len(forms()) == len(kinds()) + 2


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


def test_starter_takes_several_names_in_their_order() -> None:
    train, second_try = load("starter:train"), load("starter:second_try_train")
    assert load("starter:train,second_try_train") == train + second_try
    assert load("starter:second_try_train, train") == second_try + train


@pytest.mark.parametrize(
    "rest, message",
    [
        ("wrong", "'starter:wrong': no starter problems are named 'wrong'; there are starter:train, starter:held_out"),
        ("second_try_wrong", "are named 'second_try_wrong'"),
        ("train,wrong", "'starter:train,wrong': no starter problems are named 'wrong'"),
        ("train,", "are named ''"),
        ("train,held_out,train", "'train' comes twice"),
    ],
)
def test_an_unknown_starter_name_is_refused(rest: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(f"starter:{rest}")


def test_every_starter_problem_has_public_and_private_tests_and_a_reference() -> None:
    for problem in load("starter:train,held_out,second_try_train,second_try_held_out"):
        assert problem.public_tests and problem.private_tests and problem.references, problem.id
        assert not set(map(repr, problem.public_tests)) & set(map(repr, problem.private_tests)), problem.id


def test_own_form_goes_around_unchanged(tmp_path: Path) -> None:
    problems = load(write(tmp_path / "a.jsonl", PROBLEM))
    (tmp_path / "b.jsonl").write_text(jsonl.dump(problems))
    assert load(str(tmp_path / "b.jsonl")) == problems
    starter = load("starter")
    (tmp_path / "c.jsonl").write_text(jsonl.dump(starter))
    assert load(str(tmp_path / "c.jsonl")) == starter
    halved = load(write(tmp_path / "d.jsonl", {**PROBLEM, "private_tests": [{"args": ["\ud800"], "expected": "é"}]}))
    (tmp_path / "e.jsonl").write_text(jsonl.dump(halved), encoding="utf-8")
    assert load(str(tmp_path / "e.jsonl")) == halved


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


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"task_id": "MBXP/1"}, "not a row of MBPP"),
        ({"task_id": 1}, "neither hub columns"),
        ({**HUB, "task_id": 1, "test_list": []}, "no tests"),
        ({"id": 3}, "found None"),
        ({**MXEVAL, "test": None}, "prompt, test and entry_point"),
        ({**MXEVAL, "task_id": "MBJP/1", "language": "java"}, "its language is 'java'"),
    ],
)
def test_rows_that_are_not_mbpps_are_left_out_and_told_with_their_line(
    tmp_path: Path, row: dict, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "x.jsonl", HUB, row)
    assert [p.id for p in load(f"mbpp:{path}")] == ["mbpp/601"]
    assert f"{path}:2: " in caplog.text and reason in caplog.text


def test_mbpps_many_tests_of_evalplus_are_private(tmp_path: Path) -> None:
    plus = {
        **HUB,
        "text": None,
        "prompt": "Add.",
        "test_imports": ["import math"],
        "test": "import numpy as np\n\nfor a, b in [(1, 2), (3, 4)]:\n    assert np.isclose(add(a, b), a + b)\n",
    }
    (problem,) = load("mbpp:" + write(tmp_path / "x.jsonl", plus))
    assert [len(problem.public_tests), len(problem.private_tests)] == [1, 2]
    with Judge(ExecutorSettings()) as judge:
        outcomes = [
            judge.judge(JudgeRequest(problem, p)).outcome
            for p in (HUB["code"], "def add(a, b): return max(3 * b - 3, 0)")
        ]
    assert outcomes == [Outcome.PASS, Outcome.FAILURE]


def test_all_asserts_are_shown_where_they_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", HUB)
    (one,), (all_of_them,) = load(f"mbpp:{path}"), load(f"mbpp:{path}#train,asserts")
    assert all_of_them.prompt == "Add.\n\nIt must satisfy these tests:\nassert add(1, 2) == 3\nassert add(0, 0) == 0"
    assert all_of_them.model_copy(update={"prompt": one.prompt}) == one


def test_three_worked_examples_go_before_the_question_and_are_no_problems(tmp_path: Path) -> None:
    others = [
        {**HUB, "task_id": n, "text": f"Task {n}.", "code": f"def add(a, b):\r\n    return {n}"} for n in (4, 3, 2, 1)
    ]
    path = write(tmp_path / "x.jsonl", *others, HUB)
    problems = load(f"mbpp:{path}#shots")
    assert [p.id for p in problems] == ["mbpp/1", "mbpp/601"]
    before, question = problems[1].prompt.split("The next task:\n\n")
    assert question == load(f"mbpp:{path}#train")[0].prompt
    assert [before.index(f"Task {n}.") for n in (2, 3, 4)] == sorted(before.index(f"Task {n}.") for n in (2, 3, 4))
    assert before.count("```python\ndef add(a, b):\n    return") == 3
    with pytest.raises(UserError, match=r"shots needs MBPP's tasks 2, 3 and 4.*missing: 2, 4"):
        load("mbpp:" + write(tmp_path / "y.jsonl", others[1], HUB) + "#shots")


@pytest.mark.parametrize("words", ["tset", "test,train", "shots,many", ""])
def test_words_that_mbpp_does_not_have_are_told(tmp_path: Path, words: str) -> None:
    with pytest.raises(
        UserError, match="MBPP has one of the parts few_shot, test, validation, train, and asserts, shots"
    ):
        load(f"mbpp:{write(tmp_path / 'x.jsonl', HUB)}#{words}")


def test_mxevals_form_shows_all_tests_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="asserts and shots are for the hub's columns"):
        load(f"mbpp:{write(tmp_path / 'x.jsonl', MXEVAL)}#asserts")


@data
def test_java_is_refused_with_a_clear_line() -> None:
    with pytest.raises(
        UserError, match=r"none of 966 rows can be used; the first:\n.*:1: its language is 'java', and this"
    ):
        load(f"mbpp:{DATA / 'mbjp_mxeval.jsonl'}")


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


# HumanEval -----------------------------------------------------------------------------------------------------------

HUMANEVAL = {
    "task_id": "HumanEval/38",
    "prompt": 'from typing import List\n\ndef turn(s: str):\n    return s[1:] + s[:1]\n\n\ndef back(s: str):\n    """Undo."""\n',
    "canonical_solution": "    return s[-1:] + s[:-1]\n",
    "entry_point": "back",
    "test": "METADATA = {}\n\n\ndef check(candidate):\n    for s in ('abc', 'de'):\n        assert candidate(turn(s)) == s\n",
}


def test_humaneval_is_a_signature_to_go_on_from_and_a_check(tmp_path: Path) -> None:
    (problem,) = load("humaneval:" + write(tmp_path / "x.jsonl", HUMANEVAL))
    assert (problem.id, problem.kind, problem.entry_point) == ("humaneval/38", "script", "back")
    assert problem.starter_code is not None and problem.starter_code.startswith("from typing")
    assert not problem.public_tests
    with Judge(ExecutorSettings()) as judge:
        programs = [*problem.references, "def back(s):\n    return s[-1:] + s[:-1]", "def back(s):\n    return s"]
        outcomes = [judge.judge(JudgeRequest(problem, program)).outcome for program in programs]
    assert outcomes == [Outcome.PASS, Outcome.PASS, Outcome.FAILURE]


def test_humanevals_test_is_left_as_it_is_where_it_needs_nothing_of_the_prompt(tmp_path: Path) -> None:
    row = {**HUMANEVAL, "test": "def check(candidate):\n    assert candidate('ab') == 'ba'\n"}
    (problem,) = load("humaneval:" + write(tmp_path / "x.jsonl", row))
    assert problem.private_tests == [CodeTest(code=row["test"])]


def test_humanevals_rows_that_are_something_else_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [HUMANEVAL, {**HUMANEVAL, "task_id": "Java/1"}, {**HUMANEVAL, "task_id": "HumanEval/2", "entry_point": None}]
    assert len(load("humaneval:" + write(tmp_path / "x.jsonl", *rows))) == 1
    assert (
        "task_id like HumanEval/11; found 'Java/1'" in caplog.text
        and "texts in prompt, test and entry_point" in caplog.text
    )
    with pytest.raises(UserError, match="it needs a source"):
        load("humaneval:")


# APPS ----------------------------------------------------------------------------------------------------------------


@data
def test_apps_is_the_same_as_folders_and_in_the_hubs_columns() -> None:
    folders, hub = load(f"apps:{DATA / 'apps_sample'}"), load(f"apps:{DATA / 'apps_hub_schema.jsonl'}")
    assert {p.id for p in folders} == {
        "apps/train/1",
        "apps/train/111",
        "apps/train/2287",
        "apps/train/2404",
        "apps/train/4184",
    }
    by_id = {p.id.replace("train/", ""): p.model_copy(update={"id": p.id.replace("train/", "")}) for p in folders}
    assert by_id == {p.id: p for p in hub}
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


APPS = {"problem_id": 1, "question": "Echo."}


def apps(path: Path, tests: object, **columns: object) -> Problem:
    text = tests if isinstance(tests, str) else json.dumps(tests)
    (problem,) = load("apps:" + write(path / "x.jsonl", {**APPS, "input_output": text, **columns}))
    return problem


def test_apps_problems_without_tests_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {**APPS, "input_output": json.dumps({"inputs": ["a\n"], "outputs": ["a\n"]})}
    others = [
        {**row, "problem_id": n, "input_output": text} for n, text in enumerate(("", "{}", '{"inputs": []}', None), 2)
    ]
    path = write(tmp_path / "x.jsonl", row, *others)
    assert [p.id for p in load(f"apps:{path}")] == ["apps/1"]
    assert "4 of 5 rows are left out" in caplog.text and f"{path}:2: no tests" in caplog.text


@pytest.mark.parametrize(
    "given, text",
    [
        ("3\n1 2 3\n", "3\n1 2 3\n"),
        (["3", "1 2 3"], "3\n1 2 3"),
        (["3\n", "1 2 3\n"], "3\n1 2 3"),
        ([["3", "1 2 3"]], "3\n1 2 3"),
        ([3, [1, 2, 3]], "3\n1 2 3"),
        (7, "7"),
        (2.5, "2.5"),
        (True, "True"),
        ([], ""),
    ],
)
def test_apps_text_of_a_stream_in_the_shapes_that_occur(tmp_path: Path, given: object, text: str) -> None:
    problem = apps(tmp_path, {"inputs": [given], "outputs": [given]})
    assert problem.private_tests == [StdioTest(input=text, output=text)]


@pytest.mark.parametrize(
    "outputs, url, expected",
    [
        ([[3], [4]], "", [3, 4]),
        ([[[3]], [[]]], "", [[3], []]),
        ([3, 4], "", [3, 4]),
        ([[3], 4], "", [[3], 4]),
        ([[3], [4]], "https://leetcode.com/problems/x/", [[3], [4]]),
    ],
)
def test_apps_answers_of_functions_are_taken_out_of_their_lists(
    tmp_path: Path, outputs: list, url: str, expected: list
) -> None:
    problem = apps(tmp_path, {"fn_name": "f", "inputs": [[1], [2]], "outputs": outputs}, url=url)
    tests = [*problem.public_tests, *problem.private_tests]
    assert tests == [FunctionTest(args=[n], expected=e) for n, e in enumerate(expected, 1)]


def test_apps_calls_with_one_argument_that_is_not_in_a_list(tmp_path: Path) -> None:
    problem = apps(tmp_path, {"fn_name": "f", "inputs": "word", "outputs": ["drow"]})
    assert problem.private_tests == [FunctionTest(args=["word"], expected="drow")]


def test_apps_whole_numbers_as_keys_are_numbers_again(tmp_path: Path) -> None:
    tests = {"fn_name": "f", "inputs": [[{"1": "a", "-2": "b"}]], "outputs": [[{"a": 1, "b": -2}]]}
    problem = apps(tmp_path, tests, solutions=json.dumps(["def f(d):\n    return {v: k for k, v in d.items()}"]))
    assert problem.private_tests == [CodeTest(code="assert f({1: 'a', -2: 'b'}) == {'a': 1, 'b': -2}")]
    with Judge(ExecutorSettings()) as judge:
        assert judge.judge(JudgeRequest(problem, problem.references[0])).outcome is Outcome.PASS


def test_apps_columns_may_hold_values_in_place_of_json(tmp_path: Path) -> None:
    row = {**APPS, "input_output": {"inputs": ["a"], "outputs": ["a"]}, "solutions": ["print(input())"]}
    (problem,) = load("apps:" + write(tmp_path / "train.jsonl", row))
    assert (problem.id, problem.references) == ("apps/train/1", ["print(input())"])


def test_apps_folders_that_are_broken_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tests = json.dumps({"inputs": ["a\n"], "outputs": ["a\n"]})
    for name, broken in {
        "0001": {},
        "0002": {"metadata.json": b"{"},
        "0003": {"question.txt": b"\xff"},
        "0004": {},
    }.items():
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        for file, text in {"question.txt": b"Echo.", "input_output.json": tests.encode(), **broken}.items():
            (folder / file).write_bytes(text)
    (tmp_path / "test" / "0004" / "input_output.json").unlink()
    assert [p.id for p in load(f"apps:{tmp_path}")] == ["apps/test/1"]
    for reason in ("0002: not JSON", "0003: question.txt: not UTF-8 text", "0004: no tests"):
        assert reason in caplog.text


@pytest.mark.parametrize(
    "row, message",
    [
        ({"question": "x"}, "not a row of APPS"),
        ({**APPS, "input_output": "{"}, "input_output: not JSON"),
        ({**APPS, "input_output": "[1]"}, "not an object with inputs and outputs"),
        ({**APPS, "input_output": '{"inputs": ["a"], "outputs": []}'}, "1 inputs and 0 outputs"),
        ({**APPS, "input_output": '{"inputs": [null], "outputs": ["a"]}'}, "NoneType, which is no text"),
        (
            {**APPS, "input_output": '{"inputs": [' + "1" * 5000 + '], "outputs": [1]}'},
            "input_output: Exceeds the limit",
        ),
        ({**APPS, "input_output": '{"inputs": ["a"], "outputs": ["a"]}', "solutions": "["}, "solutions: not JSON"),
    ],
)
def test_rows_that_are_not_apps_are_told_with_their_line(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"x\.jsonl:1: .*{message}|x\.jsonl:1: {message}"):
        load("apps:" + write(tmp_path / "x.jsonl", row))

"""Rows of foreign data sets: what is right is loaded, what is broken is told, whatever is in it; the `datasets` library
is real but for the hub, which no test reaches.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.problem_sets import apps, code_contests, humaneval, humanevalplus, jsonl, livecodebench, mbpp, mbppplus
from actors.problem_sets.base import load
from actors.problem_sets.rows import BrokenRow, Row, good, of_split, rows
from executor.errors import UserError
from executor.files import load_problems
from executor.problem import Problem

MBPP = {"task_id": 11, "text": "One.", "code": "def f(): return 1", "test_list": ["assert f() == 1"]}
APPS = {"problem_id": 1, "question": "Echo.", "input_output": '{"inputs": ["a\\n"], "outputs": ["a\\n"]}'}
CODE_CONTESTS = {
    "name": "1_A. One",
    "description": "Echo.",
    "public_tests": {"input": ["1"], "output": ["1"]},
    "private_tests": {"input": ["2"], "output": ["2"]},
    "generated_tests": {"input": [], "output": []},
    "source": 2,
    "difficulty": 7,
    "solutions": {"language": [3], "solution": ["print(input())"]},
    "cf_rating": 800,
    "cf_tags": ["math"],
    "time_limit": {"seconds": 1, "nanos": 0},
    "memory_limit_bytes": 256000000,
    "input_file": "",
    "output_file": "",
}
LIVECODEBENCH = {
    "question_content": "One more.",
    "platform": "leetcode",
    "question_id": "1",
    "contest_date": "2024-05-01T00:00:00",
    "starter_code": "class Solution:\n    def f(self, n: int) -> int:\n        ",
    "difficulty": "easy",
    "public_test_cases": '[{"input": "1", "output": "2", "testtype": "functional"}]',
    "private_test_cases": '[{"input": "2", "output": "3", "testtype": "functional"}]',
    "metadata": '{"func_name": "f"}',
}
HUMANEVAL = {
    "task_id": "HumanEval/3",
    "prompt": 'def f(x):\n    """One more."""\n',
    "canonical_solution": "    return x + 1\n",
    "entry_point": "f",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


def lines(path: Path, *values: object) -> str:
    path.write_text("".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values))
    return str(path)


def problem(row: Row) -> Problem | None:
    if "id" not in row.columns:
        raise BrokenRow("no id")
    if row.columns.get("unwanted"):
        return None
    return Problem(id=row.columns["id"], prompt="p", kind="script", private_tests=[{"code": "pass"}])  # type: ignore[list-item]


# What is broken ------------------------------------------------------------------------------------------------------


def test_broken_rows_are_left_out_and_the_first_few_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = lines(
        tmp_path / "x.jsonl", {"id": "a"}, "{", "", [1], {}, {"id": "a"}, {"id": "b", "unwanted": 1}, {"id": "c"}
    )
    assert [p.id for p in good(path, rows(path), problem)] == ["a", "c"]
    first, *told = caplog.messages[0].splitlines()
    assert first == f"{path}: 4 of 7 rows are left out:"
    assert [line.strip() for line in told] == [
        f"{path}:2: not JSON: Expecting property name enclosed in double quotes (column 2)",
        f"{path}:4: not an object",
        f"{path}:5: no id",
        "and 1 more",
    ]


def test_a_row_whose_id_is_there_already_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = lines(tmp_path / "x.jsonl", MBPP, MBPP)
    assert [p.id for p in load(f"mbpp:{path}")] == ["mbpp/11"]
    assert f"{path}:2: problem 'mbpp/11' is already at {path}:1" in caplog.text


@pytest.mark.parametrize("values", [["{"], [{}, {}], ["1" * 5000], ["[" * 100_000]])
def test_a_set_without_one_good_row_is_a_mistake(tmp_path: Path, values: list[object]) -> None:
    path = lines(tmp_path / "x.jsonl", *values)
    with pytest.raises(
        UserError, match=rf"none of {len(values)} rows can be used; the first:\n.*x\.jsonl:1: "
    ) as caught:
        good(path, rows(path), problem)
    assert len(str(caught.value)) < 500


def test_nothing_is_told_of_rows_that_are_right(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = lines(tmp_path / "x.jsonl", {"id": "a"}, {"id": "b", "unwanted": 1})
    assert len(good(path, rows(path), problem)) == 1
    assert not caplog.messages


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("1"), inner, max_size=3),
    max_leaves=6,
)
READERS: list[tuple[Any, dict[str, Any]]] = [
    (apps._problem, {**APPS, "solutions": "[]", "starter_code": "", "difficulty": "interview", "url": "x"}),
    (apps._problem, {**APPS, "input_output": {"inputs": [[1]], "outputs": [2], "fn_name": "f"}}),
    (humaneval._problem, HUMANEVAL),
    (lambda row: mbpp._problem(row, mbpp._Wanted(None, True)), {**MBPP, "test_imports": ["import math"], "test": ""}),
    (lambda row: mbpp._problem(row, mbpp._Wanted(None, False)), {**HUMANEVAL, "task_id": "MBPP/3", "description": "d"}),
    (humanevalplus._problem, HUMANEVAL),
    (
        mbppplus._problem,
        {**MBPP, "test_imports": [], "test": "inputs = [[], [1]]\nresults = [1, 2]\nfor i in inputs: f(*i)"},
    ),
    (lambda row: code_contests._problem(row, True), CODE_CONTESTS),
    (lambda row: livecodebench._problem(row, livecodebench._Window("2024", "")), LIVECODEBENCH),
]


@given(st.sampled_from(READERS), st.data())
def test_a_row_with_anything_in_a_column_is_a_problem_or_broken(reader: tuple[Any, dict], data: st.DataObject) -> None:
    read, row = reader
    column = data.draw(st.sampled_from(sorted(row)))
    value = data.draw(json_values)
    if column in ("input_output", "solutions") and data.draw(st.booleans()):
        value = json.dumps(value)
    elif column == "input_output":
        value = {"inputs": data.draw(json_values), "outputs": data.draw(json_values), "fn_name": data.draw(json_values)}
    try:
        made = read(Row("here", {**row, column: value}))
    except BrokenRow as broken:
        reason = str(broken)
        assert reason and "\n" not in reason
    else:
        assert made is None or Problem.model_validate_json(jsonl.dump([made])) == made


# Where rows come from ------------------------------------------------------------------------------------------------


def test_a_packed_file_is_read_and_a_missing_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(json.dumps(MBPP).encode()))
    (row,) = rows(str(tmp_path / "test.jsonl.gz"))
    assert row == Row(f"{tmp_path / 'test.jsonl.gz'}:1", MBPP, "test")
    for missing in ("nothing", "nothing.jsonl", "some/where.jsonl", "./a/b", "/a/b"):
        with pytest.raises(UserError, match="no such file or folder; a set is"):
            list(rows(missing))


def test_one_split_of_those_that_there_are() -> None:
    some = [Row("a", split="train"), Row("b", split="test"), Row("c", split="train")]
    assert [row.place for row in of_split("x", some, ["train"])] == ["a", "c"]
    assert len(list(of_split("x", some, []))) == 3
    with pytest.raises(UserError, match="x#dev: no such split; there: train, test"):
        list(of_split("x", some, ["dev"]))
    with pytest.raises(UserError, match="one split at a time"):
        list(of_split("x", some, ["train", "test"]))


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return library


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_a_folder_of_data_files_is_read_split_by_split(tmp_path: Path, datasets: Any, form: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for split, ids in {"train": [1, 2], "test": [1]}.items():
        table = datasets.Dataset.from_list([{**APPS, "problem_id": n, "solutions": '["print(input())"]'} for n in ids])
        path = folder / f"{split}-00000-of-00001.{form}"
        if form == "parquet":
            table.to_parquet(path)
        else:
            table.to_json(path)
    assert sorted(p.id for p in load(f"apps:{folder}")) == ["apps/test/1", "apps/train/1", "apps/train/2"]
    assert [p.id for p in load(f"apps:{folder}#test")] == ["apps/test/1"]
    with pytest.raises(UserError, match="no such split"):
        load(f"apps:{folder}#validation")


@pytest.mark.parametrize("name", ["x.parquet", "x.json"])
def test_a_parquet_or_json_file_is_read(tmp_path: Path, datasets: Any, name: str) -> None:
    if name == "x.json":
        (tmp_path / name).write_text(json.dumps([MBPP, {**MBPP, "task_id": 12}]))
    else:
        datasets.Dataset.from_list([MBPP, {**MBPP, "task_id": 12}]).to_parquet(tmp_path / name)
    problems = load(f"mbpp:{tmp_path / name}#test")
    assert [p.id for p in problems] == ["mbpp/11", "mbpp/12"]
    assert problems[0].references == [MBPP["code"]]


def test_what_the_library_cannot_read_is_told_in_two_lines(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "empty").mkdir()
    for name, meaning in {"torn.parquet": "cannot be read", "empty": "not a folder of data files"}.items():
        with pytest.raises(UserError, match=meaning) as caught:
            load(f"mbpp:{tmp_path / name}")
        assert len(str(caught.value).splitlines()) == 2


class Hub:
    """Stands for `datasets.load_dataset` of the hub."""

    def __init__(self, **sets: dict[str, list[dict[str, Any]]] | Exception) -> None:
        self.sets = {name.replace("__", "/"): found for name, found in sets.items()}
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []

    def __call__(self, path: str, name: str | None = None, **options: Any) -> dict[str, list[dict[str, Any]]]:
        self.asked.append((path, name, options))
        found = self.sets[path]
        if isinstance(found, Exception) and "revision" not in options:
            raise found
        return {"test": [APPS]} if isinstance(found, Exception) else found


def test_a_data_set_of_the_hub_is_asked_for_by_name(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(google__mbpp={"prompt": [{**MBPP, "task_id": 2}], "test": [MBPP]}, evalplus__plus={"test": [HUMANEVAL]})
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert [p.id for p in load("mbpp:google/mbpp/sanitized")] == ["mbpp/2", "mbpp/11"]
    assert [p.id for p in load("mbpp:google/mbpp#test")] == ["mbpp/11"]
    assert [p.id for p in load("humaneval:evalplus/plus#test")] == ["humaneval/3"]
    assert [asked[:2] for asked in hub.asked] == [
        ("google/mbpp", "sanitized"),
        ("google/mbpp", None),
        ("evalplus/plus", None),
    ]
    assert [row.place for row in rows("google/mbpp")] == ["google/mbpp#prompt:1", "google/mbpp#test:1"]


def test_a_data_set_that_is_a_script_is_read_from_its_files(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(codeparrot__apps=RuntimeError("Dataset scripts are no longer supported, but found apps.py"))
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert [p.id for p in load("apps:codeparrot/apps/all#test")] == ["apps/test/1"]
    assert hub.asked[1] == ("codeparrot/apps", None, {"data_dir": "all", "revision": "refs/convert/parquet"})


def test_a_script_without_converted_files_is_read_from_the_jsonl_beside_it(
    datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def load_dataset(path: str, name: str | None = None, **options: Any) -> dict[str, list[dict[str, Any]]]:
        if path == "json":
            asked.append(options)
            return {"train": [LIVECODEBENCH]}
        raise RuntimeError("no such revision" if "revision" in options else "Dataset scripts are no longer supported")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [p.id for p in load("livecodebench:owner/name#2024..")] == ["livecodebench/1"]
    assert asked == [{"data_files": "hf://datasets/owner/name/*.jsonl"}]
    with pytest.raises(
        UserError, match="published as a script, and not to be had as files:\nRuntimeError: no such revision"
    ):
        load("livecodebench:owner/name/release_v5")


def test_a_hub_that_is_out_of_reach_is_told_in_two_lines(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", Hub(a__b=ConnectionError("Couldn't reach\n'a/b'")))
    with pytest.raises(UserError) as caught:
        load("mbpp:a/b")
    assert str(caught.value) == (
        "a/b: no such file or folder here, and not to be had as a data set of the hub:\nConnectionError: Couldn't reach 'a/b'"
    )


def test_without_the_library_what_would_do_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"only JSONL is read without the package datasets: make install"):
        load("mbpp:a/b")
    assert load("mbpp:" + lines(tmp_path / "x.jsonl", MBPP))


def test_what_is_loaded_goes_through_our_own_form(tmp_path: Path) -> None:
    numbered = {"fn_name": "f", "inputs": [[{"1": 2}], [{"3": 4}]], "outputs": [[{"5": 6}], [{"7": 8}]]}
    problems = load("apps:" + lines(tmp_path / "x.jsonl", APPS, {**APPS, "problem_id": 2, "input_output": numbered}))
    (tmp_path / "own.jsonl").write_text(jsonl.dump(problems))
    assert load_problems(tmp_path / "own.jsonl") == problems

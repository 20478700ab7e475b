"""`cupel judge`: mistakes in files are told by line; verdicts come in the order of the samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from executor.errors import UserError
from executor.files import judge_files, load_problems
from executor.process_pool import MOST_WORKERS, cores
from executor.settings import ExecutorSettings

ROOT = Path(__file__).resolve().parents[2]
ADD = {"id": "add", "prompt": "Add.", "kind": "stdio", "private_tests": [{"input": "2 3\n", "output": "5\n"}]}
RIGHT, WRONG = "print(sum(map(int, input().split())))", "print(4)"


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_verdicts_are_in_the_order_of_the_samples(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", ADD)
    programs = [RIGHT, WRONG, "import time; time.sleep(0.3); " + RIGHT, WRONG, RIGHT]
    samples = write(tmp_path / "s.jsonl", *({"problem_id": "add", "program": p, "extra": 1} for p in programs))
    out, said = tmp_path / "v.jsonl", list[str]()
    summary = judge_files(problems, samples, out, ExecutorSettings(), 2, said.append)
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [v["index"] for v in verdicts] == [0, 1, 2, 3, 4]
    assert [v["outcome"] for v in verdicts] == ["pass", "failure", "pass", "failure", "pass"]
    assert summary.outcomes == {"pass": 3, "failure": 2} and "3 pass" in said[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.jsonl", "s.jsonl", "v.jsonl"]


def test_without_a_file_verdicts_are_echoed(tmp_path: Path) -> None:
    problems, said = write(tmp_path / "p.jsonl", ADD), list[str]()
    samples = write(tmp_path / "s.jsonl", "", {"problem_id": "add", "program": RIGHT})
    judge_files(problems, samples, None, ExecutorSettings(), 1, said.append)
    assert [json.loads(line)["index"] for line in said] == [1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"p\.jsonl:2: not JSON"),
        ({**ADD, "id": "add"}, r"p\.jsonl:2: problem 'add' is already on line 1"),
        ({**ADD, "id": "b", "private_tests": []}, r"p\.jsonl:2: .*has no tests"),
        ({**ADD, "id": "b", "kindd": 1}, r"p\.jsonl:2: kindd: Extra inputs"),
        ({**ADD, "id": "b", "time_limit_s": 0}, r"p\.jsonl:2: time_limit_s: .*greater than 0"),
        ("[" * 100_000, r"p\.jsonl:2: "),
    ],
)
def test_a_broken_problem_is_told_by_line(tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_problems(write(tmp_path / "p.jsonl", ADD, line))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", r"s\.jsonl:2: not JSON"),
        ({"problem_id": "sub", "program": ""}, r"s\.jsonl:2: no problem 'sub'"),
        ({"problem_id": "add"}, r"s\.jsonl:2: program: Field required"),
    ],
)
def test_a_broken_sample_is_told_before_anything_runs(tmp_path: Path, line: object, told: str) -> None:
    problems = write(tmp_path / "p.jsonl", ADD)
    samples = write(tmp_path / "s.jsonl", {"problem_id": "add", "program": RIGHT}, line)
    with pytest.raises(UserError, match=told):
        judge_files(problems, samples, tmp_path / "v.jsonl", ExecutorSettings(), 1, print)
    assert not (tmp_path / "v.jsonl").exists()


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        load_problems(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="no problems"):
        load_problems(write(tmp_path / "p.jsonl"))
    problems = write(tmp_path / "p.jsonl", ADD)
    samples = write(tmp_path / "s.jsonl", {"problem_id": "add", "program": RIGHT})
    with pytest.raises(UserError, match="No such file"):
        judge_files(problems, samples, tmp_path / "no" / "v.jsonl", ExecutorSettings(), 1, print)


def test_standard_input_is_read_once() -> None:
    with pytest.raises(UserError, match="not both"):
        judge_files("-", "-", None, ExecutorSettings())


def test_there_are_as_many_workers_as_cores_that_we_may_use() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from executor import process_pool as p; print(p.cores())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert cores() == min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def test_java_is_refused_by_line(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", {**ADD, "language": "java"})
    samples = write(tmp_path / "s.jsonl", {"problem_id": "add", "program": RIGHT})
    with pytest.raises(UserError, match=r"s\.jsonl:1: .*java: not in this version"):
        judge_files(problems, samples, None, ExecutorSettings(), 1, print)

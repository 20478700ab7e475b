"""MBPP's canonical solutions: those pass that pass in a plain interpreter, and no other."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, Problem
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
# Each is explained in docs/sandbox.md.
WRONG_MXEVAL = {56, 64, 160, 341, 349, 367, 596, 601, 607, 631, 642, 899, 927, 966, 967}
WRONG_HUB = {341, 367, 596, 601, 607, 631, 642, 927}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="MBPP (../shared) is not beside this checkout")


def failing(requests: list[JudgeRequest]) -> set[int]:
    with Judge(ExecutorSettings(slots=2)) as judge, ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(judge.judge, requests))
    assert all(v.outcome is not Outcome.INFRASTRUCTURE for v in verdicts)
    return {int(v.problem_id) for v in verdicts if v.outcome is not Outcome.PASS}


def rows(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text().splitlines()]


@pytest.mark.timeout(90)
def test_mxeval_form() -> None:
    requests = []
    for row in rows("mbpp_mxeval.jsonl"):
        problem = Problem(
            id=row["task_id"].partition("/")[2],
            prompt=row["prompt"],
            kind="script",
            entry_point=row["entry_point"],
            private_tests=[CodeTest(code=row["test"])],
        )
        requests.append(JudgeRequest(problem, row["prompt"] + row["canonical_solution"]))
    assert len(requests) == 974
    assert failing(requests) == WRONG_MXEVAL


@pytest.mark.timeout(90)
def test_hub_form() -> None:
    requests = []
    for row in rows("mbpp_hub_schema.jsonl"):
        code = "\n".join([row["test_setup_code"], *row["test_list"]])
        problem = Problem(
            id=str(row["task_id"]), prompt=row["text"], kind="function", private_tests=[CodeTest(code=code)]
        )
        requests.append(JudgeRequest(problem, row["code"]))
    assert len(requests) == 974
    assert failing(requests) == WRONG_HUB

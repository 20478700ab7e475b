"""A busy machine changes no verdict: the clock that decides counts what a program used, not what others kept from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "mbpp_hub_schema.jsonl"


@contextmanager
def busy() -> Iterator[None]:
    """Every core kept busy by three processes of somebody else's."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
        for hog in hogs:
            hog.wait()


def test_a_program_near_its_limit_passes_on_a_busy_machine() -> None:
    """It uses most of its CPU time, in more wall time than it is given."""
    program = "import time\nwhile time.process_time() < 0.7: pass\nprint(5)"
    problem = Problem(
        id="p", prompt="?", kind="stdio", time_limit_s=1.0, private_tests=[StdioTest(input="", output="5\n")]
    )
    with busy(), Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0)) as judge:
        for _ in range(3):
            verdict = judge.judge(JudgeRequest(problem, program))
            assert verdict.outcome is Outcome.PASS, verdict


def test_a_sleeper_is_still_stopped_by_the_wall_clock() -> None:
    problem = Problem(
        id="p", prompt="?", kind="stdio", time_limit_s=0.5, private_tests=[StdioTest(input="", output="5\n")]
    )
    with busy(), Judge(ExecutorSettings(wall_factor=1, wall_extra_s=0)) as judge:
        assert judge.judge(JudgeRequest(problem, "import time\ntime.sleep(60)")).outcome is Outcome.TIMEOUT


@pytest.mark.skipif(not DATA.is_file(), reason="MBPP (../shared) is not beside this checkout")
@pytest.mark.timeout(280)
def test_500_programs_have_the_same_verdicts_on_a_busy_machine() -> None:
    """Canonical solutions, and broken ones made of them: half of a program, another problem's program, one that never ends."""
    rows = [json.loads(line) for line in DATA.read_text().splitlines()][:170]
    requests = []
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        code = "\n".join([row["test_setup_code"], *row["test_list"]])
        problem = Problem(
            id=str(row["task_id"]), prompt="?", kind="function", time_limit_s=2, private_tests=[CodeTest(code=code)]
        )
        half = row["code"][: len(row["code"]) // 2]
        requests += [JudgeRequest(problem, program) for program in (row["code"], other["code"], half)]
    requests.append(JudgeRequest(requests[0].problem, "while True: pass"))
    assert len(requests) >= 500

    def outcomes() -> list[tuple[Outcome, list[Outcome]]]:
        with Judge(ExecutorSettings(slots=2)) as judge, ThreadPoolExecutor(2) as threads:
            verdicts = threads.map(judge.judge, requests)
            return [(verdict.outcome, [test.outcome for test in verdict.tests]) for verdict in verdicts]

    alone = outcomes()
    assert {outcome for outcome, _ in alone} >= {Outcome.PASS, Outcome.ERROR, Outcome.SYNTAX_ERROR, Outcome.TIMEOUT}
    with busy():
        assert outcomes() == alone

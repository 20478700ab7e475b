"""Many programs in a row, of every outcome, cost nothing that lasts: no memory, no descriptor, no process.

What is held after a warm-up is compared with what is held at the end, in the judge and in the warm processes.
"""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass

import psutil
import pytest

from executor.judging import Judge, JudgeRequest
from executor.problem import CodeTest, FunctionTest, Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

STDIO = Problem(
    id="s",
    prompt="?",
    kind="stdio",
    time_limit_s=0.2,
    memory_limit_mb=64,
    public_tests=[StdioTest(input="x\n", output="5\n")],
)
FUNCTION = STDIO.model_copy(
    update={"kind": "function", "entry_point": "f", "public_tests": [FunctionTest(args=[[1]], expected=[1])]}
)
CODE = FUNCTION.model_copy(update={"public_tests": [CodeTest(code="assert f([1]) == [1]")]})
LEAVE = "import os\nfor i in range(20): open(f'f{i}', 'w').close()\nos.makedirs('a/b/c')\nos.symlink('/', 'l')\n"
ORPHAN = "import os, time\ntry:\n  if os.fork() == 0: time.sleep(60)\nexcept OSError: pass\n"
# One round: programs, and what becomes of them.
ROUND: list[tuple[Problem, str, Outcome]] = [
    (STDIO, "print(5)", Outcome.PASS),
    (STDIO, "print(6)", Outcome.FAILURE),
    (STDIO, "print(5", Outcome.SYNTAX_ERROR),
    (STDIO, "1/0", Outcome.ERROR),
    (STDIO, "import os\nos.abort()", Outcome.ERROR),
    (STDIO, "x = bytes(1 << 30)", Outcome.MEMORY),
    (STDIO, "import os\nwhile True: os.write(1, bytes(65536))", Outcome.OUTPUT_LIMIT),
    (STDIO, LEAVE + "print(5)", Outcome.PASS),
    (STDIO, ORPHAN + "print(5)", Outcome.PASS),
    (STDIO, "import os\nos.closerange(0, 50)", Outcome.FAILURE),
    (FUNCTION, "def f(x): return x", Outcome.PASS),
    (FUNCTION, "def f(x): return [2] * 10000", Outcome.FAILURE),
    (FUNCTION, "def f(x): return object()", Outcome.ERROR),
    (CODE, "def f(x): return x", Outcome.PASS),
    (CODE, "def f(x): return [f] * 1000", Outcome.FAILURE),
    (CODE, "import os\ndef f(x): os._exit(0)", Outcome.ERROR),
]
SLOW = (STDIO, "while True: pass", Outcome.TIMEOUT)  # once in a while, as each takes its whole limit


@dataclass(frozen=True)
class Held:
    """What the judge and its warm processes hold."""

    descriptors: int
    processes: dict[int, int]
    """Descriptors of each process below us."""
    bytes: int
    """Resident in all of them together."""


def held() -> Held:
    gc.collect()
    me = psutil.Process()
    below = me.children(recursive=True)
    assert [process for process in below if process.status() == psutil.STATUS_ZOMBIE] == []
    resident = sum(process.memory_info().rss for process in (me, *below))
    return Held(me.num_fds(), {process.pid: process.num_fds() for process in below}, resident)


def endure(rounds: int, may_grow_bytes: int) -> None:
    outcomes: Counter[Outcome] = Counter()
    with Judge(ExecutorSettings(wall_factor=20)) as judge:

        def play(number: int) -> None:
            for problem, program, outcome in [*ROUND, SLOW] if number % 8 == 0 else ROUND:
                verdict = judge.judge(JudgeRequest(problem, program))
                assert verdict.outcome is outcome, f"round {number}: {program}: {verdict}"
                outcomes[verdict.outcome] += 1

        for number in range(5):
            play(number)
        before = held()
        for number in range(rounds):
            play(number)
        after = held()
        assert judge.infrastructure_failures == 0
    assert (after.descriptors, after.processes) == (before.descriptors, before.processes)
    assert after.bytes - before.bytes < may_grow_bytes
    assert len(outcomes) == 7 and outcomes.total() >= rounds * len(ROUND)
    assert psutil.Process().children(recursive=True) == []


def test_hundreds_of_programs_leave_the_judge_as_it_was() -> None:
    endure(38, may_grow_bytes=8 << 20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_programs_leave_the_judge_as_it_was() -> None:
    endure(620, may_grow_bytes=8 << 20)

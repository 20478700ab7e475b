"""What sending a program to a Ray worker costs over judging it here, in one run on one machine.

    python benchmarks/dispatch.py [--programs 400] [--rounds 3]

Prints milliseconds a program: through a plain Judge with threads, through a pool with one worker of as many slots, and
the difference, which is the dispatch. Then the pool alone, with workers whose judge is a stub that passes everything:
all at once, one call a request ("no batching": as many clients as fit, each asking for one), and one after another. The
machine's noise is larger than the differences between single rounds: compare within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ray  # noqa: E402

from benchmarks import local_ray  # noqa: E402
from executor import pool as pool_module  # noqa: E402
from executor.judging import Judge, JudgeRequest  # noqa: E402
from executor.pool import ExecutorPool  # noqa: E402
from executor.problem import Problem, StdioTest  # noqa: E402
from executor.settings import ExecutorSettings  # noqa: E402
from executor.verdict import Outcome, TestResult, Verdict  # noqa: E402
from executor.worker import ExecutorWorker, start_worker  # noqa: E402

PROGRAM = "print(input())\n"


class Stub:
    """Passes everything at once: what is left is the dispatch."""

    level = "none"
    busy_slots = 0
    infrastructure_failures = 0

    def judge(self, request: JudgeRequest) -> Verdict:
        """A pass."""
        tests = [TestResult(outcome=Outcome.PASS, public=True, seconds=0.0)]
        return Verdict(
            problem_id=request.problem.id, index=request.index, outcome=Outcome.PASS, passed=1, total=1, tests=tests
        )

    def close(self) -> None:
        """Nothing to end."""


class StubWorker(ExecutorWorker):
    """A worker that judges nothing."""

    def __init__(self, settings: ExecutorSettings, name: str) -> None:
        super().__init__(settings, name, lambda _: Stub())


def requests(number: int, text: str = "1\n") -> list[JudgeRequest]:
    """Programs that pass."""
    problem = Problem(id="echo", prompt="?", kind="stdio", public_tests=[StdioTest(input=text, output=text)])
    return [JudgeRequest(problem, PROGRAM, index=i) for i in range(number)]


def check(verdicts: list[Verdict], asked: list[JudgeRequest]) -> None:
    """Every program has its verdict and passes."""
    wrong = [v for v, r in zip(verdicts, asked, strict=True) if v.outcome is not Outcome.PASS or v.index != r.index]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(asked)} verdicts are wrong, the first: {wrong[0]}")


def plain(settings: ExecutorSettings, asked: list[JudgeRequest]) -> Callable[[], float]:
    """Judged in this process."""
    judge = Judge(settings)
    threads = ThreadPoolExecutor(settings.slots)

    def run() -> float:
        start = time.perf_counter()
        check(list(threads.map(judge.judge, asked)), asked)
        return time.perf_counter() - start

    return run


def pooled(
    workers: list[Any], settings: ExecutorSettings, asked: list[JudgeRequest], batch: int = 64, at_once: int = 0
) -> Callable[[], float]:
    """Sent through a pool, at most `at_once` at a time (0: all)."""

    async def work() -> float:
        pool_module.BATCH = batch
        pool = ExecutorPool({str(i): worker for i, worker in enumerate(workers)}, settings)
        room = asyncio.Semaphore(at_once or len(asked))

        async def one(request: JudgeRequest) -> Verdict:
            async with room:
                return await pool.judge(request)

        check(await asyncio.gather(*(one(request) for request in asked[:8])), asked[:8])
        start = time.perf_counter()
        check(await asyncio.gather(*(one(request) for request in asked)), asked)
        seconds = time.perf_counter() - start
        await pool.close()
        return seconds

    return lambda: asyncio.run(work())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=400, help="programs a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, interleaved; the median is printed")
    arguments = parser.parse_args()
    local_ray.start()
    one, two = ExecutorSettings(slots=1), ExecutorSettings(slots=2)
    real = {slots: start_worker(settings) for slots, settings in ((1, one), (2, two))}
    stubs = [start_worker(one, worker=StubWorker) for _ in range(2)]
    ray.get([worker.ping.remote() for worker in [*real.values(), *stubs]])
    asked = requests(arguments.programs)
    few, large = asked[: max(1, arguments.programs // 4)], requests(arguments.programs // 4, "1" * (1 << 20))
    ways: dict[str, tuple[int, Callable[[], float]]] = {
        "judge, 1 slot": (len(asked), plain(one, asked)),
        "pool, 1 worker of 1 slot": (len(asked), pooled([real[1]], one, asked)),
        "judge, 2 slots": (len(asked), plain(two, asked)),
        "pool, 1 worker of 2 slots": (len(asked), pooled([real[2]], two, asked)),
        "stub, 1 worker": (len(asked), pooled(stubs[:1], one, asked)),
        "stub, 1 worker, 1 request a call": (len(asked), pooled(stubs[:1], one, asked, batch=1)),
        "stub, 2 workers": (len(asked), pooled(stubs, one, asked)),
        "stub, 2 workers, 1 request a call": (len(asked), pooled(stubs, one, asked, batch=1)),
        "stub, 1 worker, one after another": (len(few), pooled(stubs[:1], one, few, at_once=1)),
        "stub, 1 worker, tests of 2 MiB": (len(large), pooled(stubs[:1], one, large)),
        "the same, one after another": (len(large), pooled(stubs[:1], one, large, at_once=1)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, (_, run) in ways.items():
            seconds[name].append(run())
    cost = {name: statistics.median(seconds[name]) / number * 1000 for name, (number, _) in ways.items()}
    for name, value in cost.items():
        low, high = (f(seconds[name]) / ways[name][0] * 1000 for f in (min, max))
        print(f"{name:36} {value:7.3f} ms a program ({low:.3f} to {high:.3f})")
    print()
    for name in ("1 slot", "2 slots"):
        pairs = zip(seconds[f"pool, 1 worker of {name}"], seconds[f"judge, {name}"], strict=True)
        dispatch = sorted((there - here) / len(asked) * 1000 for there, here in pairs)
        low, middle, high = dispatch[0], statistics.median(dispatch), dispatch[-1]
        print(
            f"dispatch over a plain judge, {name}: {middle:+.3f} ms a program ({low:+.3f} to {high:+.3f}, round by round)"
        )
    for name in ("stub, 1 worker", "stub, 2 workers"):
        print(
            f"batching, {name}: {cost[f'{name}, 1 request a call'] / cost[name]:.1f} times cheaper than a call a request"
        )
    ray.shutdown()


if __name__ == "__main__":
    main()

"""The pool over real Ray actors: workers die, verdicts come, one for each request."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.pool import ExecutorPool
from executor.problem import FunctionTest, Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def add(i: int, seconds: float = 2.0) -> Problem:
    return Problem(
        id=f"p{i}",
        prompt="?",
        kind="stdio",
        time_limit_s=seconds,
        public_tests=[StdioTest(input=f"{i}\n", output=f"{i}\n")],
    )


def start(number: int, settings: ExecutorSettings) -> list[Any]:
    from executor.worker import start_worker

    return [start_worker(settings, num_cpus=0) for _ in range(number)]


def stop(ray: Any, workers: list[Any]) -> None:
    for worker in workers:
        ray.kill(worker)


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_text().split("\0")
            except OSError:
                continue
            if any(word.endswith("zygote.py") for word in words) and str(pid) in words:
                found.append(int(name))
    return found


def test_requests_get_their_own_verdicts_and_are_spread(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)
    workers = start(2, settings)
    ray.get([worker.ping.remote() for worker in workers])

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        requests = [JudgeRequest(add(i), "print(input())" if i % 2 else "print(-1)", index=i) for i in range(40)]
        verdicts = await asyncio.gather(*(pool.judge(request) for request in requests))
        assert [v.index for v in verdicts] == list(range(40)) and [v.problem_id for v in verdicts] == [
            f"p{i}" for i in range(40)
        ]
        assert [v.outcome for v in verdicts] == [Outcome.PASS if i % 2 else Outcome.FAILURE for i in range(40)]
        assert pool.in_flight == 0

    asyncio.run(run())
    gauges = ray.get([worker.gauges.remote() for worker in workers])
    assert sum(g["executions"] for g in gauges) == 40 and all(g["executions"] >= 5 for g in gauges)
    assert sum(g["outcome_pass"] for g in gauges) == 20 and all(
        g["slots"] == 1 and g["busy_slots"] == 0 for g in gauges
    )
    stop(ray, workers)


def test_a_worker_holds_no_more_than_its_share(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)
    workers = start(1, settings)

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), "print(input())"))) for i in range(30)]
        most = 0
        while not all(task.done() for task in tasks):
            most = max(most, pool.in_flight)
            await asyncio.sleep(0.001)
        assert most == 4 and all(task.result().outcome is Outcome.PASS for task in tasks)

    asyncio.run(run())
    stop(ray, workers)


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_worker_is_replaced_and_its_work_done_again(ray: Any, number: int) -> None:
    settings = ExecutorSettings(slots=1)
    workers = start(number, settings)
    pid = ray.get(workers[0].ping.remote())["pid"]

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        slow = "import time; time.sleep(0.2); print(input())"
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), slow, index=i))) for i in range(12)]
        await asyncio.sleep(0.5)
        assert children(pid)
        os.kill(pid, signal.SIGKILL)
        verdicts = await asyncio.gather(*tasks)
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in range(12)]
        await pool.close()

    asyncio.run(run())
    deadline = time.monotonic() + 5
    while children(pid):
        assert time.monotonic() < deadline, "the dead worker's processes live on"
        time.sleep(0.05)
    assert pid_of_restarted(ray, workers[0]) != pid
    stop(ray, workers)


def pid_of_restarted(ray: Any, worker: Any) -> int:
    """The process that Ray has put in the place of a dead one; until it is up, a call says that the actor is unavailable."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ray.get(worker.ping.remote(), timeout=60)["pid"]
        except ray.exceptions.ActorUnavailableError:
            assert time.monotonic() < deadline, "the worker is not restarted"
            time.sleep(0.1)


def test_a_worker_that_always_dies_ends_as_infrastructure(ray: Any) -> None:
    settings = ExecutorSettings(slots=1, retries=1)

    class Dying:
        def judge(self, requests: list[JudgeRequest]) -> None:
            os._exit(1)

        def ping(self) -> None:
            return None

    worker = ray.remote(Dying).options(max_restarts=-1, num_cpus=0).remote()

    async def run() -> None:
        pool = ExecutorPool([worker], settings)
        verdict = await pool.judge(JudgeRequest(add(1), "print(1)", index=3))
        assert (verdict.outcome, verdict.index, verdict.total) == (Outcome.INFRASTRUCTURE, 3, 1)
        await pool.close()

    asyncio.run(run())
    stop(ray, [worker])


def test_java_is_the_users_error(ray: Any) -> None:
    problem = Problem(
        id="j", prompt="?", language="java", kind="function", entry_point="f", public_tests=[FunctionTest(expected=1)]
    )

    async def run() -> None:
        with pytest.raises(UserError, match="java"):
            await ExecutorPool([], ExecutorSettings()).judge(JudgeRequest(problem, ""))

    asyncio.run(run())

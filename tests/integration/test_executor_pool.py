"""The pool over real Ray actors: workers die, verdicts come, one for each request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.deadline import within
from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.large_problems import DistantRequest, ProblemReceiver, ProblemSender
from executor.latency import summary
from executor.pool import ExecutorPool
from executor.problem import FunctionTest, Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, infrastructure
from executor.worker import IN_FLIGHT_PER_SLOT, ExecutorWorker, start_worker
from executor.worker_owner import WorkerOwner

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


def start(number: int, settings: ExecutorSettings) -> dict[str, Any]:
    return {f"w{i}": start_worker(settings) for i in range(number)}


def stop(ray: Any, workers: dict[str, Any]) -> None:
    for worker in workers.values():
        ray.kill(worker)


@contextlib.contextmanager
def owned(number: int, settings: ExecutorSettings, **options: Any) -> Iterator[WorkerOwner]:
    """Workers with a membership actor."""
    owner = WorkerOwner(settings, number, **options)
    try:
        yield owner
    finally:
        owner.close()


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


def under_way(pool: ExecutorPool) -> Callable[[], Awaitable[bool]]:
    """Whether requests have gone out, some of which are not answered."""

    async def condition() -> bool:
        return pool.in_flight > 0

    return condition


async def states(owner: WorkerOwner) -> list[str]:
    return sorted((await owner.membership.members.remote()).values())


async def ready(owner: WorkerOwner, number: int) -> None:
    async def all_up() -> bool:
        return await states(owner) == ["up"] * number

    await until(all_up, f"{number} workers are not up")


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


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
    ray.get([worker.ping.remote() for worker in workers.values()])

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        requests = [JudgeRequest(add(i), "print(input())" if i % 2 else "print(-1)", index=i) for i in range(40)]
        verdicts = await asyncio.gather(*(pool.judge(request) for request in requests))
        assert [v.index for v in verdicts] == list(range(40)) and [v.problem_id for v in verdicts] == [
            f"p{i}" for i in range(40)
        ]
        assert [v.outcome for v in verdicts] == [Outcome.PASS if i % 2 else Outcome.FAILURE for i in range(40)]
        gauges = pool.gauges()
        assert gauges["executor_queue"] == gauges["executor_in_flight"] == gauges["executor_infrastructure"] == 0
        told = summary(gauges, "executor_latency")
        assert told["mean"] > 0 and sum(v for k, v in gauges.items() if re.fullmatch(r"executor_latency_\d\d", k)) == 40
        await pool.close()

    asyncio.run(run())
    gauges = ray.get([worker.gauges.remote() for worker in workers.values()])
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
        assert most == IN_FLIGHT_PER_SLOT and all(task.result().outcome is Outcome.PASS for task in tasks)

    asyncio.run(run())
    stop(ray, workers)


@pytest.mark.parametrize("number", [1, 2])
def test_a_killed_worker_is_replaced_and_its_work_done_again(ray: Any, number: int) -> None:
    settings = ExecutorSettings(slots=1)
    workers = start(number, settings)
    pid = ray.get(workers["w0"].ping.remote())["pid"]

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
    assert pid_of_restarted(ray, workers["w0"]) != pid
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
        def exchange(self, data: bytes) -> None:
            os._exit(1)

        def ping(self) -> None:
            return None

    worker = ray.remote(Dying).options(max_restarts=-1, num_cpus=0).remote()

    async def run() -> None:
        pool = ExecutorPool({"dying": worker}, settings)
        verdict = await pool.judge(JudgeRequest(add(1), "print(1)", index=3))
        assert (verdict.outcome, verdict.index, verdict.total) == (Outcome.INFRASTRUCTURE, 3, 1)
        await pool.close()

    asyncio.run(run())
    ray.kill(worker)


def test_java_is_the_users_error(ray: Any) -> None:
    problem = Problem(
        id="j", prompt="?", language="java", kind="function", entry_point="f", public_tests=[FunctionTest(expected=1)]
    )

    async def run() -> None:
        with pytest.raises(UserError, match="java"):
            await ExecutorPool({}, ExecutorSettings()).judge(JudgeRequest(problem, ""))

    asyncio.run(run())


def test_workers_come_and_go_while_work_flows(ray: Any) -> None:
    """Each of 300 requests gets its own right verdict, once; the drained worker's process ends, and no work was lost with it."""
    settings = ExecutorSettings(slots=1)

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 2)
        first = owner.workers["executor-0"]
        pid = (await first.ping.remote())["pid"]
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        counted = 0

        async def one(i: int) -> Outcome:
            nonlocal counted
            program = "print(input())" if i % 3 else "print(-1)"
            verdict = await pool.judge(JudgeRequest(add(i), program, index=i))
            counted += 1
            assert (verdict.index, verdict.problem_id) == (i, f"p{i}")
            return verdict.outcome

        tasks = [asyncio.create_task(one(i)) for i in range(300)]

        async def share_done(number: int) -> None:
            async def done() -> bool:
                return counted >= number

            await until(done, f"{number} of 300 are not done")

        await share_done(20)
        assert await owner.membership.add.remote(1) == ["executor-2"]
        await share_done(60)
        assert await owner.membership.drain.remote("executor-0") == ["executor-0"]
        # The work goes on until the new worker has had a part in it and the drained one is gone.
        more = [asyncio.create_task(one(i)) for i in range(300, 600)]
        outcomes = await asyncio.gather(*tasks, *more)
        assert outcomes == [Outcome.PASS if i % 3 else Outcome.FAILURE for i in range(600)]
        assert counted == 600

        async def gone() -> bool:
            return not alive(pid) and not children(pid)

        await until(gone, "the drained worker lives on")
        await ready(owner, 2)
        assert sorted(owner.workers) == ["executor-1", "executor-2"]
        gauges = [await worker.gauges.remote() for worker in owner.workers.values()]
        assert pool.gauges()["executor_moved"] == 0, "a drain takes no work back"
        assert all(g["executions"] > 0 for g in gauges)
        assert 300 <= sum(g["executions"] for g in gauges) < 600
        await pool.close()

    with owned(2, settings) as owner:
        asyncio.run(run(owner))


def test_a_draining_worker_finishes_what_it_has(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)
    slow = "import time; time.sleep(1.0); print(input())"

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 1)
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), slow, index=i))) for i in range(3)]

        async def arrived() -> bool:
            return (await owner.workers["executor-0"].gauges.remote())["queue"] == 2

        await until(arrived, "the requests do not arrive")
        await owner.membership.add.remote(1)
        await ready(owner, 2)
        await owner.membership.drain.remote("executor-0")
        quick = asyncio.create_task(pool.judge(JudgeRequest(add(9), "print(input())", index=9)))
        verdicts = await asyncio.gather(*tasks, quick)
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in (0, 1, 2, 9)]
        assert pool.gauges()["executor_moved"] == 0
        assert (await owner.workers["executor-1"].gauges.remote())["executions"] == 1
        await ready(owner, 1)
        await pool.close()

    with owned(1, settings) as owner:
        asyncio.run(run(owner))


def test_the_end_leaves_no_scratch_folder(ray: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        with owned(2, ExecutorSettings(slots=1, scratch_dir=folder)) as owner:
            asyncio.run(ready(owner, 2))
            assert len(os.listdir(folder)) == 2
        assert os.listdir(folder) == []


def test_a_killed_worker_comes_back_as_a_member(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 2)
        pid = (await owner.workers["executor-1"].ping.remote())["pid"]
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), "print(input())", index=i))) for i in range(300)]
        await until(under_way(pool), "no request is under way")
        os.kill(pid, signal.SIGKILL)
        verdicts = await asyncio.gather(*tasks)
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in range(300)]
        assert pool.gauges()["executor_moved"] > 0

        async def back() -> bool:
            return pool.gauges()["executor_workers_open"] == 2 and await states(owner) == ["up", "up"]

        await until(back, "the killed worker does not come back")
        assert sorted(owner.workers) == ["executor-0", "executor-1"]
        await pool.close()

    with owned(2, settings) as owner:
        asyncio.run(run(owner))


def test_a_hung_worker_is_found_and_ended(ray: Any) -> None:
    """Its process is stopped, so no connection breaks: only the pings tell."""
    settings = ExecutorSettings(slots=1)

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 2)
        pid = (await owner.workers["executor-0"].ping.remote())["pid"]
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        os.kill(pid, signal.SIGSTOP)
        verdicts = await asyncio.gather(
            *(pool.judge(JudgeRequest(add(i), "print(input())", index=i)) for i in range(60))
        )
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in range(60)]
        assert 0 < pool.gauges()["executor_moved"] <= IN_FLIGHT_PER_SLOT

        async def replaced() -> bool:
            return not alive(pid) and await states(owner) == ["up", "up"]

        await until(replaced, "the hung worker is not replaced")
        await pool.close()

    with owned(2, settings, ping_s=1.0) as owner:
        asyncio.run(run(owner))


def test_a_worker_ended_for_good_is_replaced(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 1)
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        ray.kill(owner.workers["executor-0"])
        verdict = await pool.judge(JudgeRequest(add(1), "print(input())"))
        assert verdict.outcome is Outcome.PASS
        assert list(owner.workers) == ["executor-1"]
        await pool.close()

    with owned(1, settings) as owner:
        asyncio.run(run(owner))


def test_work_goes_on_without_the_membership_actor(ray: Any) -> None:
    """It is killed in the midst of work: the workers live on, and its successor knows them and takes orders."""
    settings = ExecutorSettings(slots=1)

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 2)
        await owner.membership.add.remote(1)
        await ready(owner, 3)
        pids = [(await worker.ping.remote())["pid"] for worker in owner.workers.values()]
        pool = ExecutorPool(owner.workers, settings, owner.membership)
        await pool.judge(JudgeRequest(add(1), "print(input())"))
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), "print(input())", index=i))) for i in range(200)]
        os.kill(await owner.membership.pid.remote(), signal.SIGKILL)
        verdicts = await asyncio.gather(*tasks)
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in range(200)]
        assert pool.gauges()["executor_moved"] == 0, "the workers have nothing to do with its death"

        async def knows() -> bool:
            try:
                return await states(owner) == ["up"] * 3
            except ray.exceptions.RayActorError:
                return False

        await until(knows, "its successor does not know the workers")
        assert [(await worker.ping.remote())["pid"] for worker in owner.workers.values()] == pids
        assert await owner.membership.add.remote(1) == ["executor-3"]
        await ready(owner, 4)

        async def told() -> bool:
            return pool.gauges()["executor_workers_open"] == 4

        await until(told, "the client does not hear of the new worker")
        await pool.close()

    with owned(2, settings) as owner:
        asyncio.run(run(owner))


def test_without_any_worker_requests_end_as_infrastructure(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)
    workers = start(2, settings)
    ray.get([worker.ping.remote() for worker in workers.values()])

    async def run() -> None:
        pool = ExecutorPool(workers, settings, return_s=1.0)
        slow = "import time; time.sleep(0.5); print(input())"
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), slow, index=i))) for i in range(40)]
        await until(under_way(pool), "no request is under way")
        stop(ray, workers)
        verdicts = await within(asyncio.gather(*tasks), 30)
        assert [v.index for v in verdicts] == list(range(40))
        assert {v.outcome for v in verdicts} == {Outcome.INFRASTRUCTURE}
        assert any("no executor worker was up" in v.tests[0].message for v in verdicts)
        assert pool.gauges()["executor_queue"] == pool.in_flight == 0
        await pool.close()

    asyncio.run(run())


def test_whoever_stops_waiting_gives_the_place_back(ray: Any) -> None:
    """A caller that is cancelled frees its place; requests of a closed pool end."""
    settings = ExecutorSettings(slots=1)
    workers = start(1, settings)

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        slow = "import time; time.sleep(1.0); print(input())"
        tasks = [asyncio.create_task(pool.judge(JudgeRequest(add(i), slow, index=i))) for i in range(12)]
        await asyncio.sleep(0.1)
        for task in tasks[1:]:
            task.cancel()
        assert (await tasks[0]).outcome is Outcome.PASS

        async def empty() -> bool:
            return pool.in_flight == 0

        await until(empty, "cancelled requests keep their places")
        left = asyncio.create_task(pool.judge(JudgeRequest(add(1), slow)))
        await asyncio.sleep(0.1)
        await pool.close()
        assert (await left).outcome is Outcome.INFRASTRUCTURE

    asyncio.run(run())
    stop(ray, workers)


def test_nothing_outlives_the_owner(ray: Any) -> None:
    settings = ExecutorSettings(slots=1)
    pids: list[int] = []

    async def run(owner: WorkerOwner) -> None:
        await ready(owner, 2)
        pids.append(await owner.membership.pid.remote())
        pids.extend([(await worker.ping.remote())["pid"] for worker in owner.workers.values()])

    with owned(2, settings) as owner:
        asyncio.run(run(owner))
    deadline = time.monotonic() + 10
    while any(alive(pid) or children(pid) for pid in pids):
        assert time.monotonic() < deadline, "an actor outlives its owner"
        time.sleep(0.05)


def test_what_a_broken_worker_cannot_judge_is_judged_elsewhere(ray: Any) -> None:
    class BrokenWorker(ExecutorWorker):
        """Its sandboxes break each time."""

        def __init__(self, settings: ExecutorSettings, name: str) -> None:
            super().__init__(settings, name)
            self._judge = self  # type: ignore[assignment]

        level, busy_slots, infrastructure_failures = "none", 0, 0

        def judge(self, request: JudgeRequest) -> Verdict:
            return infrastructure(request.problem.id, 1, "the disk is full", request.index)

        def close(self) -> None:
            """Nothing to end."""

    settings = ExecutorSettings(slots=1)
    workers = {"broken": start_worker(settings, worker=BrokenWorker), **start(1, settings)}
    ray.get([worker.ping.remote() for worker in workers.values()])

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        verdicts = await asyncio.gather(
            *(pool.judge(JudgeRequest(add(i), "print(input())", index=i)) for i in range(30))
        )
        assert [(v.index, v.outcome) for v in verdicts] == [(i, Outcome.PASS) for i in range(30)]
        assert pool.gauges()["executor_moved"] > 0 and pool.gauges()["executor_infrastructure"] == 0
        ray.kill(workers["w0"])
        verdict = await pool.judge(JudgeRequest(add(1), "print(input())"))
        assert verdict.outcome is Outcome.INFRASTRUCTURE and verdict.tests[0].message
        await pool.close()

    asyncio.run(run())
    stop(ray, workers)


def large(i: int) -> Problem:
    text = f"{i}\n" + "x" * (1 << 18)
    return Problem(id=f"p{i}", prompt="?", kind="stdio", public_tests=[StdioTest(input=text, output=f"{i}\n")])


def test_large_problems_travel_beside_the_requests(ray: Any) -> None:
    """Verdicts are right for large and small problems in one stream, also from a worker that was killed meanwhile."""
    settings = ExecutorSettings(slots=1)
    workers = start(2, settings)
    pid = ray.get(workers["w0"].ping.remote())["pid"]

    async def run() -> None:
        pool = ExecutorPool(workers, settings)
        problems = [large(i) if i % 2 else add(i) for i in range(4)]
        tasks = [
            asyncio.create_task(pool.judge(JudgeRequest(problems[i % 4], "print(input())", index=i)))
            for i in range(120)
        ]
        await until(under_way(pool), "no request is under way")
        os.kill(pid, signal.SIGKILL)
        verdicts = await asyncio.gather(*tasks)
        assert [(v.index, v.problem_id, v.outcome) for v in verdicts] == [
            (i, f"p{i % 4}", Outcome.PASS) for i in range(120)
        ]
        await pool.close()

    asyncio.run(run())
    stop(ray, workers)


def test_a_large_problem_is_put_and_fetched_once(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = ProblemSender(), ProblemReceiver()
    small, first, second = add(0), large(1), large(2)
    assert sender.prepare(JudgeRequest(small, "a")) == (JudgeRequest(small, "a"), {})
    request, references = sender.prepare(JudgeRequest(first, "a", index=3, executed_lines=True))
    assert isinstance(request, DistantRequest) and list(references) == [request.digest]
    assert sender.prepare(JudgeRequest(first, "b"))[1] == references, "it was put twice"
    assert receiver.resolve(request, references) == JudgeRequest(first, "a", index=3, executed_lines=True)
    nothing = {request.digest: None}  # what is held is not fetched
    assert receiver.resolve(request, nothing) == JudgeRequest(first, "a", index=3, executed_lines=True)

    monkeypatch.setattr("executor.large_problems.CLIENT_BYTES", 1 << 18)
    monkeypatch.setattr("executor.large_problems.WORKER_BYTES", 1 << 18)
    other, others = sender.prepare(JudgeRequest(second, "a"))
    assert receiver.resolve(other, others) == JudgeRequest(second, "a")
    again = sender.prepare(JudgeRequest(first, "a", index=3, executed_lines=True))
    assert again[0] == request and again[1] != references, (
        "what does not fit is let go, and put again when it is needed"
    )
    assert receiver.resolve(*again) == JudgeRequest(first, "a", index=3, executed_lines=True)

"""The worker as a plain object: what it takes it answers once, and what it is asked while it drains it refuses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from executor.exchange import Answer, Call, pack, unpack
from executor.judging import JudgeRequest
from executor.problem import Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict
from executor.worker import IN_FLIGHT_PER_SLOT, ExecutorWorker

PROBLEM = Problem(id="p", prompt="?", kind="stdio", public_tests=[StdioTest(input="", output="")])
LONG_S = 20.0


class Gate:
    """A judge whose programs end when the test says so: a program "wait NAME" waits for `open(NAME)`."""

    level = "none"
    infrastructure_failures = 0

    def __init__(self) -> None:
        self.busy_slots = 0
        self.closed = False
        self.gates: dict[str, threading.Event] = {}

    def judge(self, request: JudgeRequest) -> Verdict:
        word, _, name = request.program.partition(" ")
        if word == "wait":
            assert self.gates.setdefault(name, threading.Event()).wait(LONG_S)
        if word == "break":
            raise ValueError("a defect")
        return Verdict(problem_id="p", index=request.index, outcome=Outcome.PASS, passed=1, total=1)

    def open(self, name: str) -> None:
        self.gates.setdefault(name, threading.Event()).set()

    def close(self) -> None:
        self.closed = True


class Bench:
    """A worker with that judge, and threads that call it."""

    def __init__(self, slots: int) -> None:
        self.gate = Gate()
        self.worker = ExecutorWorker(ExecutorSettings(slots=slots), open_judge=lambda _: self.gate)
        self.threads = ThreadPoolExecutor(8)

    def call(
        self, *programs: tuple[int, str], session: str = "me", process: str | None = None, timeout_s: float = LONG_S
    ) -> Future[Answer]:
        requests = [(ticket, JudgeRequest(PROBLEM, program, index=ticket)) for ticket, program in programs]
        data = pack(Call(session, process, timeout_s, requests))
        return self.threads.submit(lambda: unpack(Answer, self.worker.exchange(data)))

    def arrived(self) -> None:
        """Wait until the worker has something."""
        deadline = time.monotonic() + LONG_S
        while not self.worker.gauges()["queue"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(slots=2)
    yield bench
    bench.threads.shutdown(wait=False)


def tickets(answer: Answer) -> list[int]:
    return [ticket for ticket, _ in answer.verdicts]


def test_a_call_brings_its_verdicts_and_each_is_told_once(bench: Bench) -> None:
    answer = bench.call((1, "run"), (2, "break"), (3, "run")).result(LONG_S)
    told = dict(answer.verdicts)
    assert sorted(told) == [1, 2, 3] and [told[i].index for i in (1, 2, 3)] == [1, 2, 3]
    assert [told[i].outcome for i in (1, 2, 3)] == [Outcome.PASS, Outcome.INFRASTRUCTURE, Outcome.PASS]
    assert "a defect" in told[2].tests[0].message
    assert bench.call(timeout_s=0.05).result(LONG_S).verdicts == []
    assert bench.worker.gauges()["executions"] == 3 and bench.worker.gauges()["outcome_pass"] == 2


def test_quick_verdicts_do_not_wait_for_the_slow_one(bench: Bench) -> None:
    first = bench.call((1, "wait a"), (2, "run"), (3, "run"))
    early = tickets(first.result(LONG_S))
    while len(early) < 2:
        early += tickets(bench.call().result(LONG_S))
    assert early == [2, 3]
    later = bench.call()
    bench.gate.open("a")
    assert tickets(later.result(LONG_S)) == [1]


def test_a_newer_call_ends_the_older(bench: Bench) -> None:
    first = bench.call((1, "wait a"))
    bench.arrived()
    second = bench.call((2, "wait b"))
    assert first.result(LONG_S / 2).verdicts == []
    bench.gate.open("a")
    bench.gate.open("b")
    assert {*tickets(second.result(LONG_S)), *tickets(bench.call(timeout_s=0.1).result(LONG_S))} == {1, 2}


def test_clients_get_their_own(bench: Bench) -> None:
    mine, theirs = bench.call((1, "wait a"), session="me"), bench.call((1, "wait b"), session="they")
    bench.gate.open("b")
    assert tickets(theirs.result(LONG_S)) == [1] and not mine.done()
    bench.gate.open("a")
    assert tickets(mine.result(LONG_S)) == [1]


def test_a_call_for_another_process_is_told_so(bench: Bench) -> None:
    process = bench.call((1, "run")).result(LONG_S).process
    assert bench.call((2, "run"), process=process).result(LONG_S).known
    stranger = bench.call((3, "run"), process="before").result(LONG_S)
    assert not stranger.known and stranger.process == process
    assert bench.worker.gauges()["executions"] == 2, "what it does not answer it must not run"


def test_a_draining_worker_refuses_and_is_idle_when_all_is_fetched(bench: Bench) -> None:
    first = bench.call((1, "wait a"))
    bench.arrived()
    assert not bench.worker.drain(0.0)
    answer = bench.call((2, "run")).result(LONG_S)
    assert answer.refused == [2] and answer.verdicts == [] and not bench.gate.closed
    bench.gate.open("a")
    fetched = tickets(first.result(LONG_S)) or tickets(bench.call().result(LONG_S))
    assert fetched == [1]
    assert bench.worker.drain(LONG_S) and bench.gate.closed
    assert bench.worker.gauges()["executions"] == 1


def test_an_unfetched_verdict_holds_up_a_drain_only_as_long_as_its_client_is_there(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.call((1, "wait a"), timeout_s=0.01).result(LONG_S)
    bench.gate.open("a")
    while not bench.worker.gauges()["executions"]:
        time.sleep(0.001)
    assert not bench.worker.drain(0.05)
    monkeypatch.setattr("executor.worker._SILENT_S", 0.0)
    assert bench.worker.drain(LONG_S)


def test_many_at_once_come_back_in_few_answers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.worker._LINGER_S", LONG_S)
    number = 2 * IN_FLIGHT_PER_SLOT
    answers = [bench.call(*((i, "run") for i in range(number))).result(LONG_S)]
    while sum(len(answer.verdicts) for answer in answers) < number:
        answers.append(bench.call().result(LONG_S))
    assert sorted(ticket for answer in answers for ticket in tickets(answer)) == list(range(number))
    assert len(answers) <= 3, "half of what may be here is enough for an answer"

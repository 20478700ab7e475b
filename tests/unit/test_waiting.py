"""Waiting ends: with the answers, at the deadline, or when a stop is asked for."""

from __future__ import annotations

import asyncio

import pytest
from asynchronous import asynchronous

from cluster import waiting
from cluster.waiting import Stopped, Waiting, bounded, first
from executor.errors import UserError


async def after(seconds: float, answer: int) -> int:
    await asyncio.sleep(seconds)
    return answer


async def broken() -> int:
    raise ValueError("broken")


@pytest.fixture(autouse=True)
def quick_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HEARTBEAT_S", 0.01)


@asynchronous
async def test_answers_come_in_the_order_of_the_questions() -> None:
    assert await Waiting(lambda _: None).all({"slow": after(0.05, 1), "quick": after(0, 2)}, 10) == [1, 2]


@asynchronous
async def test_the_beat_names_what_is_still_missing() -> None:
    told: list[str] = []
    await Waiting(told.append).all({"the slow one": after(0.1, 1), "the quick one": after(0, 2)}, 10)
    assert "the slow one" in told[-1] and "the quick one" not in told[-1]


@asynchronous
async def test_a_deadline_names_what_was_waited_for() -> None:
    with pytest.raises(UserError, match=r"gave up after 0 s waiting for: the engine"):
        await Waiting(lambda _: None).one(after(30, 1), "the engine", 0.05)
    with pytest.raises(UserError, match=r"gave up waiting for the buffer"):
        await bounded(after(30, 1), "the buffer", 0.05)


@asynchronous
async def test_a_stop_ends_waits_except_those_that_must_end_by_themselves() -> None:
    wait = Waiting(lambda _: None)
    asyncio.get_running_loop().call_later(0.02, wait.stop.set)
    with pytest.raises(Stopped):
        await wait.one(after(30, 1), "a step", 60)
    assert await wait.one(after(0.05, 7), "weights", 60, stoppable=False) == 7


@asynchronous
async def test_a_stop_does_not_cancel_what_was_waited_for() -> None:
    """The learner's step goes on after a stop: whether it counts is its own answer."""
    wait = Waiting(lambda _: None)
    step = asyncio.ensure_future(after(0.1, 3))
    asyncio.get_running_loop().call_later(0.02, wait.stop.set)
    with pytest.raises(Stopped):
        await wait.one(step, "a step", 60)
    assert await bounded(step, "the end of the step", 60) == 3


@asynchronous
async def test_the_first_error_ends_the_wait() -> None:
    with pytest.raises(ValueError, match="broken"):
        await Waiting(lambda _: None).all({"a": after(30, 1), "b": broken()}, 60)


@asynchronous
async def test_what_broke_elsewhere_ends_the_wait() -> None:
    def beat(_: str) -> None:
        raise RuntimeError("an actor is lost for good")

    with pytest.raises(RuntimeError, match="lost for good"):
        await Waiting(beat).one(after(30, 1), "groups", 60)


@asynchronous
async def test_a_long_wait_says_how_many_are_there_and_names_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SAY_S", 0.05)
    said: list[str] = []
    slow = {f"node {i}": after(0.3, i) for i in range(8)}
    await Waiting(lambda _: None).all({"the quick one": after(0, 9), **slow}, 10, say=said.append)
    assert said[0].startswith("1 of 9 are there after 0 s; waiting for node 0, node 1")
    assert said[0].endswith("and 3 more") and 2 <= len(said) <= 8


@asynchronous
async def test_the_first_answer_is_enough_unless_there_is_none() -> None:
    assert await first([after(30, 1), broken(), after(0.01, 2)]) == 2
    with pytest.raises(ValueError, match="broken"):
        await first([broken(), broken()])

"""A deadline ends a wait, and never keeps a task alive that was told to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from executor.deadline import within
from executor.membership import Roster
from executor.pool import ExecutorPool
from executor.settings import ExecutorSettings


def test_an_answer_an_error_and_a_deadline() -> None:
    async def answer() -> int:
        return 1

    async def fail() -> int:
        raise KeyError("x")

    assert asyncio.run(within(answer(), 1.0)) == 1
    with pytest.raises(KeyError):
        asyncio.run(within(fail(), 1.0))
    with pytest.raises(TimeoutError):
        asyncio.run(within(asyncio.sleep(5.0), 0.01))


@pytest.mark.parametrize("turns", range(5))
def test_a_pool_closes_at_the_moment_of_news(turns: int) -> None:
    """The membership's answer and the cancellation reach the same task in the same turn of the event loop, or turns apart."""
    asked: list[asyncio.Future[Roster]] = []

    class Changes:
        def remote(self, *_: Any) -> asyncio.Future[Roster]:
            asked.append(asyncio.get_running_loop().create_future())
            return asked[-1]

    class Membership:
        changes = Changes()

    async def run() -> None:
        pool = ExecutorPool({}, ExecutorSettings(), Membership())
        while not asked:
            await asyncio.sleep(0)
        asked[0].set_result(Roster("stamp", 1, ()))
        for _ in range(turns):
            await asyncio.sleep(0)
        done, _ = await asyncio.wait([asyncio.create_task(pool.close())], timeout=5.0)
        assert done, "the pool does not close"

    asyncio.run(run())

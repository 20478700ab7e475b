"""A bounded number of coroutines over any number of items."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest
from asynchronous import asynchronous

from actors.concurrency import for_each


@asynchronous
async def test_items_are_drawn_as_they_are_begun_and_each_is_done_once() -> None:
    drawn, done, most = 0, [], 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(100):
            drawn += 1
            yield item

    async def work(item: int) -> None:
        nonlocal most
        most = max(most, drawn - len(done))
        await asyncio.sleep(0.001 * (item % 3))
        done.append(item)

    await for_each(items(), 7, work)
    assert sorted(done) == list(range(100)) and most == 7


@asynchronous
async def test_the_first_error_ends_all() -> None:
    begun = []

    async def work(item: int) -> None:
        begun.append(item)
        await asyncio.sleep(0 if item == 2 else 60)
        raise ValueError(item)

    with pytest.raises(ValueError, match="2"):
        await for_each(itertools.count(), 4, work)
    assert begun == [0, 1, 2, 3]


@asynchronous
async def test_it_ends_when_it_is_cancelled() -> None:
    ended = []

    async def work(item: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(item)

    task = asyncio.create_task(for_each(itertools.count(), 3, work))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(ended) == [0, 1, 2]

"""Work through more than memory could hold, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def for_each(todo: Iterable[T], at_once: int, work: Callable[[T], Awaitable[Any]]) -> None:
    """Await `work` on every item, at most `at_once` at a time; items are drawn as they are begun. The first error ends all
    and is raised.
    """
    items = iter(todo)

    async def worker() -> None:
        for item in items:  # one iterator for all of them: an item goes to whoever is free
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None

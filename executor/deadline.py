"""A deadline for anything that can be awaited.

Not asyncio.wait_for: before Python 3.12 it swallows a cancellation that comes at the moment of the answer, so that a task
told to end lives on and whoever waits for its end waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(awaitable: Awaitable[T], seconds: float) -> T:
    """Its result. Raises TimeoutError after `seconds`, and what it raises itself."""
    async with asyncio.timeout(seconds):
        return await awaitable

"""Waiting for actors: always with a deadline, always saying for what, and over at once when somebody asks the run to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from ray.exceptions import RayTaskError

from executor.deadline import within
from executor.errors import UserError

HEARTBEAT_S = 2.0
SAY_S = 15.0  # between lines on a wait that is counted
NAMED = 5  # of what is waited for

T = TypeVar("T")


class GaveUp(UserError):
    """What was waited for has not come."""


class Stopped(Exception):
    """Somebody asked the run to end."""


class Waiting:
    """Waits that share one stop signal and one heartbeat.

    `beat` is told every HEARTBEAT_S seconds what is waited for, and raises what went wrong elsewhere meanwhile.
    """

    def __init__(self, beat: Callable[[str], None]) -> None:
        self.stop = asyncio.Event()
        self._beat = beat

    async def all(
        self,
        awaitables: Mapping[str, Awaitable[Any]],
        timeout_s: float,
        *,
        stoppable: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> list[Any]:
        """The answers in order, each awaited under the name it is waited for by; `say` is told every SAY_S seconds how many there are.

        Raises Stopped, GaveUp after `timeout_s`, or the first error among the answers.
        """
        futures = {as_future(awaitable): what for what, awaitable in awaitables.items()}
        started = said = time.monotonic()
        pending = set(futures)
        stop = {asyncio.ensure_future(self.stop.wait())} if stoppable else set()
        try:
            while pending:
                done, _ = await asyncio.wait(
                    {*pending, *stop}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done & stop:
                    raise Stopped
                for future in done:
                    future.result()
                pending -= done
                if not pending:
                    break
                waiting = _named([what for future, what in futures.items() if future in pending])
                now = time.monotonic()
                seconds = now - started
                if say is not None and now - said >= SAY_S:
                    said = now
                    say(
                        f"{len(futures) - len(pending)} of {len(futures)} are there after {seconds:.0f} s; waiting for {waiting}"
                    )
                self._beat(f"{waiting} ({seconds:.0f} s)")
                if seconds > timeout_s:
                    raise GaveUp(f"gave up after {timeout_s:.0f} s waiting for: {waiting}")
        finally:
            for future in stop:
                future.cancel()
            for future in pending:
                future.add_done_callback(_look_away)
        return [future.result() for future in futures]

    async def one(self, awaitable: Awaitable[T], what: str, timeout_s: float, *, stoppable: bool = True) -> T:
        """One answer; raises as `all` does."""
        (result,) = await self.all({what: awaitable}, timeout_s, stoppable=stoppable)
        return result


def _named(names: list[str]) -> str:
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


async def bounded(awaitable: Awaitable[T], what: str, timeout_s: float) -> T:
    """One answer that even a stop waits for. Raises GaveUp after `timeout_s`."""
    try:
        return await within(awaitable, timeout_s)
    except TimeoutError:
        raise GaveUp(f"gave up waiting for {what} after {timeout_s:.0f} s") from None


async def first(awaitables: Sequence[Awaitable[T]]) -> T:
    """The first answer; raises the last error if all fail."""
    pending = {as_future(awaitable) for awaitable in awaitables}
    while True:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        answered = [future for future in done if future.exception() is None]
        if answered or not pending:
            for future in pending:
                future.add_done_callback(_look_away)
            return next(iter(answered or done)).result()


async def or_none(awaitable: Awaitable[T], timeout_s: float) -> T | None:
    """The answer; None where there is none in time or it is an error, for those to whom both say the same."""
    try:
        return await within(awaitable, timeout_s)
    except Exception:
        return None


def as_future(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """A task for any awaitable, a Ray reference among them."""

    async def wait() -> T:
        return await awaitable

    return asyncio.ensure_future(wait())


def _look_away(future: asyncio.Future[Any]) -> None:
    """Nobody waits for it any longer: its error is no news."""
    if not future.cancelled():
        future.exception()


def explain(error: BaseException) -> str:
    """One line on what broke, without Ray's wrapping."""
    wrapped = getattr(error, "cause", None) if isinstance(error, RayTaskError) else None
    cause = wrapped if isinstance(wrapped, Exception) else error
    lines = [line for line in str(cause).strip().splitlines() if line.strip()]
    message = lines[-1].strip() if lines else "no message"
    return message if isinstance(cause, UserError) else f"{type(cause).__name__}: {message}"[:400]

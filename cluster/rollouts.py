"""The rollout actors of a run: asked together, watched while they work, each replaced when it is lost.

Invariants: whoever asks a lost actor gets the answer of the one that takes its place; a replacement holds the newest weights before it
generates; one actor is replaced by one waiter at a time; after RESTARTS losses the run ends with the last one's reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from actors.engine.protocol import EngineError
from cluster.actors import House
from cluster.waiting import bounded, explain

RESTARTS = 3  # over the whole run
RELEASE_TIMEOUT_S = 60.0

T = TypeVar("T")
Ask = Callable[[Any], Awaitable[T]]  # an actor's handle -> its answer


class RolloutActors:
    """All rollout actors of `house`, whose handles it keeps up to date."""

    def __init__(self, house: House, say: Callable[[str], None]) -> None:
        self._house = house
        self._say = say
        self._locks = [asyncio.Lock() for _ in range(house.config.rollout.actors)]
        self._serving: list[asyncio.Task[None]] = []
        self._weights: tuple[dict[str, str], int] | None = None
        self._version = 0
        self.replaced = 0

    def starting(self, policy_version: int) -> dict[str, Awaitable[Any]]:
        """Start every engine. An actor that is lost this early is not replaced: what ended it would end the next one."""
        self._version = policy_version
        return {
            f"rollout actor {i} (starting its engine)": a.start.remote() for i, a in enumerate(self._house.rollouts)
        }

    def ask(self, what: str, question: Callable[[int, Any], Awaitable[T]]) -> dict[str, Awaitable[T]]:
        """`question(index, actor)` put to all of them, under names for `Waiting.all`."""
        return {f"{what} {i}": self._ask(i, question) for i in range(len(self._locks))}

    async def ask_first(self, question: Ask[T]) -> T:
        """The question put to the first of them."""
        return await self._ask(0, lambda _, actor: question(actor))

    def send(self, source: dict[str, str], policy_version: int) -> Mapping[str, Awaitable[float]]:
        """New weights for all of them; from now on a replacement gets these."""
        self._weights, self._version = (source, policy_version), policy_version
        return self.ask(
            "weights on rollout actor", lambda _, actor: actor.update_weights.remote(source, policy_version)
        )

    def serve(self) -> None:
        """Let all of them work on tickets until the buffer is closed."""
        self._serving = [asyncio.create_task(self._serve(i)) for i in range(len(self._locks))]

    def check(self) -> None:
        """Raises what ended an actor that was not to be replaced any more."""
        for task in self._serving:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def served(self, timeout_s: float) -> bool:
        """Whether all of them came to the end of their work within `timeout_s`."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=timeout_s)
        self.check()
        return all(task.done() for task in self._serving)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Watch them no longer."""
        for task in self._serving:
            task.cancel()
        return self._serving

    async def _serve(self, index: int) -> None:
        while True:
            actor = self._house.rollouts[index]
            try:
                await actor.run.remote()
                return
            except Exception as error:  # whatever broke it, a fresh one may do better; RESTARTS bounds the tries
                await self._replace(index, actor, error)

    async def _ask(self, index: int, question: Callable[[int, Any], Awaitable[T]]) -> T:
        while True:
            actor = self._house.rollouts[index]
            try:
                return await question(index, actor)
            except (RayActorError, EngineError) as error:
                await self._replace(index, actor, error)

    async def _replace(self, index: int, lost: Any, error: Exception) -> None:
        """Put a fresh actor in the place of `lost`; its work goes back to the buffer. Raises the error after too many losses."""
        async with self._locks[index]:
            while self._house.rollouts[index] is lost:
                self.replaced += 1
                if self.replaced > RESTARTS:
                    raise error
                self._say(f"rollout actor {index} was lost ({explain(error)}); a fresh one takes its place")
                self._house.end_rollout(lost)
                try:
                    self._house.rollouts[index] = await self._fresh(index)
                except RayActorError as again:
                    error = again

    async def _fresh(self, index: int) -> Any:
        config = self._house.config
        release = self._house.buffer.release.remote(self._house.names[index])
        await bounded(release, "the buffer", RELEASE_TIMEOUT_S)
        name = f"a fresh rollout actor {index}"
        actor = self._house.start_rollout(index, self._version)
        await bounded(actor.start.remote(), f"{name} (starting its engine)", config.engine.start_timeout_s)
        sent = None
        while self._weights is not None and sent != self._weights:  # newer ones may come while it takes these
            sent = self._weights
            await bounded(actor.update_weights.remote(*sent), f"weights on {name}", config.weights.timeout_s)
        return actor

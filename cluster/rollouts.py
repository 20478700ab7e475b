"""The rollout actors of a run: asked together, watched while they work, each replaced when it is lost, more or fewer as is asked for.

Invariants: whoever asks a lost actor gets the answer of the one that takes its place; an actor that joins or replaces another holds the newest
weights before it generates, through shared memory on the learner's machine and through Ray's object store on others; one actor is replaced by one waiter at a time, more slowly the more often; an actor that is lost RESTARTS times and more
within an hour ends the run with the last loss's reason; one that leaves ends what it has begun, and is counted until then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ray.exceptions import RayActorError

from actors.engine.protocol import EngineError
from cluster.actors import House
from cluster.waiting import GaveUp, bounded, explain, or_none

RESTARTS = 3  # of one actor within WITHIN_S
WITHIN_S = 3600.0
LONGEST_PAUSE_S = 60.0
RELEASE_TIMEOUT_S = 60.0
PLACE_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
SLEEP_TIMEOUT_S = 300.0

T = TypeVar("T")
Ask = Callable[[Any], Awaitable[T]]  # an actor's handle -> its answer


@dataclass
class Weights:
    """Published by the learner."""

    source: dict[str, str]
    policy_version: int
    carried: list[Any] = field(default_factory=list)  # the one reference to their bytes, once a machine needs it


@dataclass
class _Member:
    """What is known of one actor beside its handle, which the house has."""

    replacing: asyncio.Lock = field(default_factory=asyncio.Lock)
    losses: deque[float] = field(default_factory=deque)  # when it was lost, of the last WITHIN_S
    serving: asyncio.Task[None] | None = None
    node: str | None = None  # of Ray, that it is on; None until it has told
    asked: int = 0  # questions under way
    leaving: asyncio.Future[None] | None = None  # from when it was told to take no more work

    def lost(self, now: float) -> int:
        """Count a loss; how many there were lately."""
        self.losses.append(now)
        while now - self.losses[0] > WITHIN_S:
            self.losses.popleft()
        return len(self.losses)


class RolloutActors:
    """All rollout actors of `house`, whose handles it keeps up to date."""

    def __init__(self, house: House, say: Callable[[str], None]) -> None:
        self._house = house
        self._say = say
        self._members = {i: _Member() for i in range(house.config.rollout.actors)}
        self._joining: dict[int, asyncio.Task[None]] = {}
        self._weights: Weights | None = None
        self._learner_node = ""
        self._version = 0
        self._serves = False
        # Of a GPU that they share with the learner: held while an engine starts, and while they sleep.
        self._memory = asyncio.Lock()
        self.replaced = 0

    def starting(self, policy_version: int) -> dict[str, Awaitable[Any]]:
        """Start every engine. An actor that is lost this early is not replaced: what ended it would end the next one."""
        self._version = policy_version
        return {
            f"rollout actor {i} (starting its engine)": actor.start.remote()
            for i, actor in self._house.rollouts.items()
        }

    async def locate(self, learner_node: str) -> None:
        """Learn which of them are on the learner's node, once all have started."""
        self._learner_node = learner_node
        for number, actor in self._house.rollouts.items():
            self._members[number].node = await self._node_of(actor, f"rollout actor {number}")

    # Questions ------------------------------------------------------------------------------------------------------

    @property
    def numbers(self) -> list[int]:
        """Of those that work, the leaving ones among them."""
        return list(self._members)

    def ask(self, what: str, question: Callable[[int, Any], Awaitable[T]]) -> dict[str, Awaitable[T]]:
        """`question(number, actor)` put to all of them in the order of `numbers`, under names for `Waiting.all`."""
        return {f"{what} {i}": self._ask(i, question) for i in self._members}

    async def ask_first(self, question: Ask[T]) -> T:
        """The question put to the first of them."""
        return await self._ask(next(iter(self._members)), lambda _, actor: question(actor))

    def send(self, source: dict[str, str], policy_version: int) -> Mapping[str, Awaitable[float]]:
        """New weights for all of them; from now on one that joins or replaces another gets these."""
        self._weights, self._version = Weights(source, policy_version), policy_version
        return self.ask("weights on rollout actor", self._hand_over)

    async def sleep(self) -> None:
        """Have every engine give its memory back, until it gets new weights or is woken. One that cannot is ended; it is replaced after `may_wake`."""
        await self._memory.acquire()
        await asyncio.gather(*(self._lay_down(number, actor) for number, actor in self._house.rollouts.items()))

    async def _lay_down(self, number: int, actor: Any) -> None:
        try:
            await bounded(actor.sleep.remote(), f"the sleep of rollout actor {number}", SLEEP_TIMEOUT_S)
        except (RayActorError, EngineError, GaveUp) as error:
            self._say(f"rollout actor {number} does not sleep ({explain(error)}) and is ended")
            self._house.end_rollout(actor)

    def may_wake(self) -> None:
        """The memory of engines that sleep is theirs again."""
        self._memory.release()

    def wake(self) -> dict[str, Awaitable[None]]:
        """Have all of them go on with the weights that they have."""
        return self.ask("the waking of rollout actor", lambda _, actor: actor.wake.remote())

    async def _ask(self, number: int, question: Callable[[int, Any], Awaitable[T]]) -> T:
        while True:
            member = self._members.get(number)
            if member is None:  # it was lost while it left; another one answers for it
                return await self._ask(next(iter(self._members)), lambda _, actor: question(number, actor))
            actor = self._house.rollouts[number]
            member.asked += 1
            try:
                return await question(number, actor)
            except (RayActorError, EngineError) as error:
                await self._replace(number, actor, error)
            finally:
                member.asked -= 1

    def _hand_over(self, number: int, actor: Any) -> Awaitable[float]:
        member = self._members.get(number)  # none, where another one answers for it: then from anywhere
        return self._hand(member.node if member else None, actor)

    def _hand(self, node: str | None, actor: Any) -> Awaitable[float]:
        """The newest weights for an actor on that node."""
        weights = self._weights
        assert weights is not None, "there are weights to hand over"
        if node == self._learner_node:
            return actor.update_weights.remote(weights.source, weights.policy_version)
        if not weights.carried:
            weights.carried.append(self._house.learner.carried_weights.remote(weights.policy_version))
        return actor.update_weights.remote(weights.source, weights.policy_version, weights.carried)

    # Work -----------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Let all of them work on tickets until the buffer is closed."""
        self._serves = True
        self._share()
        for number in self._members:
            self._serve(number)

    def check(self) -> None:
        """Raises what ended an actor that was not to be replaced any more."""
        for member in self._members.values():
            task = member.serving
            if task is not None and task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def served(self, timeout_s: float) -> bool:
        """Whether all of them came to the end of their work within `timeout_s`."""
        for task in self._joining.values():
            task.cancel()
        tasks = [member.serving for member in self._members.values() if member.serving is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        self.check()
        return all(task.done() for task in tasks)

    def cancel(self) -> list[asyncio.Task[None]]:
        """Watch them no longer."""
        serving = [member.serving for member in self._members.values() if member.serving is not None]
        tasks = [*serving, *self._joining.values()]
        for task in tasks:
            task.cancel()
        return tasks

    def _share(self) -> None:
        """Have the buffer share its work among those that take some."""
        self._house.buffer.expect.remote(sum(not member.leaving for member in self._members.values()))

    def _serve(self, number: int) -> None:
        self._members[number].serving = asyncio.create_task(self._work(number))

    async def _work(self, number: int) -> None:
        member = self._members[number]
        while number in self._members:
            actor = self._house.rollouts[number]
            try:
                if member.leaving:  # it was told while its predecessor was being replaced
                    await actor.drain.remote()
                await actor.run.remote()
                if member.leaving:
                    await self._let_go(number)
                return
            except Exception as error:  # whatever broke it, a fresh one may do better; RESTARTS bounds the tries
                await self._replace(number, actor, error)

    # More and fewer -------------------------------------------------------------------------------------------------

    def scale(self, wanted: int) -> None:
        """Have `wanted` of them: new ones join once their engines hold the newest weights, the newest ones leave."""
        staying = [number for number, member in self._members.items() if not member.leaving]
        excess = len(staying) + len(self._joining) - wanted
        for _ in range(-excess):
            number = max([-1, *self._members, *self._joining]) + 1
            self._joining[number] = asyncio.create_task(self._join(number))
        for number in sorted(self._joining, reverse=True)[: max(0, excess)]:
            self._joining.pop(number).cancel()
            excess -= 1
        for number in sorted(staying, reverse=True)[: max(0, excess)]:
            self._leave(number)

    @property
    def staying(self) -> int:
        """How many there are or will be, the leaving ones left out."""
        return len(self._joining) + sum(not member.leaving for member in self._members.values())

    async def _join(self, number: int) -> None:
        try:
            actor, node = await self._fresh(number)
        except Exception as error:  # the run went on without it so far
            self._say(f"rollout actor {number} could not join ({explain(error)}); the run goes on without it")
            return
        finally:
            self._joining.pop(number, None)
        self._house.rollouts[number] = actor
        self._members[number] = _Member(node=node)
        self._say(f"rollout actor {number} has joined, with policy version {self._version}")
        if self._serves:
            self._share()
            self._serve(number)

    def _leave(self, number: int) -> None:
        self._say(f"rollout actor {number} takes no more work and will leave")
        # Whether it hears of it or dies meanwhile, the task that watches its work sees the end.
        self._members[number].leaving = asyncio.ensure_future(
            or_none(self._house.rollouts[number].drain.remote(), STOP_TIMEOUT_S)
        )
        self._share()

    async def _let_go(self, number: int) -> None:
        while self._members[number].asked:
            await asyncio.sleep(0.1)
        actor = self._forget(number)
        await or_none(actor.stop.remote(), STOP_TIMEOUT_S)
        self._house.end_rollout(actor)
        self._say(f"rollout actor {number} has left")

    def _forget(self, number: int) -> Any:
        del self._members[number]
        return self._house.rollouts.pop(number)

    # Replacing ------------------------------------------------------------------------------------------------------

    async def _replace(self, number: int, lost: Any, error: Exception) -> None:
        """Put a fresh actor in the place of `lost`; its work goes back to the buffer. Raises the error after too many losses."""
        member = self._members.get(number)
        if member is None:
            return
        async with member.replacing:
            while self._house.rollouts.get(number) is lost:
                losses = member.lost(time.monotonic())
                if losses > RESTARTS and not member.leaving:
                    raise error
                fate = "it was about to leave" if member.leaving else "a fresh one takes its place"
                self.replaced += member.leaving is None
                self._say(f"rollout actor {number} was lost ({explain(error)}); {fate}")
                self._house.end_rollout(lost)
                await self._release(number)
                if member.leaving:
                    self._forget(number)
                    return
                if losses > 1:
                    await asyncio.sleep(min(LONGEST_PAUSE_S, 2.0**losses))
                try:
                    self._house.rollouts[number], member.node = await self._fresh(number)
                except RayActorError as again:
                    error = again

    async def _node_of(self, actor: Any, name: str) -> str:
        node, _ = await bounded(actor.place.remote(), name, PLACE_TIMEOUT_S)
        return node

    async def _release(self, number: int) -> None:
        """Its tickets are the buffer's again."""
        release = self._house.buffer.release.remote(self._house.names[number])
        await bounded(release, "the buffer", RELEASE_TIMEOUT_S)

    async def _fresh(self, number: int) -> tuple[Any, str]:
        """A new actor with the newest weights, and its node."""
        config = self._house.config
        name = f"a fresh rollout actor {number}"
        async with self._memory if config.engine.sleep_mode else contextlib.nullcontext():
            actor = self._house.start_rollout(number, self._version)
            try:
                await bounded(actor.start.remote(), f"{name} (starting its engine)", config.engine.start_timeout_s)
                node = await self._node_of(actor, name)
                sent = None
                while self._weights is not sent:  # newer ones may come while it takes these
                    sent = self._weights
                    await bounded(self._hand(node, actor), f"weights on {name}", config.weights.timeout_s)
            except BaseException:  # a cancelled joiner among them: nobody would end it
                self._house.end_rollout(actor)
                raise
        return actor, node

"""Rollout actors that are lost: who asked gets an answer, a replacement holds the newest weights, and there is an end to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from asynchronous import asynchronous
from ray.exceptions import RayActorError

from actors.engine.protocol import EngineError
from cluster.config import load_config
from cluster.rollouts import RESTARTS, RolloutActors


class Method:
    """A method of an actor's handle."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    async def remote(self, *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return self._call(*arguments)


class Actor:
    """Stands in for a handle: the logic under test is what is done when a call of it raises."""

    def __init__(self, number: int, policy_version: int) -> None:
        self.number, self.version, self.dead = number, policy_version, False
        self.run = Method(self._work)
        self.start = Method(lambda: self._alive(self.version))
        self.score = Method(lambda: self._alive(self.number))
        self.update_weights = Method(self._update)

    def _alive(self, answer: Any) -> Any:
        if self.dead:
            raise RayActorError
        return answer

    def _work(self) -> None:
        self._alive(None)

    def _update(self, source: dict[str, str], version: int) -> float:
        self._alive(None)
        self.version = version
        return 0.1


class House:
    """As much of cluster.actors.House as replacing an actor takes."""

    def __init__(self, actors: int, dead_on_arrival: int = 0) -> None:
        self.config = load_config(None, [f"rollout.actors={actors}"])
        self.names = {i: f"rollout-{i}-0" for i in range(actors)}
        self.released: list[str] = []
        self.buffer = SimpleNamespace(release=Method(self.released.append))
        self.dead_on_arrival = dead_on_arrival
        self.rollouts = [Actor(i, 0) for i in range(actors)]
        self.made = actors
        self.ended: list[int] = []

    def start_rollout(self, index: int, policy_version: int) -> Actor:
        actor = Actor(self.made, policy_version)
        actor.dead = self.dead_on_arrival > 0
        self.dead_on_arrival -= 1
        self.made += 1
        return actor

    def end_rollout(self, actor: Actor) -> None:
        self.ended.append(actor.number)


def actors(house: House, said: list[str] | None = None) -> RolloutActors:
    return RolloutActors(house, (said if said is not None else []).append)  # type: ignore[arg-type]


async def answers(asked: dict[str, Any]) -> list[Any]:
    return list(await asyncio.gather(*asked.values()))


def scores(group: RolloutActors) -> Any:
    return answers(group.ask("score", lambda _, actor: actor.score.remote()))


@asynchronous
async def test_a_lost_actor_is_replaced_and_its_work_released() -> None:
    house, said = House(3), []
    group = actors(house, said)
    house.rollouts[1].dead = True
    assert await scores(group) == [0, 3, 2]
    assert house.released == ["rollout-1-0"]
    assert house.ended == [1]
    assert group.replaced == 1
    assert len(said) == 1 and "rollout actor 1 was lost" in said[0]


@asynchronous
async def test_many_who_wait_for_a_lost_actor_replace_it_once() -> None:
    house = House(1)
    group = actors(house)
    house.rollouts[0].dead = True
    group.serve()
    assert await asyncio.gather(*(scores(group) for _ in range(5))) == [[1]] * 5
    assert await group.served(5)
    assert group.replaced == 1


@asynchronous
async def test_a_replacement_holds_the_newest_weights() -> None:
    house = House(2)
    group = actors(house)
    await answers(dict(group.send({"path": "v1"}, 1)))
    house.rollouts[0].dead = True
    await answers(dict(group.send({"path": "v2"}, 2)))
    assert [actor.version for actor in house.rollouts] == [2, 2]
    assert house.rollouts[0].number == 2


@asynchronous
async def test_a_dead_engine_counts_as_a_lost_actor() -> None:
    house = House(1)
    group = actors(house)

    def broken() -> None:
        raise EngineError("the engine has died")

    house.rollouts[0].score = Method(broken)
    assert await scores(group) == [1]


@asynchronous
async def test_other_errors_are_the_askers() -> None:
    house = House(1)
    group = actors(house)

    def refused() -> None:
        raise ValueError("no such problem")

    house.rollouts[0].score = Method(refused)
    with pytest.raises(ValueError, match="no such problem"):
        await scores(group)
    assert group.replaced == 0


@asynchronous
async def test_replacements_come_to_an_end() -> None:
    house = House(1, dead_on_arrival=RESTARTS + 1)
    group = actors(house)
    house.rollouts[0].dead = True
    group.serve()
    with pytest.raises(RayActorError):
        await group.served(5)
    with pytest.raises(RayActorError):
        group.check()
    assert house.made == 1 + RESTARTS


@asynchronous
async def test_a_replacement_that_dies_at_once_is_replaced_too() -> None:
    house = House(1, dead_on_arrival=RESTARTS - 1)
    group = actors(house)
    house.rollouts[0].dead = True
    assert await scores(group) == [RESTARTS]

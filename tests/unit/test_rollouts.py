"""Rollout actors that are lost, join and leave: who asked gets an answer, whoever is new holds the newest weights, and there is an end to it."""

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
from cluster.rollouts import RESTARTS, WITHIN_S, RolloutActors


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
        self.ended = asyncio.Event()  # its work: from the start on, unless it is told to go on
        self.ended.set()
        self.run = SimpleNamespace(remote=self._work)
        self.drain = Method(self.ended.set)
        self.stop = Method(lambda: None)
        self.start: Any = Method(lambda: self._alive(self.version))
        self.score = Method(lambda: self._alive(self.number))
        self.update_weights = Method(self._update)
        self.asleep = False
        self.sleep = Method(lambda: self._alive(setattr(self, "asleep", True)))
        self.wake = Method(lambda: self._alive(setattr(self, "asleep", False)))
        self.node_id, self.carried = "here", list[Any]()
        self.place = Method(lambda: (self.node_id, 1))

    def _alive(self, answer: Any) -> Any:
        if self.dead:
            raise RayActorError
        return answer

    async def _work(self) -> None:
        await self.ended.wait()
        self._alive(None)

    def _update(self, source: dict[str, str], version: int, carried: list[Any] | None = None) -> float:
        self._alive(None)
        self.version, self.carried = version, carried or []
        return 0.1


class House:
    """As much of cluster.actors.House as replacing an actor takes."""

    def __init__(self, actors: int, dead_on_arrival: int = 0, *settings: str) -> None:
        self.config = load_config(None, [f"rollout.actors={actors}", *settings])
        self.names = {i: f"rollout-{i}-0" for i in range(actors)}
        self.released: list[str] = []
        self.sharing: list[int] = []
        self.buffer = SimpleNamespace(
            release=Method(self.released.append), expect=SimpleNamespace(remote=self.sharing.append)
        )
        self.learner = SimpleNamespace(carried_weights=SimpleNamespace(remote=self._carry))
        self.carried: list[int] = []
        self.node_of_the_next = "here"
        self.fresh_ones_work_on = False
        self.dead_on_arrival = dead_on_arrival
        self.rollouts = {i: Actor(i, 0) for i in range(actors)}
        self.opened = asyncio.Event()  # the engines of new actors start once it is set
        self.opened.set()
        self.made = actors
        self.ended: list[int] = []

    def _carry(self, version: int) -> str:
        self.carried.append(version)
        return f"bytes of {version}"

    def start_rollout(self, index: int, policy_version: int) -> Actor:
        actor = Actor(self.made, policy_version)
        if self.fresh_ones_work_on:
            actor.ended.clear()
        actor.node_id = self.node_of_the_next
        actor.dead = self.dead_on_arrival > 0
        self.names[index] = f"rollout-{index}-{self.made}"
        started = actor.start

        async def start() -> Any:
            await self.opened.wait()
            return await started.remote()

        actor.start = SimpleNamespace(remote=start)
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
    assert [actor.version for actor in house.rollouts.values()] == [2, 2]
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


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.rollouts.LONGEST_PAUSE_S", 0.0)


@pytest.mark.usefixtures("at_once")
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


@pytest.mark.usefixtures("at_once")
@asynchronous
async def test_losses_of_long_ago_and_of_others_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(2)
    group = actors(house)
    now = 0.0
    monkeypatch.setattr("cluster.rollouts.time", SimpleNamespace(monotonic=lambda: now))
    for loss in range(3 * RESTARTS):
        house.rollouts[loss % 2].dead = True
        await scores(group)
        now += WITHIN_S / RESTARTS
    assert group.replaced == 3 * RESTARTS


@pytest.mark.usefixtures("at_once")
@asynchronous
async def test_a_replacement_that_dies_at_once_is_replaced_too() -> None:
    house = House(1, dead_on_arrival=RESTARTS - 1)
    group = actors(house)
    house.rollouts[0].dead = True
    assert await scores(group) == [RESTARTS]


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@asynchronous
async def test_who_joins_holds_the_newest_weights_before_it_works() -> None:
    house, said = House(1), []
    house.rollouts[0].ended.clear()
    group = actors(house, said)
    group.serve()
    await answers(dict(group.send({"path": "v1"}, 1)))
    house.opened.clear()
    group.scale(3)
    assert group.staying == 3 and group.numbers == [0], "an engine that starts is asked nothing"
    await answers(dict(group.send({"path": "v2"}, 2)))
    house.opened.set()
    await settled(lambda: group.numbers == [0, 1, 2])
    assert [actor.version for actor in house.rollouts.values()] == [2, 2, 2]
    assert await scores(group) == [0, 1, 2]
    assert sum("has joined, with policy version 2" in line for line in said) == 2
    group.cancel()


@asynchronous
async def test_who_leaves_ends_what_it_has_and_is_asked_until_then() -> None:
    house, said = House(3), []
    for actor in house.rollouts.values():
        actor.ended.clear()
    leaving = house.rollouts[2]
    drained = asyncio.Event()
    leaving.drain = Method(drained.set)
    group = actors(house, said)
    group.serve()
    group.scale(2)
    await drained.wait()
    assert group.staying == 2 and await scores(group) == [0, 1, 2], "it generates still and needs the weights"
    assert house.sharing == [3, 2], "it takes no more of the work"
    leaving.ended.set()
    await settled(lambda: group.numbers == [0, 1])
    await settled(lambda: house.ended == [2])
    assert house.released == [] and group.replaced == 0
    assert list(house.rollouts) == [0, 1]
    await settled(lambda: any("rollout actor 2 has left" in line for line in said))
    group.cancel()


@asynchronous
async def test_who_dies_while_it_leaves_is_not_replaced_and_another_answers_for_it() -> None:
    house = House(2)
    for actor in house.rollouts.values():
        actor.ended.clear()
    group = actors(house)
    group.serve()
    house.rollouts[1].drain = Method(lambda: None)
    group.scale(1)
    house.rollouts[1].dead = True
    assert await answers(dict(group.send({"path": "v1"}, 1))) == [0.1, 0.1]
    assert await scores(group) == [0]
    assert group.numbers == [0] and house.released == ["rollout-1-0"] and group.replaced == 0
    group.cancel()


@asynchronous
async def test_one_that_is_told_to_leave_while_it_is_replaced_leaves() -> None:
    house = House(2)
    for actor in house.rollouts.values():
        actor.ended.clear()
    group = actors(house)
    group.serve()
    house.fresh_ones_work_on = True
    house.opened.clear()
    lost = house.rollouts[1]
    lost.dead = True
    lost.ended.set()
    await settled(lambda: house.made == 3)
    group.scale(1)
    house.opened.set()
    await settled(lambda: group.numbers == [0])
    await settled(lambda: house.ended == [1, 2])
    group.cancel()


@asynchronous
async def test_fewer_first_gives_up_those_that_have_not_joined() -> None:
    house = House(2)
    for actor in house.rollouts.values():
        actor.ended.clear()
    group = actors(house)
    group.serve()
    house.opened.clear()
    group.scale(4)
    await asyncio.sleep(0.05)
    group.scale(2)
    assert group.staying == 2
    house.opened.set()
    await settled(lambda: sorted(house.ended) == [2, 3])
    assert group.numbers == [0, 1]
    group.cancel()


@asynchronous
async def test_who_cannot_join_is_done_without() -> None:
    house, said = House(1, dead_on_arrival=1), []
    house.rollouts[0].ended.clear()
    group = actors(house, said)
    group.serve()
    group.scale(2)
    await settled(lambda: bool(said))
    assert "rollout actor 1 could not join" in said[0] and "goes on without it" in said[0]
    assert group.staying == 1 and await scores(group) == [0]
    group.check()
    group.cancel()


@asynchronous
async def test_weights_are_carried_once_for_all_that_are_on_other_machines() -> None:
    house = House(4)
    house.rollouts[1].node_id = house.rollouts[3].node_id = "there"
    group = actors(house)
    await group.locate("here")
    await answers(dict(group.send({"path": "v1"}, 1)))
    assert house.carried == [1]
    assert [actor.carried for actor in house.rollouts.values()] == [[], ["bytes of 1"], [], ["bytes of 1"]]
    house.rollouts[0].dead, house.node_of_the_next = True, "elsewhere"
    assert await scores(group) == [4, 1, 2, 3]
    assert house.rollouts[0].carried == ["bytes of 1"] and house.carried == [1]
    await answers(dict(group.send({"path": "v2"}, 2)))
    assert [actor.carried for actor in house.rollouts.values()] == [["bytes of 2"], ["bytes of 2"], [], ["bytes of 2"]]
    assert [actor.version for actor in house.rollouts.values()] == [2] * 4


@asynchronous
async def test_nothing_is_carried_where_all_are_on_one_machine() -> None:
    house = House(2)
    group = actors(house)
    await group.locate("here")
    await answers(dict(group.send({"path": "v1"}, 1)))
    assert house.carried == []


@asynchronous
async def test_one_that_dies_while_it_sleeps_is_replaced_once_its_memory_is_free() -> None:
    house = House(1, 0, "engine.sleep_mode=true")
    group = actors(house)
    await group.sleep()
    assert house.rollouts[0].asleep
    house.rollouts[0].dead = True
    asked = asyncio.ensure_future(scores(group))
    await asyncio.sleep(0.05)
    assert not asked.done() and house.made == 1, "the learner has the memory"
    group.may_wake()
    assert await asked == [1]
    await group.sleep()
    assert house.rollouts[0].asleep
    group.may_wake()
    await answers(group.wake())
    assert not house.rollouts[0].asleep


@asynchronous
async def test_one_that_cannot_sleep_is_ended_and_holds_nobody_up() -> None:
    house, said = House(1, 0, "engine.sleep_mode=true"), []
    group = actors(house, said)
    house.rollouts[0].dead = True
    await group.sleep()
    assert house.ended == [0] and "does not sleep" in said[0]
    group.may_wake()
    assert await scores(group) == [1]

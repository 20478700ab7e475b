"""Evaluations beside the training: when, under which weights, told once, the best step remembered, none done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from asynchronous import asynchronous

from actors.evaluation import Evaluation
from cluster.config import load_config
from cluster.held_out import HeldOut
from cluster.run_folder import RunFolder
from cluster.waiting import Waiting
from executor.problem import Problem, StdioTest

PROBLEMS = [
    Problem(id=f"p{i}", prompt="?", kind="stdio", public_tests=[StdioTest(input="", output="")]) for i in range(5)
]


class Actor:
    """Passes as many of its problems as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.rate, self.asked = 0.0, list[list[str]]()
        self.gate = asyncio.Event()
        self.gate.set()
        self.evaluate = self

    async def remote(self, problems: list[Problem], samples: int, sampling: object) -> Evaluation:
        self.asked.append([problem.id for problem in problems])
        await self.gate.wait()
        passed = {p.id: round(self.rate * samples) for p in problems}
        return Evaluation(0, passed=passed, samples={p.id: samples for p in problems})


class Rollouts:
    """As much of RolloutActors as is asked."""

    def __init__(self, *numbers: int) -> None:
        self.actors = {number: Actor() for number in numbers}

    @property
    def numbers(self) -> list[int]:
        return list(self.actors)

    def ask(self, what: str, question: Callable[[int, Any], Awaitable[Any]]) -> dict[str, Awaitable[Any]]:
        return {f"{what} {number}": question(number, actor) for number, actor in self.actors.items()}

    def pass_at(self, rate: float) -> None:
        for actor in self.actors.values():
            actor.rate = rate


def held_out(folder: RunFolder, rollouts: Rollouts, *settings: str, problems: list[Problem] = PROBLEMS) -> HeldOut:
    config = load_config(None, ["run.checkpoint_every=1", "evaluation.every=2", "run.steps=8", *settings])
    return HeldOut(config, folder, problems, rollouts, Waiting(lambda _: None), lambda _: None)  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "run")


@asynchronous
async def test_problems_are_shared_among_the_actors_that_there_are(folder: RunFolder) -> None:
    rollouts = Rollouts(0, 3)
    rollouts.pass_at(0.5)
    held = held_out(folder, rollouts)
    held.begin(0)
    await held.settle()
    assert [actor.asked for actor in rollouts.actors.values()] == [[["p0", "p2", "p4"]], [["p1", "p3"]]]
    assert held.before is not None and held.before.pass_rate == 0.5 and len(held.before.samples) == 5
    assert held.news() == {"held_out_pass_rate": 0.5, "held_out_step": 0.0}
    assert held.news() == {}, "it is told once"
    assert held.best_step is None, "what training began from is no checkpoint"


@asynchronous
async def test_training_goes_on_meanwhile_and_a_broadcast_waits(folder: RunFolder) -> None:
    rollouts = Rollouts(0)
    rollouts.actors[0].gate.clear()
    held = held_out(folder, rollouts)
    held.begin(2)
    await asyncio.sleep(0.05)
    settling = asyncio.create_task(held.settle())
    await asyncio.sleep(0.05)
    assert not settling.done()
    rollouts.actors[0].gate.set()
    async with asyncio.timeout(5):
        await settling


@asynchronous
async def test_the_best_step_is_the_latest_of_those_that_passed_most(folder: RunFolder) -> None:
    rollouts = Rollouts(0)
    held = held_out(folder, rollouts)
    found = []
    for step, rate in ((2, 0.25), (4, 0.75), (6, 0.5)):
        rollouts.pass_at(rate)
        held.begin(step)
        await held.settle()
        found.append(held.best_step)
    assert found == [2, 4, 4]
    assert held_out(folder, rollouts).best_step == 4, "a resumed run knows it"
    rollouts.pass_at(0.75)
    await held.after(8)
    assert held.best_step == 8


@asynchronous
async def test_only_what_is_asked_for_is_evaluated_and_nothing_twice(folder: RunFolder) -> None:
    rollouts = Rollouts(0)
    held = held_out(folder, rollouts)
    for step in (1, 2, 3, 8):
        held.begin(step)
        await held.settle()
    assert len(rollouts.actors[0].asked) == 1, "step 2; after the last step there is an evaluation anyway"
    again = held_out(folder, rollouts)
    again.begin(2)
    await again.settle()
    assert len(rollouts.actors[0].asked) == 1 and again.news()["held_out_step"] == 2
    never = held_out(folder, rollouts, "evaluation.every=0", "evaluation.before=false")
    for step in (0, 4):
        never.begin(step)
        await never.settle()
    without = held_out(folder, rollouts, problems=[])
    without.begin(0)
    await without.settle()
    assert await without.after(8) is None
    assert len(rollouts.actors[0].asked) == 1


@asynchronous
async def test_an_evaluation_that_breaks_is_told_to_whoever_waits_for_it(folder: RunFolder) -> None:
    rollouts = Rollouts(0)

    async def broken(*_: object) -> Evaluation:
        raise RuntimeError("the weights changed during an evaluation")

    rollouts.actors[0].remote = broken  # type: ignore[method-assign]
    held = held_out(folder, rollouts)
    held.begin(2)
    with pytest.raises(RuntimeError, match="weights changed"):
        await held.settle()
    assert held.best_step is None

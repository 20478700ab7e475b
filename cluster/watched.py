"""What the watchdog sees of each part of a run: how far it is, whether it has work, what of it can be begun anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ray

from cluster.actors import House
from cluster.watchdog import Part, Sight


def parts(house: House, learning: Callable[[], int | None]) -> dict[str, Part]:
    """The parts by name. `learning`: the step that the learner works on, None while it waits."""
    found = {
        "the learner": Part(house.learner, partial(_learner, learning), partial(_step, learning)),
        "the buffer": Part(house.buffer, partial(_answers, house.buffer)),
    }
    for number, actor in house.rollouts.items():
        found[f"rollout actor {number}"] = Part(
            actor, partial(_rollout, actor), partial(_groups, house, number), partial(house.end_rollout, actor)
        )
    for name, actor in house.executors.items():
        # Ray starts it anew; what it had is sent to another one.
        found[name] = Part(actor, partial(_executor, actor), restart=partial(ray.kill, actor, no_restart=False))
    return found


async def _learner(learning: Callable[[], int | None]) -> Sight:
    step = learning()
    return Sight(step, busy=step is not None)


async def _step(learning: Callable[[], int | None]) -> str:
    return f"step {learning()}"


async def _answers(actor: Any) -> Sight:
    await actor.gauges.remote()
    return Sight(time.monotonic())


async def _rollout(actor: Any) -> Sight:
    # While programs are judged it is the executors' turn, while the engine sleeps the learner's.
    seen = await actor.gauges.remote()
    return Sight((seen["generated_tokens"], seen["groups"]), busy=seen["generating"] > 0 and not seen["asleep"])


async def _groups(house: House, number: int) -> str:
    return f"groups {', '.join(map(str, await house.buffer.held_by.remote(house.names[number])))}"


async def _executor(actor: Any) -> Sight:
    seen = await actor.gauges.remote()
    return Sight(seen["executions"], busy=seen["busy_slots"] > 0)

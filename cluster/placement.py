"""Which process gets which part of the machine; pure.

On a machine without a GPU every actor asks Ray for no CPU: two cores hold a whole run, and the operating system shares them better than a reservation
would. With one GPU, engine and learner share it; with more, each has its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from executor.errors import UserError


@dataclass(frozen=True)
class Placement:
    """GPUs that Ray reserves for one actor of each kind."""

    rollout_gpus: float
    learner_gpus: float


def engine_threads(asked: int | None) -> int:
    """OpenMP threads of an engine on a CPU: half of the cores, unless so many are asked for.

    In a run the learner takes what the engine leaves idle; and two engine threads that wait for a core spin against each other, so that more are
    slower as soon as anything else runs.
    """
    return asked or max(1, (os.cpu_count() or 1) // 2)


def plan(gpus: int, rollout_actors: int) -> Placement:
    """Share `gpus` among one learner and `rollout_actors` engines. Raises UserError if they do not suffice."""
    if gpus == 0:
        return Placement(0.0, 0.0)
    if gpus == 1:
        if rollout_actors > 1:
            raise UserError(f"rollout.actors={rollout_actors}: one GPU holds one engine beside the learner")
        return Placement(0.5, 0.5)
    if gpus < rollout_actors + 1:
        raise UserError(
            f"rollout.actors={rollout_actors}: with {gpus} GPUs, one of them the learner's, at most {gpus - 1} fit"
        )
    return Placement(1.0, 1.0)

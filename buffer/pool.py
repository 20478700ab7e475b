"""Where finished groups wait, and what a step is made of: RLTF's online buffer, and a queue where its settings say so.

A finished group is staged. A refresh moves what is staged into the pool as one shuffled block and drops the oldest
samples until `capacity` are left. So the pool is the newest `capacity` samples, and n new ones push out exactly n:
the oldest blocks, then a random part of the oldest block left (golden A16). A step draws groups, and none comes again
before every other has come (a pass; a refresh begins a new one). To train every group once is the same with a
refresh at every draw, no limit, groups drawn as they are due, and a drawn group gone when its step is committed.

Samples are counted and groups are drawn, so at most one group, the oldest, is without some of its samples. Which of
them went is chance, so what is left is a fair smaller group; it keeps the mean of the whole one as a baseline.

Pure. Invariants: nothing too old is drawn, or pushes out what is not; a draw that is undone is drawn again the same; a
draw leaves no fewer groups than one step needs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from buffer.problem_order import random_state, set_random_state
from buffer.staleness import by_due
from buffer.trajectory import Group


@dataclass(frozen=True)
class Drawing:
    """The settings that make the pool a queue (these defaults) or RLTF's buffer."""

    groups_per_step: int
    again: bool = False  # a group stays when its step is done, and may be drawn again
    capacity: float = math.inf  # samples
    refresh_every: int = 0  # committed steps; 0: at every draw
    fill: int = 0  # samples that the first step waits for


def samples(groups: Iterable[Group]) -> int:
    """Samples of `groups`. A group of references alone counts as one, so that a pool of them has a limit too."""
    return sum(max(1, len(group.sampled)) for group in groups)


class Pool:
    """Groups staged, groups in the pool, the pass of draws over it, and the draw of the step under way."""

    def __init__(self, drawing: Drawing, generator: random.Random) -> None:
        self.drawing = drawing
        self.staged: list[Group] = []
        self.groups: list[Group] = []  # in the pool, the next to be dropped first
        self.taken: list[Group] = []
        self._random = generator
        self._drawn: set[int] = set()  # in this pass
        self._steps = 0  # committed since the last refresh
        self._before: dict[str, Any] | None = None  # where the draw under way began

    def stage(self, group: Group, oldest_version: int) -> None:
        """Hold a finished group until the next refresh; of more than the pool can take in, the newest are held."""
        self.staged.append(group)
        if math.isinf(self.drawing.capacity):
            return  # nothing can be too much: a put costs the same however many groups are held
        count = samples(self.staged)
        if count > self.drawing.capacity:
            self.staged = _fresh(self.staged, oldest_version)
            count = samples(self.staged)
        while len(self.staged) > self.drawing.groups_per_step:
            count -= samples(self.staged[:1])
            if count < self.drawing.capacity:
                break
            del self.staged[0]

    @property
    def samples(self) -> int:
        """Samples in the pool, without those staged."""
        return samples(self.groups)

    def candidates(self, oldest_version: int) -> list[Group]:
        """Groups that a draw may be made of. What is staged counts: a draw that would starve refreshes first."""
        taken = {group.group_id for group in self.taken}
        return [g for g in _fresh([*self.groups, *self.staged], oldest_version) if g.group_id not in taken]

    def draw(self, oldest_version: int) -> list[Group]:
        """One step's groups, issued at `oldest_version` or later; there must be enough candidates."""
        count = self.drawing.groups_per_step
        due = self._steps >= self.drawing.refresh_every
        if self.staged and (due or len(_fresh(self.groups, oldest_version)) < count):
            self._refresh(oldest_version)
        self._before = self._position()
        fresh = _fresh(self.groups, oldest_version)
        self.taken = self._in_turn(g for g in fresh if g.group_id not in self._drawn)[:count]
        missing = count - len(self.taken)
        if missing:  # the pass ends within this draw, and the next begins
            last = {group.group_id for group in self.taken}
            self._drawn.clear()
            self.taken += self._in_turn(g for g in fresh if g.group_id not in last)[:missing]
        self._drawn.update(group.group_id for group in self.taken[-missing:])
        return list(self.taken)

    def _in_turn(self, groups: Iterable[Group]) -> list[Group]:
        if not self.drawing.again:
            return by_due(groups)
        shuffled = list(groups)
        self._random.shuffle(shuffled)
        return shuffled

    def _refresh(self, oldest_version: int) -> None:
        # Versions only rise: what is too old now can never be drawn again and must not push out what can.
        block = _fresh(self.staged, oldest_version)
        self._random.shuffle(block)
        self.groups = [*_fresh(self.groups, oldest_version), *block]
        self._drop()
        self.staged, self._drawn, self._steps = [], set(), 0

    def _drop(self) -> None:
        beyond = samples(self.groups) - self.drawing.capacity
        gone = 0
        while beyond > 0:
            size = samples([self.groups[gone]])
            if size > beyond:
                self.groups[gone] = self._cut(self.groups[gone], size - int(beyond))
            elif len(self.groups) - gone > self.drawing.groups_per_step:
                gone += 1
            else:
                break  # the groups are larger than the pool was made for
            beyond -= size
        del self.groups[:gone]

    def _cut(self, group: Group, count: int) -> Group:
        """The group with `count` of its samples left, and with all else it holds."""
        sampled = [i for i, trajectory in enumerate(group.trajectories) if trajectory.role == "sampled"]
        gone = set(sampled) - set(self._random.sample(sampled, count))
        kept = [trajectory for i, trajectory in enumerate(group.trajectories) if i not in gone]
        baselines = {"group_mean": group.mean_components(), **group.baselines}
        return group.model_copy(update={"trajectories": kept, "baselines": baselines})

    def commit(self) -> None:
        """The step on the groups taken is done."""
        if not self.drawing.again:
            self.groups = [group for group in self.groups if group.group_id not in self._drawn]
            self._drawn.clear()
        self.taken, self._before = [], None
        self._steps += 1

    def undo(self) -> None:
        """The step was given up: the same groups come again, unless new ones bring a refresh before."""
        if self._before is not None:
            self._go_to(self._before)
        self.taken, self._before = [], None

    def _position(self) -> dict[str, Any]:
        return {"drawn": sorted(self._drawn), "random": random_state(self._random)}

    def _go_to(self, position: dict[str, Any]) -> None:
        self._drawn = set(position["drawn"])
        set_random_state(self._random, position["random"])

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON; a draw under way counts as undone."""
        return {
            **(self._before or self._position()),
            "staged": [group.model_dump(mode="json") for group in self.staged],
            "groups": [group.model_dump(mode="json") for group in self.groups],
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; a pool that is smaller now drops its oldest samples."""
        self.staged = [Group.model_validate(group) for group in state["staged"]]
        self.groups = [Group.model_validate(group) for group in state["groups"]]
        self.taken, self._before, self._steps = [], None, state["steps"]
        self._go_to(state)
        self._drop()


def _fresh(groups: Iterable[Group], oldest_version: int) -> list[Group]:
    return [group for group in groups if group.issued_version >= oldest_version]

"""How old a group may be when it is trained: what may be handed out, what is due when, what is too old.

Pure arithmetic. With G groups a step, N steps a policy version, a bound of eta versions, and a learner that after s
committed steps is at version s // N:

- at policy version v at most (eta + v + 1) * N * G tickets have ever been issued;
- a group issued at version i is due: it is trained at learner version i + eta or before.

So tickets due by version d are never more than the (d + 1) * N * G groups trained by its end, and every group can be
trained in time if no step wastes its places. A step takes the groups due first; where later ones would fill it while
groups due sooner are unfinished, it goes ahead only if those, however late they finish, still fit in the steps left.
Otherwise it waits for them. Waiting ends: tickets issued meanwhile, or again, are due later.

Where groups are drawn again none is owed a step: nothing is ever due, and what is older than the bound is not drawn.
That never starves either: each version brings N * G tickets that are fresh throughout it, and only groups as fresh
can push out what comes of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from buffer.trajectory import Group


@dataclass(frozen=True)
class Staleness:
    """The bound, for a learner that has committed so many steps."""

    groups_per_step: int
    steps_per_version: int
    bound: int  # policy versions
    all_are_owed: bool  # a step; else groups are drawn by chance, and some perhaps never

    def tickets(self, version: int) -> int:
        """Tickets that may have been issued, in all, at this policy version."""
        return (self.bound + version + 1) * self.steps_per_version * self.groups_per_step

    def learner_version(self, steps: int) -> int:
        """Policy version that the learner trains."""
        return steps // self.steps_per_version

    def oldest(self, steps: int) -> int:
        """Groups issued before this version are too old for the next step."""
        return self.learner_version(steps) - self.bound

    def due(self, issued_version: int) -> float:
        """The last learner version at which such a group may be trained and is owed it."""
        return issued_version + self.bound if self.all_are_owed else math.inf

    def late(self, steps: int, left: Iterable[int]) -> float:
        """When the last of the groups is due that might be late if the next step were made now; -inf if none might.

        `left` has the version of issue of all that the step would leave, finished or not. They are lined up by when
        they are due, G to a step. Where a place in the line comes too late, the steps left cannot hold all that is
        due by then, and places in the step would be wasted on others.
        """
        late = (
            due
            for place, due in enumerate(sorted(map(self.due, left)))
            if self.learner_version(steps + 1 + place // self.groups_per_step) > due
        )
        return max(late, default=-math.inf)


def by_due(groups: Iterable[Group]) -> list[Group]:
    """The groups due first come first."""
    return sorted(groups, key=lambda group: (group.issued_version, group.group_id))

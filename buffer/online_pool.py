"""RLTF's online buffer: a pool of the newest groups, refreshed now and then, from which steps draw again and again.

Pure. Invariants: once the pool is full, n new samples push out exactly n of the oldest (golden A16), whole blocks
first, then a random part of the oldest block left; a draw holds no group twice, and no group comes again before
every other that may be drawn has come (a pass; a refresh begins a new one).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from buffer.problem_order import random_state, set_random_state
from buffer.trajectory import Group

T = TypeVar("T")


class OnlinePool(Generic[T]):
    """Blocks of samples, oldest first, one block a refresh."""

    def __init__(self, max_length: int, generator: random.Random) -> None:
        self.max_length = max_length
        self._random = generator
        self.blocks: list[list[T]] = []

    def refresh(self, new: Sequence[T]) -> None:
        """Take a block of n new samples in. While the pool fills, only what is beyond `max_length` goes, at most n."""
        beyond = max(0, len(self) + len(new) - self.max_length)
        self._evict(min(len(new), beyond))
        self.blocks.append(list(new))

    def _evict(self, count: int) -> None:
        while count and self.blocks:
            oldest = self.blocks[0]
            if len(oldest) <= count:
                count -= len(oldest)
                self.blocks.pop(0)
            else:
                kept = sorted(self._random.sample(range(len(oldest)), len(oldest) - count))
                self.blocks[0] = [oldest[i] for i in kept]
                count = 0

    def keep(self, wanted: Callable[[T], bool]) -> None:
        """Drop every sample that is not wanted."""
        kept = ([item for item in block if wanted(item)] for block in self.blocks)
        self.blocks = [block for block in kept if block]

    def __len__(self) -> int:
        return sum(len(block) for block in self.blocks)

    def newest(self) -> list[T]:
        """The at most `max_length` newest samples, which may be drawn, oldest first."""
        return [item for block in self.blocks for item in block][-self.max_length :]


class OnlineDraws:
    """Groups staged for the pool, the pool, and the pass of draws over it."""

    def __init__(self, capacity: int, refresh_every: int, generator: random.Random) -> None:
        self._random = generator
        self._refresh_every = refresh_every
        self._pool: OnlinePool[Group] = OnlinePool(capacity, generator)
        self._staged: list[Group] = []
        self._drawn: set[int] = set()
        self._commits = 0  # since the last refresh
        self._before: dict[str, Any] | None = None  # where a draw that is not committed began

    def __len__(self) -> int:
        return len(self._pool)

    def stage(self, group: Group) -> None:
        """Hold a finished group until the next refresh."""
        self._staged.append(group)

    def candidates(self, oldest_version: int) -> list[Group]:
        """Groups issued at `oldest_version` or later, in the pool or staged."""
        return [g for g in [*self._pool.newest(), *self._staged] if g.issued_version >= oldest_version]

    def can_draw(self, count: int, oldest_version: int) -> bool:
        """Whether `draw` would find enough. What is staged counts: a starved draw refreshes ahead of time."""
        return len(self.candidates(oldest_version)) >= count

    def draw(self, count: int, oldest_version: int) -> list[Group]:
        """`count` different groups issued at `oldest_version` or later; `can_draw` must hold."""
        pooled = sum(g.issued_version >= oldest_version for g in self._pool.newest())
        if self._staged and (self._commits >= self._refresh_every or pooled < count):
            self._refresh(oldest_version)
        self._before = self._position()
        fresh = [g for g in self._pool.newest() if g.issued_version >= oldest_version]
        left = [g for g in fresh if g.group_id not in self._drawn]
        self._random.shuffle(left)
        if len(left) >= count:
            self._drawn.update(g.group_id for g in left[:count])
            return left[:count]
        # The rest of this pass, then the beginning of the next.
        begun = {g.group_id for g in left}
        added = self._random.sample([g for g in fresh if g.group_id not in begun], count - len(left))
        self._drawn = {g.group_id for g in added}
        return [*left, *added]

    def _refresh(self, oldest_version: int) -> None:
        # Versions only rise: what is too old now can never be drawn again and must not push out what can.
        self._pool.keep(lambda group: group.issued_version >= oldest_version)
        self._pool.refresh([g for g in self._staged if g.issued_version >= oldest_version])
        self._staged.clear()
        self._drawn.clear()
        self._commits = 0

    def commit(self) -> None:
        """The step on the last draw is done."""
        self._before = None
        self._commits += 1

    def undo(self) -> None:
        """The step on the last draw was given up: the same groups come again."""
        if self._before is not None:
            self._go_to(self._before)
            self._before = None

    def _position(self) -> dict[str, Any]:
        return {"drawn": sorted(self._drawn), "random": random_state(self._random)}

    def _go_to(self, position: dict[str, Any]) -> None:
        self._drawn = set(position["drawn"])
        set_random_state(self._random, position["random"])

    def state_dict(self) -> dict[str, Any]:
        """Everything as JSON; a draw that is not committed counts as undone."""
        return {
            **(self._before or self._position()),
            "staged": [group.model_dump(mode="json") for group in self._staged],
            "blocks": [[group.model_dump(mode="json") for group in block] for block in self._pool.blocks],
            "commits": self._commits,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self._staged = [Group.model_validate(group) for group in state["staged"]]
        self._pool.blocks = [[Group.model_validate(group) for group in block] for block in state["blocks"]]
        self._commits, self._before = state["commits"], None
        self._go_to(state)

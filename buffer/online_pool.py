"""RLTF's online buffer (golden A16): new samples push out exactly as many of the oldest; the newest `max_length` are drawn from.

Pure. Samples come in blocks, one a refresh. n new samples evict n: whole oldest blocks first, then a random subset of the oldest one left.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class OnlinePool(Generic[T]):
    """Blocks of samples, oldest first."""

    def __init__(self, max_length: int, generator: random.Random) -> None:
        self.max_length = max_length
        self._random = generator
        self.blocks: list[list[T]] = []

    def refresh(self, new: Sequence[T]) -> None:
        """Take a block of new samples in. The first block evicts nothing."""
        if self.blocks:
            self._evict(len(new))
        self.blocks.append(list(new))

    def _evict(self, count: int) -> None:
        if count >= len(self):
            self.blocks = []
            return
        while count:
            oldest = self.blocks[0]
            if len(oldest) <= count:
                count -= len(oldest)
                self.blocks.pop(0)
            else:
                kept = sorted(self._random.sample(range(len(oldest)), len(oldest) - count))
                self.blocks[0] = [oldest[i] for i in kept]
                count = 0

    def __len__(self) -> int:
        return sum(len(block) for block in self.blocks)

    def newest(self) -> list[T]:
        """The at most `max_length` newest samples, which are drawn from."""
        everything = [item for block in self.blocks for item in block]
        return everything[-self.max_length :]

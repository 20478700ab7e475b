"""A step's batch cut into the updates that are made from it; pure.

Invariants: every epoch uses each group once; a group stays whole, so that its prompt is computed once and its samples move the policy together; one
update a step takes the groups as they come.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def updates(groups: Sequence[T], epochs: int, minibatches: int, seed: int) -> Iterator[list[T]]:
    """The groups of each update: `minibatches` of nearly one size in each of `epochs`, shuffled anew for each; none is empty."""
    for epoch in range(epochs):
        order = list(groups)
        if epochs * minibatches > 1:
            random.Random(f"{seed} {epoch}").shuffle(order)
        cuts = [len(order) * number // minibatches for number in range(minibatches + 1)]
        for start, end in zip(cuts, cuts[1:], strict=False):
            if end > start:
                yield order[start:end]

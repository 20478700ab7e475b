"""Which policy version sampled which token of a request that went on while the weights changed; pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def policy_versions(boundaries: Sequence[tuple[int, int]], length: int) -> list[int]:
    """The policy version of each of `length` tokens; a boundary `(n, v)` says that tokens from the n-th on are of version v."""
    versions: list[int] = []
    for (start, version), following in itertools.zip_longest(boundaries, boundaries[1:]):
        end = length if following is None else min(following[0], length)
        versions += [version] * max(0, end - max(start, len(versions)))
    return versions

"""Tokens sampled across weight updates carry the version that sampled each of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.versions import policy_versions


@pytest.mark.parametrize(
    "boundaries, length, expected",
    [
        ([(0, 3)], 3, [3, 3, 3]),
        ([(0, 3), (2, 4)], 4, [3, 3, 4, 4]),
        ([(0, 3), (0, 4)], 2, [4, 4]),  # updated before the first token
        ([(0, 3), (2, 4), (2, 5)], 4, [3, 3, 5, 5]),  # two updates without a token between them
        ([(0, 3), (2, 4)], 2, [3, 3]),  # updated after the last token
        ([(0, 3), (1, 4), (3, 5)], 5, [3, 4, 4, 5, 5]),
        ([(0, 3)], 0, []),
    ],
)
def test_each_token_has_the_version_that_sampled_it(
    boundaries: list[tuple[int, int]], length: int, expected: list[int]
) -> None:
    assert policy_versions(boundaries, length) == expected


@given(st.lists(st.integers(0, 12), max_size=5), st.integers(0, 15))
def test_the_version_is_that_of_the_last_boundary_at_or_before_the_token(counts: list[int], length: int) -> None:
    boundaries = [(0, 7), *((count, 8 + i) for i, count in enumerate(sorted(counts)))]
    expected = [max(version for start, version in boundaries if start <= token) for token in range(length)]
    assert policy_versions(boundaries, length) == expected

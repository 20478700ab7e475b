"""Updates of a step: every epoch uses each group once, and none is empty."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from learner.minibatches import updates


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_uses_each_group_once(count: int, epochs: int, minibatches: int, seed: int) -> None:
    groups = list(range(count))
    made = list(updates(groups, epochs, minibatches, seed))
    assert all(made)
    assert len(made) == epochs * min(minibatches, count)
    for epoch in range(epochs):
        parts = made[epoch * min(minibatches, count) : (epoch + 1) * min(minibatches, count)]
        assert sorted(g for part in parts for g in part) == groups
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert made == list(updates(groups, epochs, minibatches, seed))


def test_one_update_takes_the_groups_as_they_come() -> None:
    assert list(updates([3, 1, 2], 1, 1, 7)) == [[3, 1, 2]]


def test_epochs_are_shuffled_each_in_its_own_way() -> None:
    first, second = updates(list(range(30)), 2, 1, 0)
    assert sorted(first) == sorted(second) and first != second

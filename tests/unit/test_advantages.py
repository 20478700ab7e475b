"""Advantages over a group: golden E01, and what holds for any rewards."""

from __future__ import annotations

from statistics import fmean

import pytest
from golden_cases import golden
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages import centred, group_relative, leave_one_out

REWARDS = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
# Golden E01: what a passing and what a failing sample of the eight above is worth.
E01 = {
    "grpo_population_std": (1.732047, -0.577349),
    "grpo_sample_std": (1.620182, -0.540061),
    "dr_grpo": (0.75, -0.25),
    "rloo": (0.857143, -0.285714),
}
groups = st.lists(st.floats(-2, 2), min_size=2, max_size=16)


def computed(rewards: list[float]) -> dict[str, list[float]]:
    return {
        "grpo_population_std": group_relative(rewards, "population"),
        "grpo_sample_std": group_relative(rewards, "sample"),
        "dr_grpo": group_relative(rewards, "none"),
        "rloo": leave_one_out(rewards),
    }


def test_golden_numbers() -> None:
    for name, values in computed(REWARDS).items():
        high, low = E01[name]
        assert values == pytest.approx([high if reward else low for reward in REWARDS], abs=1e-6), name


def test_the_golden_file_says_the_same() -> None:
    inputs, expected = golden("E01")
    for name, values in computed(inputs["rewards"]).items():
        assert values == pytest.approx(expected[name], abs=1e-6), name


@given(groups)
def test_advantages_add_up_to_nothing_and_keep_the_order(rewards: list[float]) -> None:
    for values in computed(rewards).values():
        assert sum(values) == pytest.approx(0, abs=1e-6)
        ordered = [value for _, value in sorted(zip(rewards, values, strict=True))]
        assert ordered == sorted(ordered)


@given(groups)
def test_leave_one_out_compares_with_the_others(rewards: list[float]) -> None:
    for i, value in enumerate(leave_one_out(rewards)):
        assert value == pytest.approx(rewards[i] - fmean(rewards[:i] + rewards[i + 1 :]), abs=1e-9)


def test_equal_rewards_say_nothing() -> None:
    for values in computed([0.1] * 3).values():
        assert values == pytest.approx([0.0] * 3, abs=1e-6)


def test_small_groups() -> None:
    assert centred([]) == group_relative([]) == []
    assert group_relative([1.0]) == [0.0]
    with pytest.raises(ValueError, match="at least two"):
        leave_one_out([1.0])

"""What travels to the learner refuses to exist in a form that could be misread."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from trajectories import group, reference, sampled

from buffer.trajectory import CreditSpan, Group, Trajectory, Turn


def fields(**changes: Any) -> dict[str, Any]:
    good = {
        "problem_id": "p",
        "token_ids": [1, 2, 3],
        "log_probs": [0.0, -1.0, -2.0],
        "policy_versions": [-1, 4, 5],
        "loss_mask": [0, 1, 1],
        "turns": [Turn(start=1, end=3, response="", finish_reason="stop")],
    }
    return good | changes


def test_a_trajectory_survives_the_journey() -> None:
    original = group(
        sampled([1, 2], [3, 4], {"coarse": 0.5}), reference([1, 2], [5]), baselines={"best_so_far": {"coarse": 1.0}}
    )
    assert Group.model_validate_json(original.model_dump_json()) == original
    assert Group.model_validate(original.model_dump(mode="json")) == original


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"log_probs": [0.0]}, r"lists of lengths \[1, 3\]"),
        ({"loss_mask": [0, 1, 1, 1]}, r"lists of lengths \[3, 4\]"),
        ({"policy_versions": [-1, -1, 5]}, "trained token without a policy version"),
        ({"turns": [Turn(start=1, end=4, response="", finish_reason="stop")]}, r"turn \[1, 4\) lies outside"),
        ({"turns": [Turn(start=3, end=1, response="", finish_reason="stop")]}, r"turn \[3, 1\) lies outside"),
        ({"form": 2}, "form"),
        ({"advantages": [1.0]}, "advantages"),
    ],
)
def test_a_malformed_trajectory_is_refused(changes: dict[str, Any], said: str) -> None:
    Trajectory(**fields())
    with pytest.raises(ValidationError, match=said):
        Trajectory(**fields(**changes))


@pytest.mark.parametrize("start, end", [(3, 3), (4, 3), (-1, 2)])
def test_an_empty_span_is_refused(start: int, end: int) -> None:
    with pytest.raises(ValidationError):
        CreditSpan(start=start, end=end, value=-0.3)


def test_a_mask_has_no_value_and_a_span_without_a_kind_is_a_penalty() -> None:
    assert CreditSpan(start=1, end=2, value=0, kind="mask").kind == "mask"
    with pytest.raises(ValidationError, match="a mask has no value"):
        CreditSpan(start=1, end=2, value=-0.3, kind="mask")
    # As it was written before there were masks.
    old = {"start": 1, "end": 2, "value": -0.3, "reason": "NameError in line 1"}
    assert CreditSpan.model_validate(old).kind == "penalty"


def test_a_form_of_another_version_is_refused() -> None:
    data = group(sampled([1], [2])).model_dump(mode="json")
    with pytest.raises(ValidationError, match="form"):
        Group.model_validate(data | {"form": 2})


def test_a_references_tokens_need_no_policy_version() -> None:
    assert reference([1], [2, 3]).oldest_version == -1


def test_the_oldest_version_is_that_of_trained_tokens() -> None:
    assert Trajectory(**fields()).oldest_version == 4
    assert Trajectory(**fields(loss_mask=[0, 0, 1])).oldest_version == 5
    assert Trajectory(**fields(loss_mask=[0, 0, 0])).oldest_version == -1


def test_reward_and_passing_come_from_the_turns() -> None:
    assert sampled([1], [2], {"coarse": 1.0, "adaptive": 0.5}, outcome="pass").reward == 1.5
    assert sampled([1], [2], outcome="pass").passed
    assert not sampled([1], [2], outcome="failure").passed
    assert not reference([1], [2]).passed
    turns = [
        sampled([1], [2], {"coarse": r}, outcome=o, start=1, end=2).turns[0]
        for r, o in ((-0.3, "pass"), (1.0, "failure"))
    ]
    two = Trajectory(**fields(turns=turns))
    assert two.reward == pytest.approx(0.7)
    assert not two.passed  # the last turn decides


def test_only_samples_of_the_policy_count_as_sampled() -> None:
    first, second = sampled([1], [2]), sampled([1], [3])
    assert group(first, sampled([1], [4], role="greedy"), second, reference([1], [5])).sampled == [first, second]

"""A batch's numbers, computed by hand."""

from __future__ import annotations

import pytest
from trajectories import dialogue, group, reference, sampled, verdict

from learner.batch_metrics import batch_metrics

MIXED = group(
    sampled(
        [1, 2],
        [3, 4, 5],
        {"coarse": 1.0},
        outcome="pass",
        version=4,
        log_probs=[-0.1, -0.2, -0.3],
        verdict=verdict("pass", 4),
    ),
    sampled(
        [1, 2],
        [6],
        {"coarse": -0.3},
        version=6,
        log_probs=[-2.0],
        verdict=verdict("failure", 1),
        finish_reason="length",
    ),
    sampled([1, 2], [9, 9, 9, 9], {"coarse": -1.0}, role="greedy", version=0),
    reference([1, 2], [7, 7]),
)
ALIKE = group(
    sampled([1], [3, 4], {"coarse": -0.6}, version=5, log_probs=[-1.0, -1.0], verdict=verdict("timeout")),
    sampled([1], [3, 4], {"coarse": -1.0}, version=5, log_probs=[-1.0, -1.0], verdict=verdict("no_code")),
    group_id=1,
)


def test_rewards_are_told_by_outcome() -> None:
    found = batch_metrics([MIXED, ALIKE], 6)
    rewards = {name: value for name, value in found.items() if name.startswith("reward_")}
    assert rewards == {"reward_pass": 1.0, "reward_failure": -0.3, "reward_timeout": -0.6, "reward_no_code": -1.0}


def test_means_are_over_sampled_trajectories() -> None:
    found = batch_metrics([MIXED, ALIKE], 6)
    assert found["trajectories"] == 4
    assert found["reward"] == pytest.approx((1.0 - 0.3 - 0.6 - 1.0) / 4)
    assert found["share_passing"] == pytest.approx(1 / 4)
    assert found["share_tests"] == pytest.approx((1 + 1 / 4) / 4)
    assert found["groups_mixed_share"] == pytest.approx(1 / 2)
    assert found["response_tokens"] == pytest.approx((3 + 1 + 2 + 2) / 4)
    assert found["truncated_share"] == pytest.approx(1 / 4)


def test_turns_and_repairs_are_counted_by_episode() -> None:
    repaired = dialogue([1], [([], [2]), ([3], [4])], [0.0, 1.0], outcome="pass")
    lost = dialogue([1], [([], [2]), ([3], [4]), ([3], [4])], [0.0, 0.0, -1.0])
    full = lost.model_copy(update={"ending": "context"})
    at_once = dialogue([1], [([], [2])], [1.0], outcome="pass")
    found = batch_metrics([group(repaired, lost, full, at_once)], 0)
    assert (found["turns"], found["first_turn_passing"], found["repaired_share"]) == (9 / 4, 1 / 4, 1 / 4)
    assert (found["share_passing"], found["context_full_share"]) == (1 / 2, 1 / 4)


def test_staleness_and_entropy_are_by_token() -> None:
    found = batch_metrics([MIXED, ALIKE], 6)
    assert found["staleness_mean"] == pytest.approx((3 * 2 + 1 * 0 + 4 * 1) / 8)
    assert found["staleness_max"] == 2
    assert found["entropy"] == pytest.approx((0.1 + 0.2 + 0.3 + 2.0 + 4 * 1.0) / 8)


@pytest.mark.parametrize(
    "outcome, metric",
    [
        ("no_code", "no_code_share"),
        ("syntax_error", "syntax_error_share"),
        ("error", "error_share"),
        ("memory", "error_share"),
        ("output_limit", "error_share"),
        ("timeout", "timeout_share"),
        ("failure", "failure_share"),
        ("pass", "share_passing"),
    ],
)
def test_every_outcome_is_counted_once(outcome: str, metric: str) -> None:
    found = batch_metrics([group(sampled([1], [2], outcome=outcome))], 0)
    shares = {
        name: found[name]
        for name in found
        if name.endswith("_share") and name not in ("groups_mixed_share", "truncated_share")
    }
    shares["share_passing"] = found["share_passing"]
    assert {name for name, share in shares.items() if share} == {metric}
    assert shares[metric] == 1


def test_a_batch_without_samples_has_no_numbers() -> None:
    assert batch_metrics([group(reference([1], [2]))], 3) == {}

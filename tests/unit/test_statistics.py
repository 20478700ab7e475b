"""pass@k against its golden numbers and its definition; intervals that hold the truth as often as they say."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.statistics import (
    Interval,
    mean_interval,
    padded,
    paired_difference,
    pass_at_k,
    rate_interval,
    ratio_interval,
)

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden.json"
D01 = [
    (20, 3, 1, 0.15),
    (20, 3, 5, 0.600877),
    (20, 0, 5, 0.0),
    (20, 18, 5, 1.0),
    (100, 1, 10, 0.1),
    (200, 30, 100, 1.0),
    (1000, 4, 1000, 1.0),
]


def pass_rates(counts: Sequence[tuple[int, int]], k: int = 1, problems: int | None = None) -> Interval:
    """pass@k over (passed, samples) a problem."""
    return rate_interval([pass_at_k(samples, passed, k) for passed, samples in counts], problems)


@pytest.mark.parametrize("n, c, k, expected", D01)
def test_pass_at_k_golden(n: int, c: int, k: int, expected: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-6)


def test_problems_without_samples_count_as_zero() -> None:
    assert pass_rates([(3, 20), (20, 20)], problems=4).mean == pytest.approx(0.2875)


def test_the_interval_is_around_the_mean_that_counts_missing_problems_as_zero() -> None:
    counts = [(3, 20), (20, 20)]
    interval = pass_rates(counts, problems=4)
    assert interval.mean == pytest.approx(0.2875)
    assert 0.0 <= interval.low < interval.mean < interval.high <= 1.0
    assert padded([0.5], 3) == [0.5, 0.0, 0.0] and padded([0.5]) == [0.5]
    for values, problems in ([0.5, 0.5], 1), ([], None), ([], 0):
        with pytest.raises(ValueError, match="problems"):
            padded(values, problems)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden.json (../shared) is not beside this checkout")
def test_the_golden_file_says_the_same() -> None:
    cases = _cases()
    rows = cases["D01"]["inputs"]["rows"]
    assert [pass_at_k(r["n"], r["c"], r["k"]) for r in rows] == pytest.approx(cases["D01"]["expected"], abs=1e-6)
    given_ = cases["D02"]["inputs"]
    counts = [(row["c"], row["n"]) for row in given_["present"]]
    assert pass_rates(counts, given_["k"], given_["num_problem"]).mean == pytest.approx(cases["D02"]["expected"])


def _cases() -> dict[str, dict]:
    found: dict[str, dict] = {}

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("id"), str):
                found[node["id"]] = node
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(json.loads(GOLDEN.read_text()))
    return found


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_pass(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(d) for d in draws) / len(draws))


@given(st.integers(2, 5000), st.data())
def test_pass_at_k_never_leaves_its_bounds_and_grows(n: int, data: st.DataObject) -> None:
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n - 1))
    assert 0.0 <= pass_at_k(n, c, k) <= pass_at_k(n, c, k + 1) + 1e-12 <= 1.0 + 1e-12


@pytest.mark.parametrize("n, c, k", [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="samples"):
        pass_at_k(n, c, k)


def test_the_same_values_give_the_same_interval_and_another_seed_another() -> None:
    values = list(np.random.default_rng(3).random(30))
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)


def test_one_problem_says_nothing_of_its_spread() -> None:
    assert (mean_interval([0.5]).low, mean_interval([0.5]).high) == (-math.inf, math.inf)
    assert paired_difference([(0, 4)], [(4, 4)]) == (1.0, -1.0, 1.0)
    with pytest.raises(ValueError, match="no problems"):
        mean_interval([])


def test_a_ratio_is_of_the_sums_and_problems_that_have_nothing_are_left_out() -> None:
    ratio = ratio_interval([1, 0, 3, 0], [2, 0, 8, 10])
    assert ratio.mean == pytest.approx(4 / 20) and ratio.low < ratio.mean < ratio.high
    assert ratio == ratio_interval([1, 3, 0], [2, 8, 10])
    assert ratio_interval([0, 2], [0, 4]) == Interval(0.5, -math.inf, math.inf)
    with pytest.raises(ValueError, match="no problems"):
        ratio_interval([0], [0])


def test_a_ratio_of_equal_wholes_is_a_mean() -> None:
    values = [0.0, 1.0, 3.0, 1.0]
    ratio, mean = ratio_interval([2 * value for value in values], [2.0] * 4), mean_interval(values)
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((mean.mean, mean.low, mean.high))


def test_the_interval_of_a_ratio_holds_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    problems, trials, held = 40, 200, 0
    for trial in range(trials):
        wholes = random.integers(0, 9, problems)
        parts = random.binomial(wholes, random.choice([0.1, 0.5], problems))
        interval = ratio_interval(parts.tolist(), wholes.tolist(), seed=trial, resamples=2000)
        held += interval.low <= 0.3 <= interval.high
    assert 0.90 <= held / trials <= 0.99


def test_paired_difference_holds_the_truth_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    problems, samples, gain, trials = 40, 4, 0.1, 200
    held = 0
    for trial in range(trials):
        rates = random.uniform(0.0, 0.8, problems)
        before = [(int(c), samples) for c in random.binomial(samples, rates)]
        after = [(int(c), samples) for c in random.binomial(samples, rates + gain)]
        difference, low, high = paired_difference(before, after, seed=trial)
        assert low <= difference <= high
        held += low <= gain <= high
    assert 0.90 <= held / trials <= 0.99


def test_pairing_removes_how_hard_the_problems_are() -> None:
    before = [(0, 4)] * 20 + [(2, 4)] * 20
    after = [(1, 4)] * 20 + [(3, 4)] * 20
    difference, low, high = paired_difference(before, after)
    assert (difference, low, high) == (0.25, 0.25, 0.25)
    rate = pass_rates(after)
    assert rate.high - rate.low > 0.1


def test_sides_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 problems before and 1 after"):
        paired_difference([(1, 2), (1, 2)], [(1, 2)])
    with pytest.raises(ValueError, match="no samples"):
        paired_difference([(0, 0)], [(1, 2)])

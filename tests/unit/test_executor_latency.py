"""Latencies in buckets: sums of histograms say what one histogram of all would."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from executor.latency import Latencies, summary

seconds = st.lists(st.floats(0.001, 900.0), max_size=50)


def histogram(values: list[float]) -> Counter[str]:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    return Counter(latencies.gauges("x"))


@given(seconds, seconds)
def test_mean_and_percentile_of_a_sum(left: list[float], right: list[float]) -> None:
    both = sorted(left + right)
    told = summary(histogram(left) + histogram(right), "x")
    if not both:
        assert told == {}
        return
    assert abs(told["mean"] - sum(both) / len(both)) < 1e-6
    exact = both[-(-len(both) * 95 // 100) - 1]
    assert exact <= told["p95"] <= exact * 1.4143


def test_what_is_beyond_the_buckets_is_counted() -> None:
    told = summary(histogram([0.0, 1e9]), "x")
    assert told["p95"] > 1000 and told["mean"] == 5e8

"""How many executor workers a run should have."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling import CALM_S, SPARE, Load, Sizing

QUIET = Load(workers=8, up=8, slots=16, busy_slots=2, queue_age_s=0.0)
CROWDED = Load(workers=8, up=8, slots=16, busy_slots=16, queue_age_s=3.0)


def test_a_queue_that_waits_too_long_brings_more_up_to_the_most() -> None:
    sizing = Sizing(1, 16, 2.0)
    assert sizing.wanted(CROWDED, 0) == 12
    assert sizing.wanted(replace(CROWDED, queue_age_s=1.0), 0) == 8
    assert sizing.wanted(replace(CROWDED, workers=14, up=14), 0) == 16
    assert sizing.wanted(replace(CROWDED, workers=1, up=1), 0) == 2


def test_no_more_are_asked_for_while_some_wait_for_a_node() -> None:
    assert Sizing(1, 16, 2.0).wanted(replace(CROWDED, workers=12), 0) == 12


def test_a_long_calm_lets_some_go_but_not_those_that_were_busy_in_it() -> None:
    sizing = Sizing(2, 16, 2.0)
    assert sizing.wanted(QUIET, 0) == 8
    assert sizing.wanted(replace(QUIET, busy_slots=10), CALM_S / 2) == 8
    assert sizing.wanted(QUIET, CALM_S) == 7, "ten slots were busy: 12.5 of 2 a worker"
    assert sizing.wanted(replace(QUIET, workers=7, up=7, slots=14), CALM_S + 1) == 7, "the calm begins anew"
    assert sizing.wanted(replace(QUIET, workers=7, up=7, slots=14), 2 * CALM_S) == 5


def test_one_crowded_moment_ends_the_calm() -> None:
    sizing = Sizing(1, 16, 2.0)
    sizing.wanted(QUIET, 0)
    sizing.wanted(replace(CROWDED, queue_age_s=0.5), CALM_S - 1)
    assert sizing.wanted(QUIET, CALM_S) == 8


@given(
    st.integers(1, 20),
    st.integers(0, 40),
    st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1), st.booleans(), st.floats(0.1, 200)), max_size=40),
)
def test_it_stays_within_its_bounds_and_never_drops_what_is_busy(
    least: int, more: int, history: list[tuple[float, float, bool, float]]
) -> None:
    sizing, workers, now = Sizing(least, least + more, 2.0), least, 0.0
    for age, busy, all_up, seconds in history:
        now += seconds
        up = workers if all_up else max(1, workers - 1)
        load = Load(workers, up, 2 * up, round(2 * up * busy), age)
        wanted = sizing.wanted(load, now)
        assert least <= wanted <= least + more
        if wanted > workers:
            assert age > 2 and up == workers
        if wanted < workers:
            assert age == 0 and 2 * wanted >= load.busy_slots * SPARE
        workers = wanted

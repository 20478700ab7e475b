"""The simulation of benchmarks/simulate.py keeps its books and agrees with what can be worked out by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from buffer_groups import answer, ids
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.simulation import report
from benchmarks.simulation.central import Ledger
from benchmarks.simulation.draws import Draws
from benchmarks.simulation.loop import Result, Simulation
from benchmarks.simulation.setting import ASSUMED, Setting, sources, with_overrides
from benchmarks.simulation.sizing import SPARE, size
from benchmarks.simulation.stations import Clock, Engine, Generation
from buffer.replay import Replay
from buffer.settings import BufferSettings
from executor.errors import UserError

SMALL = {"gpus": 2, "groups_per_step": 4, "samples_per_problem": 4, "problems": 50, "steps": 6, "warmup_steps": 2}
# Nothing varies and everything but what a test asks about takes no time.
FAST = {
    "engine_step_s": 1e-6,
    "engine_sequence_s": 0.0,
    "prefill_token_s": 0.0,
    "learner_token_s": 1e-12,
    "learner_fixed_s": 0.0,
    "weights_gb": 1e-6,
    "load_s": 0.0,
    "probe_s": 0.0,
    "call_s": 0.0,
    "latency_s": 0.0,
    "turn_s": 0.0,
    "dispatch_s": 0.0,
    "linger_s": 0.0,
    "check_s": 0.0,
    "put_s": 0.0,
    "ready_group_s": 0.0,
    "group_token_s": 0.0,
    "no_code_share": 0.0,
    "timeout_share": 0.0,
    "response_sigma": 0.0,
    "program_sigma": 0.0,
}


def simulated(**values: Any) -> Result:
    return Simulation(Setting(**{**SMALL, **values})).run()


# Books ----------------------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    staleness=st.integers(0, 3),
    every=st.integers(1, 3),
    actors=st.integers(1, 3),
    turns=st.integers(1, 3),
    deaths=st.sampled_from([0.0, 30.0, 200.0]),
    losses=st.sampled_from([0.0, 60.0]),
    failures=st.sampled_from([0.0, 0.3]),
)
def test_whatever_dies_the_ledger_balances(
    seed: int, staleness: int, every: int, actors: int, turns: int, deaths: float, losses: float, failures: float
) -> None:
    simulation = Simulation(
        Setting(
            **SMALL,
            seed=seed,
            max_staleness=staleness,
            broadcast_every=every,
            engines=actors,
            max_turns=turns,
            slots_per_worker=8,
            actor_deaths_per_hour=deaths,
            worker_failures_per_hour=losses,
            judge_failure_share=failures,
            engine_restart_s=10.0,
        )
    )
    result = simulation.run()  # checks the ledger
    assert result.trained_groups == SMALL["steps"] * SMALL["groups_per_step"]
    assert sum(simulation.buffer.ledger.trained.values()) == 8 * SMALL["groups_per_step"]
    assert result.staleness_max <= staleness


def test_deaths_happen_and_their_work_is_done_again() -> None:
    result = simulated(actor_deaths_per_hour=200, worker_failures_per_hour=100, engine_restart_s=5.0)
    assert result.deaths and result.lost_workers and result.lost_episodes
    assert result.steps_per_hour < simulated().steps_per_hour


def books() -> tuple[Ledger, Replay]:
    """Two groups trained, one put, one under way."""
    replay = Replay(BufferSettings(groups_per_step=2, max_staleness=1), ["p"])
    ledger = Ledger()
    tickets = replay.acquire(4, "rollout-0")
    for ticket in tickets[:3]:
        replay.put(answer(ticket, 1))
    ledger.put.update(ticket.group_id for ticket in tickets[:3])
    ledger.trained.update(ids(replay.take()))
    replay.commit()
    ledger.out = {tickets[3].group_id: "rollout-0"}
    ledger.check(replay)
    return ledger, replay


def test_a_ledger_that_does_not_balance_is_found() -> None:
    def twice(ledger: Ledger) -> None:
        ledger.trained[0] += 1

    def lost(ledger: Ledger) -> None:
        ledger.out.clear()

    def untrained(ledger: Ledger) -> None:
        ledger.trained = Counter([0])

    def unknown(ledger: Ledger) -> None:
        ledger.refused += 1

    for spoil in (twice, lost, untrained, unknown):
        ledger, replay = books()
        spoil(ledger)
        with pytest.raises(AssertionError):
            ledger.check(replay)


def test_the_same_seed_gives_the_same_result_and_another_seed_another() -> None:
    assert simulated(seed=5, actor_deaths_per_hour=50) == simulated(seed=5, actor_deaths_per_hour=50)
    assert simulated(seed=5) != simulated(seed=6)


# What can be worked out -----------------------------------------------------------------------------------------------


def test_a_learner_that_is_slow_sets_the_pace() -> None:
    result = simulated(**{**FAST, "learner_fixed_s": 10.0, "program_seconds": 0.0, "slots": 64})
    assert result.steps_per_hour == pytest.approx(360, rel=1e-3)
    assert result.learner_idle < 1e-3
    assert result.saturated == "learner"


@pytest.mark.parametrize("slots", [2, 8])
def test_executors_that_are_few_set_the_pace(slots: int) -> None:
    judgement_s = 5 * (0.1 + 0.0022)
    result = simulated(**{**FAST, "max_turns": 1, "all_tests": 5, "program_seconds": 0.1, "slots": slots, "steps": 60})
    assert result.judgements_per_s == pytest.approx(slots / judgement_s, rel=0.02)
    assert result.loads["executors"] > 0.98
    assert result.saturated == "executors"


def test_a_slow_buffer_sets_the_pace() -> None:
    result = simulated(**{**FAST, "program_seconds": 0.0, "slots": 64, "put_s": 2.0, "steps": 30})
    assert result.puts_per_s == pytest.approx(0.5, rel=0.05)
    assert result.saturated == "buffer"


def test_a_slow_broadcast_sets_the_pace() -> None:
    result = simulated(**{**FAST, "program_seconds": 0.0, "slots": 64, "weights_gb": 100, "broadcast_every": 2})
    assert result.steps_per_hour == pytest.approx(3600 * 2 / 10, rel=1e-3)
    assert result.saturated == "broadcast"


def test_engines_that_are_slow_set_the_pace() -> None:
    setting = {**FAST, "engine_step_s": 0.05, "engine_sequence_s": 0.01, "max_sequences": 8, "program_seconds": 0.0}
    result = simulated(**setting, engines=2, max_turns=1, slots=64, steps=30, max_staleness=8, groups_per_step=8)
    assert result.tokens_per_s == pytest.approx(2 * 8 / (0.05 + 8 * 0.01), rel=0.05)
    assert result.saturated == "engines"


def test_with_staleness_0_nothing_is_generated_while_the_learner_works() -> None:
    synchronous, one = simulated(max_staleness=0), simulated(max_staleness=1)
    assert synchronous.tokens_while_training == 0
    assert synchronous.staleness_max == 0
    assert one.tokens_while_training > 0
    assert one.steps_per_hour > synchronous.steps_per_hour


def test_as_many_are_under_way_as_come_in_the_time_that_one_takes() -> None:
    result = simulated(steps=150, warmup_steps=20, groups_per_step=8, max_staleness=4)
    assert result.episodes_under_way == pytest.approx(result.trajectories_per_s * result.episode_s, rel=0.03)


def test_where_executors_saturate_more_slots_never_take_anything_away() -> None:
    results = [simulated(slots=slots, steps=20) for slots in (1, 2, 4, 8)]
    assert [r.saturated for r in results[:3]] == ["executors"] * 3
    for less, more in pairwise(results):
        assert more.trajectories_per_s > less.trajectories_per_s


def test_the_formula_for_slots_says_what_the_simulation_finds() -> None:
    setting = Setting(gpus=8, engines=4, learner_gpus=4, max_staleness=8, groups_per_step=64, steps=20)
    result, sizing = Simulation(setting).run(), size(setting)
    busy = result.loads["executors"] * setting.slots_in_all
    # As many as are busy on average, for engines as full as they were.
    expected = sizing.slots_per_engine / SPARE * result.engines * result.loads["engines"]
    assert busy == pytest.approx(expected, rel=0.15)


# Parts ----------------------------------------------------------------------------------------------------------------


def test_an_engine_shares_its_pace_and_stamps_versions() -> None:
    clock = Clock()
    setting = Setting(engine_step_s=1.0, engine_sequence_s=0.5, prefill_token_s=0.0, load_s=10.0)
    engine = Engine(clock, setting)
    ended: list[tuple[float, int, list[int]]] = []

    def done(generation: Generation, version: int, start: float) -> None:
        ended.append((clock.now, generation.tokens, engine.versions(start, generation.tokens, 4)))

    for tokens in (4, 8):
        engine.submit(Generation(tokens=tokens, context=0, new=0, prompt_of=None, version=0, done=done))
    clock.at(4.0, engine.update, 1)
    while clock.step():
        pass
    # Two at a time a step takes 2 s, and 10 s are lost to the load after two steps; alone it takes 1.5 s.
    assert ended == [
        (4 + 10 + 2 * 2.0, 4, [0, 0, 1, 1]),
        (4 + 10 + 2 * 2.0 + 4 * 1.5, 8, [0, 1, 1, 1]),
    ]


def test_draws_do_not_depend_on_who_asks_when() -> None:
    draws, again = (Draws(Setting(gpus=gpus, slots=100 * gpus)) for gpus in (1, 64))
    places = [draws.place(group, 3, 1, 0) for group in range(100)]
    assert [draws.response_tokens(p) for p in places] == [again.response_tokens(p) for p in places]
    assert len(set(places)) == 100


def test_every_time_and_size_says_where_it_is_from() -> None:
    rows = sources()
    times = [row for row in rows if row[0].endswith("_s") and row[0] not in ("check_s",)]
    assert all(source != "chosen" for _, _, source, _ in times)
    assert {ASSUMED, "chosen"} < {source for _, _, source, _ in rows}
    assert "| `learner_passes` | 1.41 | docs/rlef.md" in report.constants()


def test_a_mistake_is_told() -> None:
    assert with_overrides(Setting(), ["gpus=4", "slots=null"]).gpus == 4
    for word in ("gpu=4", "gpus", "gpus=0", "gpus=many"):
        with pytest.raises(UserError):
            with_overrides(Setting(), [word])

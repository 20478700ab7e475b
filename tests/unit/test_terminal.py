"""The view: a line a step where nobody watches, a panel where somebody does, and never a reason for a run to end."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.dashboards.terminal import View, duration, sparkline, step_line

METRICS = {
    "step": 3,
    "reward": -0.25,
    "share_passing": 0.5,
    "tokens_per_second": 512.4,
    "policy_version": 3,
    "seconds": 61.0,
}


def test_one_line_a_step_without_a_terminal() -> None:
    stream = io.StringIO()
    view = View(10, stream)
    view.start()
    view.say("ready")
    view.update({"controller": "groups"})
    view.step(METRICS)
    view.close()
    assert stream.getvalue().splitlines() == [
        "ready",
        "step 3/10  reward -0.250  passing 50.0%  tokens/s 512  version 3  elapsed 61 s",
    ]


def test_a_reader_that_went_away_does_not_end_the_run() -> None:
    stream = io.StringIO()
    view = View(10, stream)
    stream.close()
    view.say("hello")
    view.step(METRICS)


def test_the_panel_shows_step_curves_and_what_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    stream = io.StringIO()
    view = View(10, stream)
    view._console = Console(file=stream, force_terminal=True, width=120, color_system=None)
    view.start()
    view.update({"controller": "groups from the buffer (12 s)", "rollout": "7 generating"})
    view.step(METRICS)
    view.step({**METRICS, "step": 4, "reward": math.nan})
    view.close()
    shown = stream.getvalue()
    for words in ("step 4 / 10", "groups from the buffer (12 s)", "7 generating", "policy version", "512"):
        assert words in shown


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200), st.integers(0, 60))
def test_a_sparkline_fits(values: list[float], width: int) -> None:
    assert len(sparkline(values, width)) == min(len(values), width)


@pytest.mark.parametrize("low, high", [(-1.7e308, 4e303), (0.0, 5e-324), (-1e-320, 1e-320), (1.0, 1.0 + 2**-52)])
def test_a_sparkline_holds_any_two_numbers(low: float, high: float) -> None:
    assert sparkline([low, high], 2) == sparkline([0, 1], 2)


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline([0, 1, 2, 3], 4) == "".join(sorted(sparkline([0, 1, 2, 3], 4)))


@pytest.mark.parametrize("seconds, text", [(4.4, "4 s"), (65, "1 min 05 s"), (7260, "2 h 01 min"), (math.inf, "?")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_step_line_without_metrics_is_still_a_line() -> None:
    assert step_line({}, 5) == "step -/5"

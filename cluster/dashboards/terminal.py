"""What a person sees while a run goes on: a live panel on a terminal, one plain line a step elsewhere.

Invariants: what shows is what was given last; a part that has said nothing shows nothing; showing never raises into the
run.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PARTS = ("controller", "rollout", "executor", "buffer", "learner")
_HISTORY = 512
_BARS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


def sparkline(values: list[float], width: int) -> str:
    """The last values as bars, averaged so that they fit `width` characters; what is not finite is a blank."""
    if not values or width < 1:
        return ""
    if len(values) > width:
        cuts = [round(i * len(values) / width) for i in range(width + 1)]
        values = [_mean(values[a:b]) for a, b in pairwise(cuts)]
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return " " * len(values)
    low, high = min(finite), max(finite)
    if high == low:
        return "".join(_BARS[3] if math.isfinite(v) else " " for v in values)
    scale = max(abs(low), abs(high))  # what lies between the two may be more than a float holds
    low, reach = low / scale, high / scale - low / scale
    return "".join(
        _BARS[round((v / scale - low) / reach * (len(_BARS) - 1))] if math.isfinite(v) else " " for v in values
    )


def duration(seconds: float) -> str:
    """Seconds for people: 42 s, 7 min 05 s, 3 h 20 min."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def step_line(metrics: Mapping[str, float], total_steps: int) -> str:
    """One step as one line of plain text; metrics that are not there are left out."""
    parts = [f"step {_number(metrics.get('step'), '.0f')}/{total_steps}"]
    for label, key, form, unit in (
        ("reward", "reward", "+.3f", ""),
        ("passing", "share_passing", ".1%", ""),
        ("tests", "share_tests", ".1%", ""),
        ("loss", "loss", "+.4f", ""),
        ("tokens/s", "tokens_per_second", ".0f", ""),
        ("executions/s", "executions_per_second", ".1f", ""),
        ("staleness", "staleness_mean", ".2f", ""),
        ("mismatch", "log_prob_mismatch", ".3f", ""),
        ("version", "policy_version", ".0f", ""),
        ("waited", "wait_seconds", ".1f", " s"),
        ("elapsed", "seconds", ".0f", " s"),
    ):
        if isinstance(metrics.get(key), int | float):
            parts.append(f"{label} {_number(metrics[key], form)}{unit}")
    return "  ".join(parts)


class View:
    """Shows one run of `total_steps` learner steps. Its methods may be called from any thread."""

    def __init__(self, total_steps: int, stream: TextIO | None = None) -> None:
        self._total = total_steps
        self._stream = stream
        self._console = Console(file=stream, highlight=False)
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {}
        self._metrics: dict[str, float] = {}
        self._rewards: deque[float] = deque(maxlen=_HISTORY)
        self._passing: deque[float] = deque(maxlen=_HISTORY)
        self._started = time.monotonic()
        self._steps_at_start: float | None = None
        self._first_step_at: float | None = None
        self._live: Live | None = None

    def start(self) -> None:
        """Begin to show."""
        self._started = time.monotonic()
        if self._console.is_terminal and self._live is None:
            self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4, transient=False)
            self._live.start()

    def update(self, state: Mapping[str, Any]) -> None:
        """Note what parts of the run do or wait for (keys: controller, rollout, executor, buffer, learner, step,
        policy_version).
        """
        with self._lock:
            self._state.update(state)

    def step(self, metrics: Mapping[str, float]) -> None:
        """Show a learner step that is done."""
        with self._lock:
            self._metrics = dict(metrics)
            self._rewards.append(float(metrics.get("reward", math.nan)))
            self._passing.append(float(metrics.get("share_passing", math.nan)))
            if self._first_step_at is None:
                self._first_step_at = time.monotonic()
                self._steps_at_start = float(metrics.get("step", 0))
        if self._live is None:
            self._print(step_line(metrics, self._total))

    def say(self, text: str) -> None:
        """Show a line that stays."""
        if self._live is None:
            self._print(text)
        else:
            self._console.print(Text(text))

    def close(self) -> None:
        """End the panel, leaving its last state on the screen."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _print(self, text: str) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        try:
            print(text, file=stream, flush=True)
        except (
            BrokenPipeError,
            ValueError,
        ):  # whoever read it has gone; the run goes on and its log is in the run folder
            self._stream = _Nowhere()

    # The panel ------------------------------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        with self._lock:
            metrics, state = dict(self._metrics), dict(self._state)
            rewards, passing = list(self._rewards), list(self._passing)
            eta = self._eta()
        done = float(metrics.get("step", state.get("step", 0)) or 0)
        head = Table.grid(expand=True, padding=(0, 2))
        head.add_column(no_wrap=True)
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        timing = f"{duration(time.monotonic() - self._started)} elapsed" + (
            f", {duration(eta)} left" if eta is not None else ""
        )
        head.add_row(
            Text(f"step {done:.0f} / {self._total}", style="bold"),
            ProgressBar(total=max(1, self._total), completed=done),
            Text(timing, style="dim"),
        )
        return Panel(
            Group(
                head,
                Text(""),
                self._curves(rewards, passing, metrics),
                Text(""),
                self._numbers(metrics),
                Text(""),
                self._parts(state),
            ),
            title="cupel",
            title_align="left",
            border_style="dim",
        )

    def _eta(self) -> float | None:
        """Seconds left, by the pace since the first step."""
        step = self._metrics.get("step")
        if self._first_step_at is None or self._steps_at_start is None or step is None or step <= self._steps_at_start:
            return None
        pace = (time.monotonic() - self._first_step_at) / (step - self._steps_at_start)
        return max(0.0, self._total - step) * pace

    def _curves(self, rewards: list[float], passing: list[float], metrics: Mapping[str, float]) -> Table:
        table = Table.grid(expand=True, padding=(0, 2))
        table.add_column(no_wrap=True, style="dim", width=12)
        table.add_column(no_wrap=True, justify="right", width=8)
        table.add_column(ratio=1, no_wrap=True)
        width = max(8, self._console.width - 32)
        table.add_row(
            "reward",
            Text(_number(metrics.get("reward"), "+.3f"), style="bold"),
            Text(sparkline(rewards, width), style="yellow"),
        )
        share = Text(_number(metrics.get("share_passing"), ".1%"), style="bold")
        table.add_row("passing", share, Text(sparkline(passing, width), style="green"))
        return table

    def _numbers(self, metrics: Mapping[str, float]) -> Table:
        table = Table.grid(expand=True, padding=(0, 2))
        columns = 4 if self._console.width >= 120 else 3 if self._console.width >= 90 else 2
        for _ in range(columns):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        staleness = (
            f"{_number(metrics.get('staleness_mean'), '.2f')} (max {_number(metrics.get('staleness_max'), '.0f')})"
        )
        cells = [
            ("tokens/s", _number(metrics.get("tokens_per_second"), ".0f")),
            ("executions/s", _number(metrics.get("executions_per_second"), ".1f")),
            ("policy version", _number(metrics.get("policy_version"), ".0f")),
            ("staleness", staleness),
            ("loss", _number(metrics.get("loss"), "+.4f")),
            ("gradient", _number(metrics.get("gradient_norm"), ".2f")),
            ("mismatch", _number(metrics.get("log_prob_mismatch"), ".3f")),
            ("entropy", _number(metrics.get("entropy"), ".2f")),
            ("no code", _number(metrics.get("no_code_share"), ".0%")),
            ("syntax errors", _number(metrics.get("syntax_error_share"), ".0%")),
            ("cut off", _number(metrics.get("truncated_share"), ".0%")),
            ("lost by us", _number(metrics.get("infrastructure"), ".0f")),
        ]
        for start in range(0, len(cells), columns):
            table.add_row(*(text for cell in cells[start : start + columns] for text in cell))
        return table

    @staticmethod
    def _parts(state: Mapping[str, Any]) -> Table:
        table = Table.grid(expand=True, padding=(0, 2))
        table.add_column(style="dim", no_wrap=True, width=12)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for part in PARTS:
            if state.get(part):
                table.add_row("waits for" if part == "controller" else part, Text(str(state[part])))
        return table


class _Nowhere:
    """Takes text and drops it."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None


def _mean(values: list[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) and math.isfinite(value) else "-"

"""Simulations as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.simulation.loop import BOUND, FULL, Result
from benchmarks.simulation.setting import Setting, sources
from benchmarks.simulation.sizing import SPARE, size

_HEAD = (
    "GPUs",
    "engines + learner",
    "slots",
    "groups a step",
    "trajectories/s",
    "tokens/s",
    "steps/h",
    "learner idle",
    "staleness mean, max",
    "engines",
    "executors",
    "dispatch",
    "buffer",
    "learner",
    "broadcast",
    "saturated",
)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def head(varied: str | None = None) -> list[str]:
    """Column names; `varied` comes first if it has no column of its own."""
    return [*([varied] if varied not in (None, "gpus", "slots") else []), *_HEAD]


def row(result: Result, value: str | None = None) -> list[str]:
    """A line of the table."""
    part, load = result.fullest
    loads = [f"{100 * result.loads[part]:.0f} %" for part in _HEAD[9:15]]
    return [
        *([value] if value is not None else []),
        f"{result.gpus:,}",
        f"{result.engines:,} + {result.learner_gpus:,g}",
        f"{result.slots:,}",
        f"{result.groups_per_step:,}",
        f"{result.trajectories_per_s:,.1f}",
        f"{result.tokens_per_s:,.0f}",
        f"{result.steps_per_hour:,.0f}",
        f"{100 * result.learner_idle:.0f} %",
        f"{result.staleness_mean:.2f}, {result.staleness_max}",
        *loads,
        result.saturated if result.saturated != BOUND else f"{BOUND} ({part} {100 * load:.0f} %)",
    ]


def whole(setting: Setting, result: Result) -> str:
    """All there is to say about one simulation."""
    sizing = size(setting)
    part, load = result.fullest
    place_s = setting.dispatch_s + setting.place_worker_s * setting.workers
    saturated = f"saturated: {result.saturated}"
    if result.saturated == BOUND:
        saturated = "saturated: nothing; the staleness bound holds all up: slow episodes are waited for, and engines for tickets"
    lines = [
        markdown(head(), [row(result)]),
        "",
        f"{saturated} (fullest: {part}, {100 * load:.0f} %; full is {100 * FULL:.0f} %)",
        f"{result.seconds:,.0f} s simulated, {result.events:,} events; {result.trained_groups} groups trained; the ledger balances",
        f"episodes: {result.episode_s:.1f} s on average, {result.episodes_under_way:,.0f} under way; of {sizing.turns:.2f} turns, "
        f"{sizing.response_tokens:,.0f} sampled and {sizing.learner_tokens:,.0f} packed tokens",
        f"control plane: {result.puts_per_s:.1f} puts/s, {result.judgements_per_s:,.1f} judgements/s "
        f"(one rollout actor's loop sends at most {1 / place_s:,.0f}/s to {setting.workers:,} workers)",
        f"lost: {result.deaths} rollout actors with {result.lost_episodes} episodes under way, {result.lost_workers} executor workers, "
        f"{result.lost_samples} samples",
        "",
        f"slots for a GPU of generation: {SPARE:g} x {sizing.slot_seconds:.2f} slot seconds an episode / "
        f"{sizing.engine_s:.3f} engine seconds an episode = {sizing.slots_per_engine}",
        f"GPUs for the learner: {100 * sizing.learner_share:.0f} % ({sizing.learner_s:.3f} GPU seconds an episode)",
    ]
    return "\n".join(lines)


def constants() -> str:
    """What is assumed, measured and chosen."""
    order = {"assumption": 0, "chosen": 2}
    found = sorted(sources(), key=lambda one: order.get(one[2], 1))
    rows = [
        (f"`{name}`", "null" if value is None else f"{value:.4g}", source, meaning)
        for name, value, source, meaning in found
    ]
    return markdown(("name", "default", "from", "meaning"), rows)

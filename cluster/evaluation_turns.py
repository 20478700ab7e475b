"""What an evaluation found of episodes of several turns, and n@k, in numbers and as tables; pure.

n@k, pass@1 after each turn and the gain over single turns are means over problems. Shares of episodes and of rewritten programs are of all of them, with intervals over
problems too. Invariant: single turns are the first responses of the same episodes: they saw no feedback, so that both sides of the comparison come from one
file, and k responses are paid for on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.budget import Budget
from cluster.evaluation_results import groups, markdown, percent
from cluster.evaluation_tallies import Tally
from cluster.statistics import Interval, mean_interval, n_at_k, padded, rate_interval, ratio_interval, within
from executor.problem import Problem

Rate = Interval | None  # None: no problem says anything of it


@dataclass(frozen=True)
class TurnsRow:
    """Rates over some of the problems."""

    name: str
    n_at_k: dict[Budget, Rate]
    single: dict[Budget, Rate] = field(default_factory=dict)
    """n@k of as many single turns."""
    gain: dict[Budget, Rate] = field(default_factory=dict)
    """What episodes have over single turns, on the problems that say something of both. This and what follows: nothing where there is one turn."""
    passed_after: list[Rate] = field(default_factory=list)
    """pass@1 had the episodes been cut off after turn 1, 2, ..."""
    repaired: Rate = None
    """Episodes whose last program is right, of those whose first is wrong."""
    turns: Rate = None
    """Turns an episode."""
    out_of_context: Rate = None
    """Episodes that ended because the context had no room for another response."""
    chrf: Rate = None
    """Likeness of successive programs."""
    unchanged: Rate = None
    """Successive programs that are the same."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, rates in [0, 1]."""

        def plain(rates: Mapping[Budget, Rate]) -> dict[str, Any]:
            return {str(budget): rate and asdict(rate) for budget, rate in rates.items()}

        told: dict[str, Any] = {"n_at_k": plain(self.n_at_k)} if self.n_at_k else {}
        if not self.passed_after:
            return told
        shares = ("repaired", "turns", "out_of_context", "chrf", "unchanged")
        return told | {
            "single_turn_n_at_k": plain(self.single),
            "gain_over_single_turns": plain(self.gain),
            "pass_at_1_after_turn": [rate and asdict(rate) for rate in self.passed_after],
            **{name: (rate := getattr(self, name)) and asdict(rate) for name in shares},
        }


def summarise_turns(
    problems: Sequence[Problem],
    tallies: Mapping[str, Tally],
    budgets: Sequence[Budget],
    turns: int,
    samples: int,
    name: Callable[[int], str],
    missing_as_zero: bool = False,
) -> list[TurnsRow]:
    """A row for all problems, then one a difficulty, of episodes of at most `turns` turns, `samples` of which were asked of each problem."""
    return [
        _row(name, [tallies[problem.id] for problem in some], budgets, turns, samples, missing_as_zero)
        for name, some in groups(problems, name)
    ]


def _row(
    name: str, every: Sequence[Tally], budgets: Sequence[Budget], turns: int, samples: int, missing_as_zero: bool
) -> TurnsRow:
    number = len(every) if missing_as_zero else None
    judged = [tally for tally in every if tally.samples]

    def rate(values: list[float]) -> Rate:
        return rate_interval(values, number) if values or missing_as_zero else None

    def share(parts: list[float], wholes: list[int], least: float = 0.0, most: float = 1.0) -> Rate:
        return within(ratio_interval(parts, wholes), least, most) if any(wholes) else None

    multi, single, gain = dict[Budget, Rate](), dict[Budget, Rate](), dict[Budget, Rate]()
    for budget in budgets:
        multi[budget] = rate([_episodes(t, budget, turns) for t in judged if t.samples >= budget.episodes(turns)])
    if turns == 1:
        return TurnsRow(name, multi)
    for budget in budgets:
        single[budget] = gain[budget] = None
        if samples >= budget.k:
            both = [t for t in judged if t.samples >= budget.k]
            single[budget] = rate([_single_turns(t, budget) for t in both])
            gains = [_episodes(t, budget, turns) - _single_turns(t, budget) for t in both]
            if gains or missing_as_zero:
                gain[budget] = within(mean_interval(padded(gains, number)), -1.0, 1.0)
    episodes, pairs = [t.samples for t in judged], [t.rewritten for t in judged]
    return TurnsRow(
        name=name,
        n_at_k=multi,
        single=single,
        gain=gain,
        passed_after=[rate([t.passed_after[turn] / t.samples for t in judged]) for turn in range(turns)],
        repaired=share([t.repaired for t in judged], [t.first_wrong for t in judged]),
        turns=share([t.turns for t in judged], episodes, 1.0, float(turns)),
        out_of_context=share([t.out_of_context for t in judged], episodes),
        chrf=share([t.chrf for t in judged], pairs),
        unchanged=share([t.unchanged for t in judged], pairs),
    )


def _episodes(tally: Tally, budget: Budget, turns: int) -> float:
    return n_at_k(tally.samples, tally.public, tally.passed, budget.n, budget.episodes(turns))


def _single_turns(tally: Tally, budget: Budget) -> float:
    return n_at_k(tally.samples, tally.first_public, tally.passed_after[0], budget.n, budget.k)


def needed(budgets: Sequence[Budget], turns: int, samples: int) -> dict[str, int]:
    """Judged samples that a problem must have to say something of each rate; those that more samples would have to be asked for are left out."""
    wanted = {str(budget): budget.episodes(turns) for budget in budgets}
    if turns > 1:
        wanted |= {f"{budget} of single turns": budget.k for budget in budgets}
    return {name: number for name, number in wanted.items() if number <= samples}


def not_asked_for(budgets: Sequence[Budget], turns: int, samples: int) -> list[str]:
    """A line on the comparisons with single turns that too few samples were asked for."""
    lacking = [budget for budget in budgets if turns > 1 and budget.k > samples]
    if not lacking:
        return []
    most = max(budget.k for budget in lacking)
    return [f"{', '.join(map(str, lacking))} of single turns: --samples {most} would do, and there are {samples}"]


def tables(rows: Sequence[TurnsRow]) -> list[str]:
    """Markdown tables with their titles, rates and their 95 % intervals in percent: n@k, then what became of the turns where there are several."""
    told, budgets, turns = list[str](), list(rows[0].n_at_k), len(rows[0].passed_after)
    several = bool(turns)
    if budgets:
        head, cells = ["problems"], [[row.name] for row in rows]
        for budget in budgets:
            head += [str(budget), *([f"{budget} of single turns", "gain"] if several else [])]
            for row, line in zip(rows, cells, strict=True):
                line += [percent(row.n_at_k[budget])]
                line += [percent(row.single[budget]), percent(row.gain[budget])] if several else []
        title = "n@k: one of n programs is right, handed in from k responses by the public tests"
        told.append(f"{title}\n\n{markdown([head, *cells])}")
    if several:
        head = ["problems", *[f"pass@1 after turn {turn}" for turn in range(1, turns + 1)], "repaired"]
        cells = [[row.name, *map(percent, row.passed_after), percent(row.repaired)] for row in rows]
        told.append(
            f"turn by turn; repaired: last program right, of those whose first is wrong\n\n{markdown([head, *cells])}"
        )
        head = ["problems", "turns", "out of context", "chrF", "unchanged"]
        cells = [
            [row.name, _number(row.turns), percent(row.out_of_context), percent(row.chrf), percent(row.unchanged)]
            for row in rows
        ]
        title = "episodes; chrF and unchanged: how much of a program is left in the next"
        told.append(f"{title}\n\n{markdown([head, *cells])}")
    return told


def _number(interval: Rate) -> str:
    return "-" if interval is None else f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"

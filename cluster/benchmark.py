"""Benchmarks as papers measure them: how RLTF and RLEF sample each, and what its levels of difficulty are called; pure.

A problem says by the first part of its id (`apps/4000`) which benchmark it is from, so that a set keeps its settings when it is
turned into Cupel's own form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.problem_sets.apps import DIFFICULTY as APPS_DIFFICULTY
from actors.problem_sets.livecodebench import DIFFICULTY as LIVECODEBENCH_DIFFICULTY
from executor.problem import Problem


@dataclass(frozen=True)
class Benchmark:
    """How a benchmark is sampled where nobody says otherwise."""

    temperature: float = 1.0
    top_p: float = 1.0
    difficulties: Mapping[str, int] = field(default_factory=dict)
    """The benchmark's own names of difficulties, where it has any."""

    def name(self, difficulty: int) -> str:
        """What problems of this difficulty are called."""
        names = {number: name for name, number in self.difficulties.items()}
        return names.get(difficulty, f"difficulty {difficulty}")


OTHER = Benchmark()
# RLEF's settings where n of k are chosen from few responses, as in 1@3. For 10@100 it samples at temperature 1.
_RLEF = Benchmark(temperature=0.2, top_p=0.95)
BENCHMARKS = {
    "apps": Benchmark(temperature=0.6, top_p=0.95, difficulties=APPS_DIFFICULTY),
    "mbpp": Benchmark(temperature=1.2, top_p=0.95),
    "code_contests": _RLEF,
    "humanevalplus": _RLEF,
    "mbppplus": _RLEF,
    "livecodebench": replace(_RLEF, difficulties=LIVECODEBENCH_DIFFICULTY),
}


def benchmark_of(problems: Sequence[Problem]) -> Benchmark:
    """The benchmark that all problems are from; OTHER where there is none or more than one."""
    names = {problem.id.partition("/")[0].lower() for problem in problems}
    return BENCHMARKS.get(names.pop(), OTHER) if len(names) == 1 else OTHER

"""The problems of a run: what its configuration names, filtered, with nothing trained on that is held out."""

from __future__ import annotations

from actors.problem_sets.base import load
from cluster.config import Config
from executor.errors import UserError
from executor.problem import Problem


def chosen_problems(config: Config) -> tuple[list[Problem], list[Problem]]:
    """Training and held-out problems. Raises UserError if none is left to train on or the two share one."""
    wanted = config.problems
    problems = [p for p in load(wanted.train) if _easy_enough(p, wanted.max_difficulty)][: wanted.limit]
    if not problems:
        raise UserError(f"problems.max_difficulty={wanted.max_difficulty} leaves no problem of {wanted.train}")
    held_out = load(wanted.held_out, wanted.held_out_limit) if wanted.held_out else []
    shared = sorted({p.id for p in problems} & {p.id for p in held_out})
    if shared:
        raise UserError(f"problems.train and problems.held_out share {len(shared)} problems, {shared[0]!r} among them")
    return problems, held_out


def _easy_enough(problem: Problem, hardest: int | None) -> bool:
    return hardest is None or problem.difficulty is None or problem.difficulty <= hardest

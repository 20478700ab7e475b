"""The problems of a run: what its configuration names, filtered, with nothing trained on that is held out."""

from __future__ import annotations

import logging
from pathlib import Path

from actors.problem_sets.base import load
from cluster.config import Config
from executor.errors import UserError
from executor.problem import Problem

_TOLD = 5

log = logging.getLogger("cupel")


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


def with_fitting_prompts(
    config: Config, model: Path, problems: list[Problem], held_out: list[Problem]
) -> tuple[list[Problem], list[Problem]]:
    """Both without the problems whose prompts are too long, which are named in a warning; both as they are where such are to be refused.

    Raises UserError if none is left to train on, or none of those held out.
    """
    if config.problems.long_prompts == "refuse":
        return problems, held_out
    from transformers import AutoTokenizer

    from actors.prompts import prompt_ids
    from cluster.actors import worked_examples

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    limit, examples = config.rollout.max_prompt_tokens, worked_examples(config)
    kept = []
    for name, some in (("train", problems), ("held_out", held_out)):
        long = {p.id for p in some if len(prompt_ids(tokenizer, p, examples.before(p))) > limit}
        if long:
            shown = ", ".join(sorted(long)[:_TOLD]) + (", ..." if len(long) > _TOLD else "")
            told = (
                f"problems.{name}: {len(long)} of {len(some)} prompts are longer than rollout.max_prompt_tokens={limit}"
            )
            if len(long) == len(some):
                raise UserError(f"{told}: none is left")
            log.warning("%s and left out: %s", told, shown)
        kept.append([p for p in some if p.id not in long])
    return kept[0], kept[1]

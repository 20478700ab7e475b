"""`cupel eval`: pass@k of a model on a problem set, with an engine and judges of its own and no cluster.

Invariants: a bounded number of samples is under way, and each is written as soon as it is judged; what is in the file is never sampled again; a
sample's tokens depend on its own seed, not on when it is drawn; a sample that our own machinery failed to judge is never counted as wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from actors.concurrency import for_each
from actors.engine.choose import start
from actors.engine.protocol import EngineError, SamplingSettings
from actors.feedback_turns import FeedbackSettings, FeedbackTurns
from cluster.benchmark import benchmark_of
from cluster.budget import Budget, with_own
from cluster.evaluated_model import find_model
from cluster.evaluation_episodes import Episodes
from cluster.evaluation_plan import Plan
from cluster.evaluation_results import incomplete, needed, notes, summarise, table, tests_of
from cluster.evaluation_samples import SampleFile
from cluster.evaluation_tallies import Sampled
from cluster.evaluation_turns import needed as needed_by_budgets
from cluster.evaluation_turns import not_asked_for, summarise_turns, tables
from cluster.run_folder import write_atomically
from executor.errors import UserError
from executor.feedback import Mode
from executor.languages.base import refuse
from executor.problem import Problem
from executor.process_pool import ProcessPool, cores
from executor.progress import progress
from executor.verdict import Verdict, no_code

MAX_RESPONSE_TOKENS = 256  # for a model that no run of ours says a limit for
_AHEAD = 4  # samples that wait for a judge or are with it, a core, beside those that the engine is at


@dataclass(frozen=True)
class Asked:
    """What a person asks of an evaluation; None: as the benchmark or the model has it."""

    model: str
    problem_set: str
    samples: int
    ks: list[int]
    temperature: float | None = None
    top_p: float | None = None
    max_response_tokens: int | None = None
    turns: int | None = None
    feedback: Mode | None = None
    max_context_tokens: int | None = None
    budgets: list[Budget] = field(default_factory=list)
    seed: int | None = None
    out: Path | None = None
    fresh: bool = False
    missing_as_zero: bool = False


def evaluate_command(asked: Asked, problems: list[Problem]) -> dict[str, Any]:
    """Sample, judge and print rates with 95 % intervals; write them, and every sample, if a place is given.

    Raises UserError for what a person can mend; KeyboardInterrupt says what was kept.
    """
    for problem in problems:
        refuse(problem)
    folder, config, of_a_run = find_model(asked.model)
    benchmark = benchmark_of(problems)
    own_limit = config.rollout.max_response_tokens if of_a_run else MAX_RESPONSE_TOKENS
    sampling = SamplingSettings(
        temperature=benchmark.temperature if asked.temperature is None else asked.temperature,
        top_p=benchmark.top_p if asked.top_p is None else asked.top_p,
        max_tokens=asked.max_response_tokens or own_limit,
    )
    rollout = config.rollout
    turns = asked.turns or rollout.max_turns
    budgets = with_own(asked.budgets, turns, asked.samples)
    plan = Plan(
        folder=folder,
        config=config,
        problems=problems,
        sampling=sampling,
        seed=config.run.seed if asked.seed is None else asked.seed,
        turns=turns,
        feedback=FeedbackSettings(
            asked.feedback or rollout.feedback, rollout.feedback_templates, rollout.max_feedback_tokens
        ),
        max_context_tokens=asked.max_context_tokens or rollout.max_context_tokens,
    )
    sampled = Sampled([problem.id for problem in problems], asked.samples, turns)
    with ExitStack() as stack:
        file = None
        if asked.out is not None:
            path = asked.out.with_suffix(".samples.jsonl")
            file = stack.enter_context(SampleFile(path, plan.made_with(), sampled, asked.fresh))
        _say(f"{len(problems)} problems x {_settings(asked, plan)}, with {folder}")
        if file and sampled.count:
            _say(f"{sampled.count} samples are there already, in {file.path}")
        reasons: dict[str, str] = {}
        try:
            asyncio.run(_sample(plan, sampled, file, reasons))
        except EngineError as error:
            raise UserError(f"{error}\n{_kept(file, sampled)}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(file, sampled)) from None
    return _tell(asked, plan, budgets, sampled, reasons)


def _say(line: str) -> None:
    """For whoever watches; standard output holds the results only."""
    print(line, file=sys.stderr, flush=True)


def _settings(asked: Asked, plan: Plan) -> str:
    """How samples are drawn, in words."""
    turns = f"{plan.turns} turns with feedback={plan.feedback.mode}, each " if plan.turns > 1 else ""
    sampling = plan.sampling
    return (
        f"{asked.samples} samples of {turns}at most {sampling.max_tokens} tokens at temperature {sampling.temperature:g}, "
        f"top-p {sampling.top_p:g}"
    )


def _kept(file: SampleFile | None, sampled: Sampled) -> str:
    if file is None:
        return "without --out nothing is kept"
    return f"samples kept in {file.path}: {sampled.count}; the same command goes on after them"


def _tell(asked: Asked, plan: Plan, budgets: list[Budget], sampled: Sampled, reasons: dict[str, str]) -> dict[str, Any]:
    """Print the results, and write them where that is asked for."""
    problems, sampling, tallies = plan.problems, plan.sampling, sampled.tallies
    if not sampled.count:
        raise UserError(f"no sample could be judged: {next(iter(reasons.values()), 'unknown')}")
    name = benchmark_of(problems).name
    rows = summarise(problems, tallies, asked.ks, name, asked.missing_as_zero)
    by_turn = summarise_turns(problems, tallies, budgets, plan.turns, asked.samples, name, asked.missing_as_zero)
    rates = needed(asked.ks) | needed_by_budgets(budgets, plan.turns, asked.samples)
    lacking = incomplete(tallies, rates, asked.samples, reasons)
    remarks = [*notes(lacking, rates, asked.missing_as_zero), *not_asked_for(budgets, plan.turns, asked.samples)]
    told = "\n\n".join([table(rows), *tables(by_turn), *remarks])
    values = [row.as_json() | turns.as_json() for row, turns in zip(rows, by_turn, strict=True)]
    result: dict[str, Any] = {
        "model": str(plan.folder),
        "problem_set": asked.problem_set,
        "samples": asked.samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_response_tokens": sampling.max_tokens,
        "max_turns": plan.turns,
        "feedback": plan.feedback.mode if plan.turns > 1 else None,
        "max_feedback_tokens": plan.feedback.max_tokens if plan.turns > 1 else None,
        "max_context_tokens": plan.max_context_tokens,
        "seed": plan.seed,
        "missing_as_zero": asked.missing_as_zero,
        **values[0],
        "by_difficulty": {row.name: value for row, value in zip(rows[1:], values[1:], strict=True)},
        "not_all_judged": lacking,
        "outcomes": {outcome.value: number for outcome, number in sorted(sampled.outcomes.items())},
        "by_problem": {problem.id: {**asdict(tallies[problem.id]), "tests": tests_of(problem)} for problem in problems},
    }
    print(f"rates in percent, with 95 % intervals\n\n{told}")
    if asked.out is not None:
        settings = f"{_settings(asked, plan)}, seed {plan.seed}. Rates in percent, with 95 % intervals."
        write_atomically(
            asked.out.with_suffix(".md"), f"# {asked.model} on {asked.problem_set}\n\n{settings}\n\n{told}\n"
        )
        write_atomically(asked.out, json.dumps(result, indent=1) + "\n")
    return result


async def _sample(plan: Plan, sampled: Sampled, file: SampleFile | None, reasons: dict[str, str]) -> None:
    """Draw and judge what `sampled` lacks, and add it; `reasons` gets, by problem, why samples were not judged.

    Raises EngineError, UserError.
    """
    if next(sampled.missing(), None) is None:
        return
    # What an engine has to say while it starts is of use in a run's logs; here it would bury the result.
    for name in ("VLLM_LOGGING_LEVEL", "TORCH_CPP_LOG_LEVEL", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "ERROR")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(plan.folder, local_files_only=True)
    prompts = plan.fitting_prompts(tokenizer, reasons)
    todo = sum(problem_id in prompts for problem_id, _ in sampled.missing())
    if not todo:
        return
    problems = {problem.id: problem for problem in plan.problems}
    feedback = FeedbackTurns(plan.feedback, tokenizer, plan.problems)
    if plan.turns > 1 and (first := next((problem for problem in plan.problems if problem.public_tests), None)):
        # A chat template that takes no second question is told before an engine starts.
        feedback.ids(first, None, no_code(first.id, len(first.public_tests)), None, seed=0)
    rules = plan.rules(max(map(len, prompts.values())))

    async def one(wanted: tuple[str, int]) -> None:
        problem, index = problems[wanted[0]], wanted[1]
        sample = await episodes.sample(problem, prompts[problem.id], index)
        if isinstance(sample, Verdict):
            reasons[problem.id] = next((test.message for test in sample.tests if test.message), "unknown")
            return
        if file is not None:
            file.add(sample)
        sampled.add(sample)
        show(sampled.count, sampled.outcomes)

    with ProcessPool(plan.executor, cores()) as pool:
        engine = await start(plan.engine(rules))
        try:
            episodes = Episodes(plan, rules, tokenizer, feedback, engine, pool)
            with progress(sampled.count + todo, sampled.count) as show:
                wanted = (sample for sample in sampled.missing() if sample[0] in prompts)
                await for_each(wanted, plan.config.engine.max_sequences + _AHEAD * cores(), one)
        finally:
            await engine.shutdown()

"""`cupel eval`: pass@k of a model on a problem set, with an engine and judges of its own and no cluster.

Invariants: a bounded number of samples is under way, and each is written as soon as it is judged; what is in the file is never sampled again; a
sample's tokens depend on its own seed, not on when it is drawn; a sample that our own machinery failed to judge is never counted as wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.concurrency import for_each
from actors.engine.choose import start
from actors.engine.protocol import Completion, EngineError, EngineSettings, SamplingSettings
from actors.prompts import extract_program, prompt_ids
from cluster import machine
from cluster.benchmark import benchmark_of
from cluster.config import Config
from cluster.evaluated_model import find_model, fingerprint
from cluster.evaluation_results import incomplete, notes, summarise, table, tests_of
from cluster.evaluation_samples import JudgedSample, Sampled, SampleFile, seed_of
from cluster.placement import engine_threads
from cluster.run_folder import write_atomically
from executor.deadline import within
from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.languages.base import refuse
from executor.problem import Problem
from executor.process_pool import ProcessPool, cores
from executor.progress import progress
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, jsonable, no_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_RESPONSE_TOKENS = 256  # for a model that no run of ours says a limit for
_AHEAD = 4  # samples that wait for a judge or are with it, a core, beside those that the engine is at
_PATIENCE_S = 600.0
_TOKEN_S = 4.0  # the slowest that a token may come


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
    seed: int | None = None
    out: Path | None = None
    fresh: bool = False
    missing_as_zero: bool = False


@dataclass(frozen=True)
class Plan:
    """What samples are drawn from and how; how many is not of it, and may grow."""

    folder: Path
    """Of the model."""
    config: Config
    """Of the run that the model is from, or the defaults."""
    problems: Sequence[Problem]
    sampling: SamplingSettings
    seed: int

    @property
    def executor(self) -> ExecutorSettings:
        """The run's limits; the level of isolation is this machine's, which need not be the one it was trained on."""
        limits = {"output_limit_bytes", "wall_factor", "wall_extra_s", "packages"}
        return ExecutorSettings(**self.config.executor.model_dump(include=limits))

    def made_with(self) -> dict[str, Any]:
        """All that samples and their verdicts depend on, as far as it can be set."""
        hashed = hashlib.sha256()
        for problem in self.problems:
            hashed.update(json.dumps(problem.model_dump()).encode())
        return {
            "form": 1,
            "Python": platform.python_version(),
            "model": fingerprint(self.folder),
            "problems": hashed.hexdigest(),
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_response_tokens": self.sampling.max_tokens,
            "seed": self.seed,
            "worked_examples": self.config.rollout.worked_examples,
            "executor": self.executor.model_dump(exclude={"slots", "retries", "scratch_dir"}),
        }

    def engine(self, longest_prompt: int) -> EngineSettings:
        """Settings of an engine for prompts of so many tokens at most."""
        engine = self.config.engine
        dtype = ("bfloat16" if machine.has_gpu() else "float32") if engine.dtype == "auto" else engine.dtype
        return EngineSettings(
            model_path=str(self.folder),
            dtype=dtype,
            max_model_tokens=longest_prompt + self.sampling.max_tokens,
            max_sequences=engine.max_sequences,
            kv_cache_gib=engine.kv_cache_gib,
            gpu_memory_share=0.9,
            threads=engine_threads(engine.threads),
            seed=self.config.run.seed,
            backend=engine.backend,
        )


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
    plan = Plan(folder, config, problems, sampling, config.run.seed if asked.seed is None else asked.seed)
    sampled = Sampled([problem.id for problem in problems], asked.samples)
    with ExitStack() as stack:
        file = None
        if asked.out is not None:
            path = asked.out.with_suffix(".samples.jsonl")
            file = stack.enter_context(SampleFile(path, plan.made_with(), sampled, asked.fresh))
        _say(
            f"{len(problems)} problems x {asked.samples} samples of at most {sampling.max_tokens} tokens "
            f"at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, with {folder}"
        )
        if file and sampled.count:
            _say(f"{sampled.count} samples are there already, in {file.path}")
        reasons: dict[str, str] = {}
        try:
            asyncio.run(_sample(plan, sampled, file, reasons))
        except EngineError as error:
            raise UserError(f"{error}\n{_kept(file, sampled)}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_kept(file, sampled)) from None
    return _tell(asked, plan, sampled, reasons)


def _say(line: str) -> None:
    """For whoever watches; standard output holds the results only."""
    print(line, file=sys.stderr, flush=True)


def _kept(file: SampleFile | None, sampled: Sampled) -> str:
    if file is None:
        return "without --out nothing is kept"
    return f"samples kept in {file.path}: {sampled.count}; the same command goes on after them"


def _tell(asked: Asked, plan: Plan, sampled: Sampled, reasons: dict[str, str]) -> dict[str, Any]:
    """Print the results, and write them where that is asked for."""
    problems, sampling, tallies = plan.problems, plan.sampling, sampled.tallies
    if not sampled.count:
        raise UserError(f"no sample could be judged: {next(iter(reasons.values()), 'unknown')}")
    rows = summarise(problems, tallies, asked.ks, benchmark_of(problems).name, asked.missing_as_zero)
    lacking = incomplete(tallies, asked.ks, asked.samples, reasons)
    told = "\n".join([table(rows), *[f"\n{note}" for note in notes(lacking, asked.ks, asked.missing_as_zero)]])
    result: dict[str, Any] = {
        "model": str(plan.folder),
        "problem_set": asked.problem_set,
        "samples": asked.samples,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_response_tokens": sampling.max_tokens,
        "seed": plan.seed,
        "missing_as_zero": asked.missing_as_zero,
        **rows[0].as_json(),
        "by_difficulty": {row.name: row.as_json() for row in rows[1:]},
        "not_all_judged": lacking,
        "outcomes": {outcome.value: number for outcome, number in sorted(sampled.outcomes.items())},
        "by_problem": {problem.id: {**asdict(tallies[problem.id]), "tests": tests_of(problem)} for problem in problems},
    }
    print(f"rates in percent, with 95 % intervals\n\n{told}")
    if asked.out is not None:
        settings = (
            f"{asked.samples} samples a problem, temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
            f"at most {sampling.max_tokens} tokens, seed {plan.seed}. Rates in percent, with 95 % intervals."
        )
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
    prompts = fitting_prompts(plan, tokenizer, reasons)
    todo = sum(problem_id in prompts for problem_id, _ in sampled.missing())
    if not todo:
        return
    problems = {problem.id: problem for problem in plan.problems}
    patience = _PATIENCE_S + _TOKEN_S * plan.sampling.max_tokens

    async def response(problem: Problem, seed: int) -> Completion:
        try:
            return await within(
                engine.generate(prompts[problem.id], replace(plan.sampling, seed=seed)), seconds=patience
            )
        except TimeoutError:
            raise EngineError(f"the engine gave no response to {problem.id} within {patience:.0f} s") from None

    async def verdict(problem: Problem, program: str | None, index: int) -> dict[str, Any]:
        if program is None:
            return jsonable(no_code(problem.id, tests_of(problem), index))
        judged = pool.submit(JudgeRequest(problem=problem, program=program, index=index))
        return json.loads((await asyncio.wrap_future(judged)).line)  # every wait in there has a deadline

    async def one(wanted: tuple[str, int]) -> None:
        problem, index = problems[wanted[0]], wanted[1]
        seed = seed_of(plan.seed, problem.id, index)
        completion = await response(problem, seed)
        text = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
        program = extract_program(text, problem.language)
        found = await verdict(problem, program.text if program else None, index)
        tests = found.pop("tests")
        outcome = Outcome(found["outcome"])
        if outcome is Outcome.INFRASTRUCTURE:
            reasons[problem.id] = next((test["message"] for test in tests if test["message"]), "unknown")
            return
        if file is not None:
            file.add(
                JudgedSample(
                    problem_id=problem.id,
                    index=index,
                    seed=seed,
                    response=text,
                    program=program.text if program else "",
                    tokens=len(completion.token_ids),
                    finish_reason=completion.finish_reason,
                    verdict=found,
                )
            )
        sampled.add(problem.id, index, outcome, found["passed"])
        show(sampled.count, sampled.outcomes)

    with ProcessPool(plan.executor, cores()) as pool:
        engine = await start(plan.engine(max(map(len, prompts.values()))))
        try:
            with progress(sampled.count + todo, sampled.count) as show:
                wanted = (sample for sample in sampled.missing() if sample[0] in prompts)
                await for_each(wanted, plan.config.engine.max_sequences + _AHEAD * cores(), one)
        finally:
            await engine.shutdown()


def fitting_prompts(plan: Plan, tokenizer: PreTrainedTokenizerBase, reasons: dict[str, str]) -> dict[str, list[int]]:
    """Token ids by problem, without those that leave the model no room for a response; these get a reason."""
    from transformers import AutoConfig

    model = AutoConfig.from_pretrained(plan.folder, local_files_only=True)
    room = None if model.is_encoder_decoder else getattr(model.get_text_config(), "max_position_embeddings", None)
    prompts = {}
    for problem in plan.problems:
        ids = prompt_ids(tokenizer, problem, plan.config.rollout.worked_examples)
        if room is not None and len(ids) + plan.sampling.max_tokens > room:
            both = f"{len(ids)} tokens of prompt and {plan.sampling.max_tokens} of response"
            reasons[problem.id] = f"{both} are more than the model's {room}"
        else:
            prompts[problem.id] = ids
    return prompts

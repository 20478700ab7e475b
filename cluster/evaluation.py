"""`cupel eval`: pass@k of a model on a problem set, with an engine and a judge of its own and no cluster."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from actors.engine.choose import start
from actors.engine.protocol import EngineError, EngineSettings, SamplingSettings
from actors.evaluation import Evaluation, evaluate
from actors.problem_sets.base import load as load_problems
from actors.prompts import extract_program, prompt_ids
from cluster import machine
from cluster.config import Config, load_config
from cluster.model_source import DEFAULT_MODEL, resolve
from cluster.placement import engine_threads
from cluster.run_folder import latest_checkpoint, write_atomically
from cluster.statistics import pass_rate_interval
from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.verdict import Verdict, no_code

MAX_RESPONSE_TOKENS = 256  # for a model that no run of ours says a limit for


def evaluate_command(
    *,
    model: str,
    problems: str,
    samples: int,
    ks: list[int],
    temperature: float,
    top_p: float,
    max_response_tokens: int | None,
    out: Path | None,
) -> dict[str, Any]:
    """Sample, judge, print pass@k with 95 % intervals, and write `out` if asked. Raises UserError for what a person can mend."""
    import json

    folder, config, of_a_run = find_model(model)
    chosen = load_problems(problems)
    own_limit = config.rollout.max_response_tokens if of_a_run else MAX_RESPONSE_TOKENS
    settings = SamplingSettings(temperature, top_p, max_response_tokens or own_limit)
    print(
        f"{len(chosen)} problems x {samples} samples of at most {settings.max_tokens} tokens, with {folder}", flush=True
    )
    try:
        evaluation = asyncio.run(_sample(folder, config, chosen, samples, settings))
    except EngineError as error:
        raise UserError(str(error)) from None
    counts = [(evaluation.passed[p.id], evaluation.samples[p.id]) for p in chosen if evaluation.samples.get(p.id)]
    if len(counts) < len(chosen):
        print(f"{len(chosen) - len(counts)} problems could not be judged and are left out")
    result: dict[str, Any] = {
        "model": str(folder),
        "problems": len(counts),
        "samples": samples,
        "temperature": temperature,
        "top_p": top_p,
        "max_response_tokens": settings.max_tokens,
        "pass_at_k": {},
        "by_problem": {
            p: {"passed": evaluation.passed[p], "samples": n} for p, n in sorted(evaluation.samples.items())
        },
    }
    for k in ks:
        usable = [(passed, n) for passed, n in counts if n >= k]
        if not usable:
            raise UserError(f"no problem has {k} judged samples: the executors failed on too many")
        interval = pass_rate_interval(usable, k)
        result["pass_at_k"][str(k)] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
        print(
            f"pass@{k} {interval.mean:.3f}  95 % interval [{interval.low:.3f}, {interval.high:.3f}]  {len(usable)} problems x {samples} samples"
        )
    result["by_difficulty"] = {}
    for difficulty in sorted({p.difficulty for p in chosen if p.difficulty is not None}):
        names = [p.id for p in chosen if p.difficulty == difficulty and evaluation.samples.get(p.id)]
        if names:
            interval = pass_rate_interval([(evaluation.passed[name], evaluation.samples[name]) for name in names], 1)
            result["by_difficulty"][str(difficulty)] = {"problems": len(names), "mean": interval.mean}
            print(f"difficulty {difficulty}: pass@1 {interval.mean:.3f}  {len(names)} problems")
    if out is not None:
        write_atomically(out, json.dumps(result, indent=1) + "\n")
    return result


def find_model(model: str) -> tuple[Path, Config, bool]:
    """The folder of a model, a checkpoint or a run (its newest checkpoint), the configuration whose prompts it was trained with,
    and whether that is a run's or the defaults."""
    path = Path(model).expanduser()
    for run in (path, path.parent.parent):
        if path.is_dir() and (run / "config.yaml").exists():
            config = load_config(run / "config.yaml")
            checkpoint = latest_checkpoint(run) if run == path else path
            if checkpoint is None:
                raise UserError(f"run folder {run} has no complete checkpoint yet")
            return resolve(str(checkpoint), config.model.cache), config, True
    config = Config()
    return resolve(model or DEFAULT_MODEL, config.model.cache), config, False


async def _sample(
    folder: Path, config: Config, problems: list[Problem], samples: int, sampling: SamplingSettings
) -> Evaluation:
    # What an engine has to say while it starts is of use in a run's logs; here it would bury the result.
    for name in ("VLLM_LOGGING_LEVEL", "TORCH_CPP_LOG_LEVEL", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error" if name == "TRANSFORMERS_VERBOSITY" else "ERROR")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    prompts = {p.id: prompt_ids(tokenizer, p, config.rollout.worked_examples) for p in problems}
    longest = max(len(ids) for ids in prompts.values())
    gpu = machine.has_gpu()
    dtype = ("bfloat16" if gpu else "float32") if config.engine.dtype == "auto" else config.engine.dtype
    engine = await start(
        EngineSettings(
            model_path=str(folder),
            dtype=dtype,
            max_model_tokens=longest + sampling.max_tokens,
            max_sequences=config.engine.max_sequences,
            kv_cache_gib=config.engine.kv_cache_gib,
            gpu_memory_share=0.9,
            threads=engine_threads(config.engine.threads),
            seed=config.run.seed,
            backend=config.engine.backend,
        )
    )
    workers = config.executor.workers
    judges = ThreadPoolExecutor(workers)
    try:
        with Judge(ExecutorSettings(slots=workers)) as judge:

            async def attempt(problem: Problem, index: int) -> tuple[str, Verdict]:
                completion = await engine.generate(prompts[problem.id], sampling)
                response = tokenizer.decode(completion.token_ids, skip_special_tokens=True)
                program = extract_program(response, problem.language)
                if program is None:
                    return response, no_code(problem.id, len(problem.public_tests) + len(problem.private_tests), index)
                request = JudgeRequest(problem=problem, program=program.text, index=index)
                return response, await asyncio.get_running_loop().run_in_executor(judges, judge.judge, request)

            return await evaluate(problems, samples, attempt, 0)
    finally:
        judges.shutdown(cancel_futures=True)
        await engine.shutdown()

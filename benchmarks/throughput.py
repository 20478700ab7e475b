"""What the loop costs over its bare parts, measured in one run on this machine:

    .venv/bin/python benchmarks/throughput.py [--problems N] [--tokens N] [--rounds N] [a.b=c ...]

1. Tokens a second of the rollout path (tickets from a buffer, prompts, generation with provenance, extraction, judging in executor
   workers, rewards, groups put back; the learner idle) over tokens a second of bare vLLM (`AsyncLLM.generate`, all requests at
   once, nothing after it). One engine, the same prompts and sampling, an empty prefix cache before each.
2. Executions a second (one test each) of the executor workers over bare subprocesses (`python3 -I -S`, one a test, no
   isolation), on the references of the starter problems, as many at a time on both sides.

The two sides take turns, and every second round turns their order round, so that a drift of the machine weighs on both alike.
Settings are those of a run: `engine.threads=2` or `executor.workers=4` show what a change brings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

# One of the files in this folder is called as a package of ours, and the folder comes first where this one is run.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from actors.engine.protocol import EngineSettings, SamplingSettings  # noqa: E402
from actors.rollout import RolloutSettings, RolloutWorker  # noqa: E402
from buffer.actor import create as create_buffer  # noqa: E402
from buffer.settings import BufferSettings  # noqa: E402
from cluster import machine  # noqa: E402
from cluster.actors import connect, feedback_settings, rules, worked_examples  # noqa: E402
from cluster.chosen_problems import chosen_problems  # noqa: E402
from cluster.config import Config, load_config  # noqa: E402
from cluster.model_source import resolve  # noqa: E402
from executor.errors import UserError  # noqa: E402
from executor.judging import JudgeRequest  # noqa: E402
from executor.languages.interpreter import find  # noqa: E402
from executor.pool import ExecutorPool  # noqa: E402
from executor.problem import CodeTest, Problem, StdioTest, Test  # noqa: E402
from executor.settings import ExecutorSettings  # noqa: E402
from executor.verdict import Outcome  # noqa: E402
from executor.worker import start_worker  # noqa: E402

WAIT_S = 5.0
LOOP_TIMEOUT_S = 3600.0
SUBPROCESS_TIMEOUT_S = 60.0


@dataclass
class Rate:
    """How many in how many seconds, added up over rounds."""

    count: float = 0.0
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """How many a second."""
        return self.count / self.seconds


async def measure(rate: Rate, work: Callable[[], Awaitable[float]]) -> None:
    """Add what `work` counts, and its seconds, to `rate`."""
    started = time.monotonic()
    rate.count += await work()
    rate.seconds += time.monotonic() - started


async def in_turns(rounds: int, first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]]) -> None:
    """Both, `rounds` times; every second time in the other order."""
    for number in range(rounds):
        for one in (first, second) if number % 2 == 0 else (second, first):
            await one()


# Tokens --------------------------------------------------------------------------------------------------------------


class BenchmarkWorker(RolloutWorker):
    """The rollout actor's own class as a plain object, whose engine can also be asked directly."""

    async def bare(self) -> float:
        """The prompts of all problems, each as often as a group samples it, straight to vLLM. Returns tokens."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        llm: Any = vars(self.engine)["_llm"]
        sampling = self._settings.sampling
        parameters = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

        async def one(prompt: list[int], name: str) -> int:
            tokens = 0
            async for output in llm.generate({"prompt_token_ids": prompt}, parameters, name):
                tokens = len(output.outputs[0].token_ids)
            return tokens

        self._number = getattr(self, "_number", 0) + 1
        prompts = [self._prompt(problem) for problem in self._problems.values()]
        requests = [
            one(prompt, f"bare-{self._number}-{i}-{j}")
            for i, prompt in enumerate(prompts)
            for j in range(self._settings.samples_per_problem)
        ]
        return float(sum(await asyncio.gather(*requests)))

    async def fresh(self) -> None:
        """Forget the keys and values of all prompts, and make a buffer with one ticket for each problem."""
        await vars(self.engine)["_llm"].reset_prefix_cache()
        settings = BufferSettings(groups_per_step=len(self._problems), max_staleness=0)
        self._buffer = create_buffer(settings, list(self._problems))
        await self._buffer.gauges.remote()

    async def loop(self) -> float:
        """One group of every problem, by tickets. Returns tokens; raises UserError if it does not end."""
        before = self.engine.gauges()["generated_tokens"]
        running = asyncio.create_task(self.run())
        deadline = time.monotonic() + LOOP_TIMEOUT_S
        while not running.done() and not await self._buffer.wait_ready.remote(WAIT_S):
            if time.monotonic() > deadline:
                raise UserError(
                    f"gave up after {LOOP_TIMEOUT_S:.0f} s; the buffer waits for {await self._buffer.waiting_for.remote()}"
                )
        await self._buffer.close.remote()
        await running
        return self.engine.gauges()["generated_tokens"] - before


async def compare_tokens(config: Config, problems: list[Problem], executors: dict[str, Any], rounds: int) -> float:
    """Print both rates and return their ratio."""
    worker = BenchmarkWorker(rollout_settings(config), problems, None, executors)
    await worker.start()
    try:
        bare, loop = Rate(), Rate()

        async def side(rate: Rate, work: Callable[[], Awaitable[float]]) -> None:
            await worker.fresh()
            await measure(rate, work)

        await worker.bare()  # the first requests pay for what is set up once
        await in_turns(rounds, lambda: side(bare, worker.bare), lambda: side(loop, worker.loop))
    finally:
        await worker.stop()
    episodes = rounds * len(problems) * config.rollout.samples_per_problem
    print(f"bare vLLM      {bare.per_second:8.1f} tokens/s  ({bare.count:.0f} tokens in {bare.seconds:.1f} s)")
    print(f"rollout path   {loop.per_second:8.1f} tokens/s  ({loop.count:.0f} tokens in {loop.seconds:.1f} s)")
    ratio = loop.per_second / bare.per_second
    print(f"ratio          {ratio:8.2f}           ({episodes} episodes each, learner idle)")
    return ratio


def rollout_settings(config: Config) -> RolloutSettings:
    """What a run gives its rollout actor, without what only the learner asks for."""
    rollout, engine = config.rollout, config.engine
    dtype = engine.dtype if engine.dtype != "auto" else "bfloat16" if machine.has_gpu() else "float32"
    return RolloutSettings(
        name="benchmark",
        engine=EngineSettings(
            model_path=str(resolve(config.model.name, config.model.cache)),
            dtype=dtype,
            max_model_tokens=rollout.episode_tokens,
            max_sequences=engine.max_sequences,
            kv_cache_gib=engine.kv_cache_gib,
            gpu_memory_share=engine.gpu_memory_share,
            threads=engine.threads or max(1, (os.cpu_count() or 1) // 2),
            seed=config.run.seed,
        ),
        executor=executor_settings(config),
        algorithm=config.algorithm.name,
        reward=config.algorithm.reward,
        samples_per_problem=rollout.samples_per_problem,
        sampling=SamplingSettings(rollout.temperature, rollout.top_p, rollout.max_response_tokens),
        concurrent_groups=rollout.concurrent_groups,
        tests=rollout.tests,
        rules=rules(config),
        feedback=feedback_settings(config),
        max_prompt_tokens=rollout.max_prompt_tokens,
        worked_examples=worked_examples(config),
        with_greedy=False,
        with_reference=False,
        reference_repairs=False,
        tidy_references=False,
        seed=config.run.seed,
        seeded=False,
    )


# Executions ----------------------------------------------------------------------------------------------------------


def executor_settings(config: Config) -> ExecutorSettings:
    """The judge's settings without the cluster's own."""
    return config.executor.judging()


async def compare_executions(config: Config, problems: list[Problem], executors: dict[str, Any], rounds: int) -> float:
    """Print both rates and return their ratio. Raises UserError if a reference does not pass, or a subprocess fails."""
    usable = [p for p in problems if p.references and not any(isinstance(t, CodeTest) for t in tests_of(p))]
    if not usable:
        raise UserError("none of these problems has a reference and tests that a bare subprocess can run")
    pool = ExecutorPool(executors, executor_settings(config))
    places = config.executor.workers * config.executor.slots
    bare, judged = Rate(), Rate()
    interpreter = find(False).binary

    async def judge() -> float:
        verdicts = await asyncio.gather(*(pool.judge(JudgeRequest(p, p.references[0])) for p in usable))
        wrong = [v for v in verdicts if v.outcome is not Outcome.PASS]
        if wrong:
            raise UserError(f"the reference of {wrong[0].problem_id} gives {wrong[0].outcome}")
        return float(sum(v.total for v in verdicts))

    async def run_bare() -> float:
        pairs = [(p, t) for p in usable for t in tests_of(p)]
        event_loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(places) as threads:
            await asyncio.gather(*(event_loop.run_in_executor(threads, run_one, interpreter, p, t) for p, t in pairs))
        return float(len(pairs))

    await judge()  # the first test of a slot starts its interpreter
    await in_turns(rounds, lambda: measure(bare, run_bare), lambda: measure(judged, judge))
    await pool.close()
    print(f"bare subprocess{bare.per_second:8.1f} executions/s  ({bare.count:.0f} in {bare.seconds:.1f} s)")
    print(f"executor       {judged.per_second:8.1f} executions/s  ({judged.count:.0f} in {judged.seconds:.1f} s)")
    ratio = judged.per_second / bare.per_second
    print(f"ratio          {ratio:8.2f}               ({places} at a time on both sides)")
    return ratio


def tests_of(problem: Problem) -> list[Test]:
    """Public tests, then private ones."""
    return [*problem.public_tests, *problem.private_tests]


def run_one(interpreter: Path, problem: Problem, test: Test) -> None:
    """One test as a script would do it: a fresh interpreter, nothing compared. Raises UserError if it fails."""
    source, given = problem.references[0], ""
    if isinstance(test, StdioTest):
        given = test.input
    elif not isinstance(test, CodeTest):
        source += f"\nprint(repr({problem.entry_point}(*{test.args!r}, **{test.kwargs!r})))\n"
    done = subprocess.run(
        [str(interpreter), "-I", "-S", "-c", source],
        input=given,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{problem.id}: a bare subprocess ended with {done.returncode}: {done.stderr[-200:]}")


# The whole -----------------------------------------------------------------------------------------------------------


async def compare(config: Config, problems: list[Problem], rounds: int) -> None:
    """Both comparisons with the same executor workers."""
    executors = {f"executor-{i}": start_worker(executor_settings(config)) for i in range(config.executor.workers)}
    await asyncio.gather(*(executor.ping.remote() for executor in executors.values()))
    await compare_executions(config, problems, executors, rounds)
    await compare_tokens(config, problems, executors, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description="Throughput of the loop over its bare parts.")
    parser.add_argument("--problems", type=int, default=24, help="training problems to sample and to execute")
    parser.add_argument("--tokens", type=int, default=96, help="tokens after which a response is cut off")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side is measured")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings of the configuration")
    arguments = parser.parse_args()
    if min(arguments.problems, arguments.tokens, arguments.rounds) < 1:
        parser.error("--problems, --tokens and --rounds are at least 1")
    own = [f"problems.limit={arguments.problems}", f"rollout.max_response_tokens={arguments.tokens}"]
    try:
        config = load_config(None, [*own, *arguments.overrides])
        problems, _ = chosen_problems(config)
        connect(config)
        try:
            asyncio.run(compare(config, problems, arguments.rounds))
        finally:
            ray.shutdown()
    except UserError as error:
        print(f"throughput: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How many episodes of several turns one event loop carries: the work that a rollout actor does between engine and judge, at full size.

    python benchmarks/episodes.py [--episodes 2000] [--turns 3]

Engine and judge are stand-ins that take their time and no processor; everything between them is real: the model's tokenizer, programs cut out of
responses, feedback of failed tests made and tokenised, the state machine. The baseline waits as long and does nothing. Printed: seconds of both
and their ratio, and how late the loop was at worst.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from actors.engine.protocol import Completion
from actors.episode import Rules
from actors.feedback_turns import FeedbackSettings, FeedbackTurns
from actors.loop_lag import LoopLag
from actors.play import Player, Tests, play
from actors.problem_sets.base import load
from actors.prompts import prompt_ids, reference_response
from actors.worked_examples import WorkedExamples
from cluster.config import Config
from cluster.model_source import resolve
from executor.problem import Problem, StdioTest
from executor.verdict import Outcome, TestResult, Verdict

GENERATE_S = (2.0, 6.0)
JUDGE_S = (0.05, 0.3)
MOST_TOKENS = 4096


def failing(problem: Problem) -> Verdict:
    """Every public test gives a wrong answer."""
    tests = [
        TestResult(outcome=Outcome.FAILURE, public=True, input=t.input if isinstance(t, StdioTest) else None, got="0")
        for t in problem.public_tests
    ]
    return Verdict(problem_id=problem.id, outcome=Outcome.FAILURE, total=len(tests), tests=tests)


async def timed(episodes: int, one: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Seconds until all have ended, and how late the loop was at worst."""
    lag = LoopLag()
    lag.start()
    started = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(episodes)))
    seconds = time.monotonic() - started
    lag.stop()
    return seconds, lag.worst()


async def measure(episodes: int, turns: int, problems: list[Problem], tokenizer: PreTrainedTokenizerBase) -> None:
    """Print the two sides and their ratio."""
    replies = [
        [*tokenizer.encode(reference_response(p, p.references[0]), add_special_tokens=False), tokenizer.eos_token_id]
        for p in problems
    ]
    prompts = [
        prompt_ids(tokenizer, p, WorkedExamples(2).before(p)) for p in problems
    ]  # a rollout actor makes one a group, not one an episode
    feedback = FeedbackTurns(FeedbackSettings("tests", None, 256), tokenizer, problems)
    rules = Rules(turns, MOST_TOKENS, max_response_tokens=256)

    def waits(number: int) -> random.Random:
        return random.Random(number)

    async def bare(number: int) -> None:
        clock = waits(number)
        for _ in range(turns):
            await asyncio.sleep(clock.uniform(*GENERATE_S))
            await asyncio.sleep(clock.uniform(*JUDGE_S))

    async def real(number: int) -> None:
        clock, problem = waits(number), problems[number % len(problems)]
        prompt, reply = prompts[number % len(problems)], replies[number % len(problems)]

        async def generate(token_ids: list[int]) -> Completion:
            await asyncio.sleep(clock.uniform(*GENERATE_S))
            return Completion(reply, [-1.0] * len(reply), [0] * len(reply), "stop")

        async def judge(problem: Problem, program: str | None, tests: Tests) -> Verdict:
            await asyncio.sleep(clock.uniform(*JUDGE_S))
            return failing(problem)

        player = Player(
            generate,
            lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True)),
            judge,
            lambda *said: feedback.ids(*said, seed=number),
        )
        episode = await play(problem, prompt, rules, player)
        assert not isinstance(episode, Verdict) and len(episode.turns) == turns

    await real(0)  # what is set up once
    nothing, idle_lag = await timed(episodes, bare)
    seconds, lag = await timed(episodes, real)
    print(f"waiting only   {nothing:7.2f} s, loop late by at most {1000 * idle_lag:6.0f} ms")
    print(f"episodes       {seconds:7.2f} s, loop late by at most {1000 * lag:6.0f} ms")
    print(f"ratio          {seconds / nothing:7.2f}   ({episodes} episodes of {turns} turns at once in one loop)")


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description="Episodes that one event loop carries.")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    config = Config()
    tokenizer = AutoTokenizer.from_pretrained(resolve(config.model.name, config.model.cache), local_files_only=True)
    asyncio.run(measure(asked.episodes, asked.turns, load("starter:train"), tokenizer))


if __name__ == "__main__":
    main()

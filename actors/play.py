"""An episode played to its end: the state machine asks, engine, judge and tokenizer answer.

Invariants: an episode is whole or it is not at all: where a test could not be judged for reasons of ours nothing of it is kept; public tests alone
decide what is said to the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from actors.engine.protocol import Completion
from actors.episode import Episode, Phase, Rules
from actors.prompts import Program, extract_program
from executor.problem import Problem
from executor.verdict import Outcome, Verdict

Tests = Literal["all", "private", "public"]


class Judge(Protocol):
    """Runs a program, or says `no_code` of none."""

    def __call__(self, problem: Problem, program: str | None, tests: Tests) -> Awaitable[Verdict]: ...


@dataclass(frozen=True)
class Player:
    """What an episode needs from outside."""

    generate: Callable[[list[int]], Awaitable[Completion]]
    decode: Callable[[list[int]], str]
    judge: Judge
    feedback_ids: Callable[[Problem, str | None, Verdict, int | None], list[int]]
    """Problem, program, verdict of its public tests, last token of the response -> tokens that the next one answers."""


async def play(
    problem: Problem, prompt_ids: list[int], rules: Rules, player: Player, final_tests: Tests = "all"
) -> Episode | Verdict:
    """The finished episode, or the verdict by which our own machinery failed."""
    episode = Episode(problem.id, prompt_ids, rules, has_public_tests=bool(problem.public_tests))
    program: Program | None = None
    last_token: int | None = None
    while episode.phase is not Phase.DONE:
        if episode.phase is Phase.GENERATE:
            completion = await player.generate(episode.token_ids)
            response = player.decode(completion.token_ids)
            program = extract_program(response, problem.language)
            last_token = completion.token_ids[-1] if completion.token_ids else None
            episode.respond(
                completion.token_ids,
                completion.log_probs,
                completion.policy_versions,
                response,
                completion.finish_reason,
            )
        elif episode.phase is Phase.OBSERVE:
            said = episode.turns[-1].verdict
            assert said is not None, "an observed turn was judged"
            episode.observe(player.feedback_ids(problem, program.text if program else None, said, last_token))
        else:
            tests: Tests = "public" if episode.phase is Phase.JUDGE_PUBLIC else final_tests
            verdict = await player.judge(problem, program.text if program else None, tests)
            if verdict.outcome is Outcome.INFRASTRUCTURE:
                return verdict
            episode.judge(verdict)
    return episode

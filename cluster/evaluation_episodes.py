"""One sample of an evaluation: an episode with its own seeds, played to its end and written down.

Invariants: the tokens of a response depend on seed, problem, index and turn, whatever else is under way; of every turn it is known whether its program passes
the public tests and all tests, also where the episode goes on after the public tests pass.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from actors.engine.protocol import Completion, Engine, EngineError
from actors.episode import Episode, Rules
from actors.feedback_turns import FeedbackTurns
from actors.play import Player, Tests, play
from actors.prompts import extract_program
from actors.seeds import seed_of
from cluster.evaluation_plan import Plan
from cluster.evaluation_tallies import JudgedSample, JudgedTurn
from cluster.similarity import chrf
from executor.deadline import within
from executor.judging import JudgeRequest
from executor.problem import Problem
from executor.process_pool import ProcessPool
from executor.verdict import Outcome, Verdict, no_code

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PATIENCE_S = 600.0
_TOKEN_S = 4.0  # the slowest that a token may come


class Episodes:
    """Draws the samples of a plan."""

    def __init__(
        self,
        plan: Plan,
        rules: Rules,
        tokenizer: PreTrainedTokenizerBase,
        feedback: FeedbackTurns,
        engine: Engine,
        pool: ProcessPool,
    ) -> None:
        self._plan, self._rules, self._tokenizer, self._feedback = plan, rules, tokenizer, feedback
        self._engine, self._pool = engine, pool
        self._patience = _PATIENCE_S + _TOKEN_S * plan.sampling.max_tokens

    async def sample(self, problem: Problem, prompt: list[int], index: int) -> JudgedSample | Verdict:
        """A sample of a problem, or the verdict by which our own machinery failed. Raises EngineError."""
        seeds, right = list[int](), dict[int, bool]()

        async def generate(token_ids: list[int]) -> Completion:
            seeds.append(seed_of(self._plan.seed, problem.id, index, len(seeds)))
            return await self._response(problem, token_ids, seeds[-1])

        async def judge(problem: Problem, program: str | None, tests: Tests) -> Verdict:
            verdict = whole = await self._judge(problem, program, tests, index)
            if tests == "public" and verdict.outcome is Outcome.PASS and not self._rules.stop_on_public:
                whole = await self._judge(problem, program, "all", index)
                if whole.outcome is Outcome.INFRASTRUCTURE:
                    return whole
            # A last turn is judged on all tests after the public ones: what comes later counts.
            right[len(seeds) - 1] = whole.outcome is Outcome.PASS
            return verdict

        def feedback(problem: Problem, program: str | None, verdict: Verdict, last_token: int | None) -> list[int]:
            return self._feedback.ids(problem, program, verdict, last_token, seeds[-1])

        player = Player(generate=generate, decode=self._text, judge=judge, feedback_ids=feedback)
        episode = await play(problem, prompt, self._rules, player)
        if isinstance(episode, Verdict):
            return episode
        return self._written(problem, index, episode, seeds, list(right.values()))

    def _text(self, token_ids: list[int]) -> str:
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    async def _response(self, problem: Problem, token_ids: list[int], seed: int) -> Completion:
        sampling = replace(self._plan.sampling, seed=seed)
        try:
            return await within(self._engine.generate(token_ids, sampling), seconds=self._patience)
        except TimeoutError:
            raise EngineError(f"the engine gave no response to {problem.id} within {self._patience:.0f} s") from None

    async def _judge(self, problem: Problem, program: str | None, tests: Tests, index: int) -> Verdict:
        if program is None:
            return no_code(problem.id, len(JudgeRequest(problem, "", tests).chosen()), index)
        judged = self._pool.submit(JudgeRequest(problem, program, tests=tests, index=index))
        line = (await asyncio.wrap_future(judged)).line  # every wait in there has a deadline
        return Verdict.model_validate(json.loads(line))  # pydantic's own reader refuses half a surrogate pair

    def _written(
        self, problem: Problem, index: int, episode: Episode, seeds: list[int], right: list[bool]
    ) -> JudgedSample:
        turns, token_ids = list[JudgedTurn](), episode.token_ids
        starts_of_next = [turn.start for turn in episode.turns[1:]] + [len(token_ids)]
        for turn, next_start, seed, passes_all in zip(episode.turns, starts_of_next, seeds, right, strict=True):
            found = extract_program(turn.response, problem.language)
            program = found.text if found else ""
            before = turns[-1].program if turns else ""
            assert turn.verdict is not None, "a finished episode is judged"
            turns.append(
                JudgedTurn(
                    seed=seed,
                    response=turn.response,
                    program=program,
                    tokens=turn.end - turn.start,
                    finish_reason=turn.finish_reason,
                    outcome=turn.verdict.outcome,
                    passes_public=_passes_public(problem, turn.verdict),
                    passes_all=passes_all,
                    chrf=chrf(program, before) if program and before else None,
                    feedback=self._text(token_ids[turn.end : next_start]),
                )
            )
        last = episode.turns[-1].verdict
        assert last is not None, "a finished episode is judged"
        return JudgedSample(
            problem_id=problem.id,
            index=index,
            program=turns[-1].program,
            verdict=last.model_copy(update={"tests": []}),
            ending=episode.ending,
            turns=turns,
        )


def _passes_public(problem: Problem, verdict: Verdict) -> bool:
    """Whether the program would be handed in; where there are no public tests any program would."""
    if verdict.outcome in (Outcome.PASS, Outcome.NO_CODE):
        return verdict.outcome is Outcome.PASS
    public = [test.outcome for test in verdict.tests if test.public]
    return len(public) == len(problem.public_tests) and all(outcome is Outcome.PASS for outcome in public)

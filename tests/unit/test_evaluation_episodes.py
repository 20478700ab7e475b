"""A sample of an evaluation: a scripted engine, real judges. Each response has its own seed, and every turn says what its program is worth."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from asynchronous import asynchronous

from actors.engine.protocol import Completion, SamplingSettings
from actors.episode import Rules
from actors.feedback_turns import FeedbackSettings, FeedbackTurns
from actors.seeds import seed_of
from cluster.config import Config
from cluster.evaluation_episodes import Episodes
from cluster.evaluation_plan import Plan
from cluster.evaluation_tallies import JudgedSample
from executor.feedback import Mode
from executor.judging import JudgeRequest
from executor.problem import Problem
from executor.process_pool import Judged, ProcessPool
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, as_line, infrastructure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PROMPT = [0, 1, 2]
RIGHT = "print(int(input()) * 2)"
PUBLIC = "print(4)"
WRONG = "print(5)"


def problem(name: str, public: int = 2) -> Problem:
    return Problem.model_validate(
        {
            "id": name,
            "prompt": "Double it.",
            "kind": "stdio",
            "public_tests": [{"input": f"{public}\n", "output": f"{2 * public}\n"}] if public else [],
            "private_tests": [{"input": "3\n", "output": "6\n"}],
        }
    )


DOUBLE = problem("double")
PROBLEMS = [DOUBLE, problem("other", 7), problem("third", 8), problem("fourth", 9)]


class Engine:
    """Says the programs one after the other, and keeps what it was asked."""

    policy_version = 0

    def __init__(self, tokenizer: PreTrainedTokenizerFast, programs: list[str | None]) -> None:
        self.tokenizer, self.programs = tokenizer, programs
        self.asked = list[tuple[list[int], SamplingSettings]]()

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        program = self.programs[len(self.asked)]
        self.asked.append((prompt_ids, sampling))
        text = "I do not know." if program is None else f"```python\n{program}\n```"
        ids = [*self.tokenizer.encode(text, add_special_tokens=False), 1]
        return Completion(ids, [-1.0] * len(ids), [0] * len(ids), "stop")

    def seeds(self) -> list[int | None]:
        return [sampling.seed for _, sampling in self.asked]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    with ProcessPool(ExecutorSettings(), 1) as pool:
        yield pool


class Play:
    """An evaluation of scripted programs."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, pool: ProcessPool) -> None:
        self.folder, self.tokenizer, self.pool = folder, tokenizer, pool
        self.engine = Engine(tokenizer, [])

    async def __call__(
        self,
        programs: list[str | None],
        turns: int = 3,
        mode: Mode = "tests",
        of: Problem = DOUBLE,
        index: int = 0,
        context: int = 4000,
    ) -> JudgedSample | Verdict:
        settings = FeedbackSettings(mode, None, 400)  # the tokenizer hardly knows a word
        sampling = SamplingSettings(1.0, 1.0, 40)
        plan = Plan(self.folder, Config(), PROBLEMS, sampling, 5, turns, settings)
        feedback = FeedbackTurns(settings, self.tokenizer, PROBLEMS)
        self.engine = Engine(self.tokenizer, programs)
        rules = Rules(turns, context, sampling.max_tokens, stop_on_public=settings.says_of_passing)
        return await Episodes(plan, rules, self.tokenizer, feedback, self.engine, self.pool).sample(  # type: ignore[arg-type]
            of, PROMPT, index
        )

    async def whole(self, *args: object, **options: object) -> JudgedSample:
        sample = await self(*args, **options)  # type: ignore[arg-type]
        assert isinstance(sample, JudgedSample)
        return sample


@pytest.fixture
def play(model_folder: Path, tokenizer: PreTrainedTokenizerFast, pool: ProcessPool) -> Play:
    return Play(model_folder, tokenizer, pool)


def worth(sample: JudgedSample) -> list[tuple[bool, bool]]:
    return [(turn.passes_public, turn.passes_all) for turn in sample.turns]


@asynchronous
async def test_a_mended_program_ends_it_and_every_turn_is_written_down(play: Play) -> None:
    sample = await play.whole([WRONG, None, RIGHT], turns=5)
    assert (sample.ending, sample.program.strip(), sample.verdict.outcome) == ("public_tests", RIGHT, Outcome.PASS)
    assert (sample.verdict.passed, sample.verdict.total, sample.verdict.tests) == (2, 2, [])
    assert worth(sample) == [(False, False), (False, False), (True, True)]
    assert [turn.outcome for turn in sample.turns] == [Outcome.FAILURE, Outcome.NO_CODE, Outcome.PASS]
    assert [turn.program.strip() for turn in sample.turns] == [WRONG, "", RIGHT]
    assert all(turn.tokens > 1 and turn.finish_reason == "stop" for turn in sample.turns)
    assert [turn.chrf for turn in sample.turns] == [None, None, None]  # no two programs in a row
    first, second, last = (turn.feedback for turn in sample.turns)
    assert "Wrong answer" in first and "6" not in first and "code block" in second and last == ""
    prompts = [prompt for prompt, _ in play.engine.asked]
    assert prompts[0] == PROMPT and prompts[2][: len(prompts[1])] == prompts[1]


@asynchronous
async def test_every_response_has_its_own_seed(play: Play) -> None:
    sample = await play.whole([WRONG, WRONG, WRONG], index=4)
    wanted = [seed_of(5, "double", 4, turn) for turn in range(3)]
    assert play.engine.seeds() == wanted == [turn.seed for turn in sample.turns]
    assert sample.ending == "turns" and [turn.chrf for turn in sample.turns] == [None, 1.0, 1.0]


@asynchronous
async def test_a_program_that_only_the_public_tests_take_for_right_is_wrong(play: Play) -> None:
    sample = await play.whole([PUBLIC])
    assert (worth(sample), sample.ending, sample.verdict.outcome) == ([(True, False)], "public_tests", Outcome.FAILURE)
    assert worth(await play.whole([WRONG, PUBLIC], turns=2)) == [(False, False), (True, False)]


@asynchronous
async def test_one_turn_is_judged_on_all_tests_at_once(play: Play) -> None:
    for program, found in (
        (RIGHT, (True, True)),
        (PUBLIC, (True, False)),
        (WRONG, (False, False)),
        (None, (False, False)),
    ):
        sample = await play.whole([program], turns=1)
        assert (worth(sample), sample.ending, len(play.engine.asked)) == ([found], "turns", 1)
        assert sample.verdict.total == 2


@asynchronous
async def test_without_public_tests_there_is_one_turn_and_any_program_is_handed_in(play: Play) -> None:
    sample = await play.whole([WRONG], of=problem("private", 0))
    assert worth(sample) == [(True, False)]
    assert worth(await play.whole([None], of=problem("private", 0))) == [(False, False)]


@asynchronous
async def test_without_feedback_it_goes_on_and_what_each_turn_is_worth_is_known_all_the_same(play: Play) -> None:
    sample = await play.whole([RIGHT, PUBLIC, WRONG], mode="none")
    assert worth(sample) == [(True, True), (True, False), (False, False)]
    assert sample.verdict.outcome is Outcome.FAILURE and sample.ending == "turns"
    assert all("Wrong answer" not in turn.feedback and "Try again" in turn.feedback for turn in sample.turns[:2])


@asynchronous
async def test_random_feedback_is_the_same_whenever_the_sample_is_drawn(play: Play) -> None:
    told = [
        [turn.feedback for turn in (await play.whole([WRONG] * 3, mode="random", index=index)).turns]
        for index in (0, 0, *range(1, 6))
    ]
    assert told[0] == told[1] and "Wrong answer" in told[0][0]
    assert len({tuple(one) for one in told}) > 1  # other samples hear of other problems
    public = next(iter(DOUBLE.public_tests)).model_dump()["input"].strip()
    assert all(f"    {public}\n" not in text for one in told for text in one)


@asynchronous
async def test_where_the_context_is_full_it_ends_and_its_last_program_counts(play: Play) -> None:
    sample = await play.whole([PUBLIC, WRONG], turns=2, mode="none", context=60)
    assert (sample.ending, worth(sample), sample.turns[0].feedback) == ("context", [(True, False)], "")
    assert sample.verdict.outcome is Outcome.FAILURE


@asynchronous
async def test_what_our_own_machinery_failed_to_judge_is_no_sample(play: Play) -> None:
    class Broken:
        """Judges public tests, and loses every process on the others."""

        def submit(self, request: JudgeRequest) -> Future[Judged]:
            if request.tests == "public":
                return pool.submit(request)
            done = Future[Judged]()
            verdict = infrastructure(request.problem.id, 2, "a judging process was lost")
            done.set_result(Judged(verdict.outcome, as_line(verdict)))
            return done

    pool, play.pool = play.pool, Broken()  # type: ignore[assignment]
    for mode in ("tests", "none"):
        found = await play([RIGHT, RIGHT], turns=2, mode=mode)
        assert isinstance(found, Verdict) and found.outcome is Outcome.INFRASTRUCTURE

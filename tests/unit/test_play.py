"""An episode is played to its end: who is asked what, in which order, and that our own faults leave nothing of it."""

from __future__ import annotations

import pytest
from asynchronous import asynchronous

from actors.engine.protocol import Completion, EngineError
from actors.episode import Episode, Rules
from actors.play import Player, Tests, play
from executor.problem import Problem, StdioTest
from executor.verdict import Outcome, Verdict, no_code

PUBLIC, PRIVATE = StdioTest(input="1", output="1"), StdioTest(input="2", output="2")
PROBLEM = Problem(id="p", prompt="?", kind="stdio", public_tests=[PUBLIC], private_tests=[PRIVATE])
RULES = Rules(max_turns=3, max_tokens=100, max_response_tokens=4)


class House:
    """Answers as told: what the policy says, and what becomes of it under public and under all tests."""

    def __init__(self, *turns: tuple[str, Outcome, Outcome]) -> None:
        self.turns, self.asked = list(turns), list[str]()
        self.prompts: list[list[int]] = []
        self.turn = -1

    def player(self) -> Player:
        return Player(self.generate, self.decode, self.judge, self.feedback_ids)

    async def generate(self, token_ids: list[int]) -> Completion:
        self.turn += 1
        self.prompts.append(token_ids)
        return Completion([50 + self.turn, 1], [-1.0, -1.0], [0, 0], "stop")

    def decode(self, token_ids: list[int]) -> str:
        return self.turns[self.turn][0]

    async def judge(self, problem: Problem, program: str | None, tests: Tests) -> Verdict:
        self.asked.append(f"{tests} {program}")
        if program is None:
            return no_code("p", 1)
        _, public, everything = self.turns[self.turn]
        return Verdict(problem_id="p", outcome=public if tests == "public" else everything)

    def feedback_ids(
        self, problem: Problem, program: str | None, verdict: Verdict, last_token: int | None
    ) -> list[int]:
        self.asked.append(f"feedback on {verdict.outcome.value} after {last_token}")
        return [60, 61]


def code(text: str) -> str:
    return f"```python\n{text}\n```"


@asynchronous
async def test_feedback_until_the_public_tests_pass_then_all_tests_once() -> None:
    wrong, right = (code("a"), Outcome.FAILURE, Outcome.FAILURE), (code("b"), Outcome.PASS, Outcome.FAILURE)
    house = House(wrong, right)
    episode = await play(PROBLEM, [5], RULES, house.player())
    assert isinstance(episode, Episode)
    assert house.asked == ["public a\n", "feedback on failure after 1", "public b\n", "all b\n"]
    assert house.prompts == [[5], [5, 50, 1, 60, 61]], "the engine goes on from what was sampled"
    trajectory = episode.trajectory()
    assert trajectory.ending == "public_tests" and not trajectory.passed, "private tests decide"


@asynchronous
async def test_the_last_turn_meets_all_tests_at_once() -> None:
    house = House(*[(code(name), Outcome.ERROR, Outcome.ERROR) for name in "abc"])
    await play(PROBLEM, [5], RULES, house.player(), final_tests="private")
    assert [asked for asked in house.asked if "feedback" not in asked] == ["public a\n", "public b\n", "private c\n"]


@asynchronous
async def test_a_response_without_code_is_told_so_and_may_be_mended() -> None:
    house = House(("no", Outcome.PASS, Outcome.PASS), (code("b"), Outcome.PASS, Outcome.PASS))
    episode = await play(PROBLEM, [5], RULES, house.player())
    assert isinstance(episode, Episode) and episode.trajectory().passed
    assert house.asked[:2] == ["public None", "feedback on no_code after 1"]


@asynchronous
async def test_without_public_tests_there_is_one_turn() -> None:
    house = House((code("a"), Outcome.FAILURE, Outcome.FAILURE))
    bare = PROBLEM.model_copy(update={"public_tests": []})
    await play(bare, [5], RULES, house.player())
    assert house.asked == ["all a\n"]


@asynchronous
async def test_without_room_for_another_response_the_answer_stands() -> None:
    house = House((code("a"), Outcome.FAILURE, Outcome.FAILURE))
    episode = await play(PROBLEM, [5], Rules(3, 8, 4), house.player())
    assert isinstance(episode, Episode) and episode.trajectory().ending == "context"
    assert house.asked == ["public a\n", "feedback on failure after 1", "all a\n"]


@pytest.mark.parametrize("where", ["public", "all"])
@asynchronous
async def test_what_we_could_not_judge_leaves_nothing(where: str) -> None:
    broken = Outcome.INFRASTRUCTURE
    turn = (code("b"), broken, Outcome.PASS) if where == "public" else (code("b"), Outcome.PASS, broken)
    house = House((code("a"), Outcome.FAILURE, Outcome.FAILURE), turn)
    found = await play(PROBLEM, [5], RULES, house.player())
    assert isinstance(found, Verdict) and found.outcome is broken


@asynchronous
async def test_an_engine_that_dies_in_a_later_turn_ends_the_episode() -> None:
    house = House((code("a"), Outcome.FAILURE, Outcome.FAILURE))

    async def generate(token_ids: list[int]) -> Completion:
        if house.turn >= 0:
            raise EngineError("gone")
        return await house.generate(token_ids)

    player = Player(generate, house.decode, house.judge, house.feedback_ids)
    with pytest.raises(EngineError, match="gone"):
        await play(PROBLEM, [5], RULES, player)

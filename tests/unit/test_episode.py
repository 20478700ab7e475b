"""An episode appends and never rewrites, ends when it must, and refuses a step out of order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trajectories import verdict

from actors.episode import Episode, Phase, Rules, reference_trajectory
from buffer.trajectory import CreditSpan
from executor.verdict import Outcome

SINGLE = Rules(max_turns=1, max_tokens=100, max_response_tokens=10)
TOKENS = st.lists(st.integers(0, 99), min_size=1, max_size=5)


def respond(episode: Episode, tokens: list[int], version: int = 0) -> None:
    episode.respond(tokens, [-0.5] * len(tokens), [version] * len(tokens), "text", "stop")


def test_one_turn() -> None:
    episode = Episode("p", [1, 2, 3], SINGLE)
    respond(episode, [4, 5], version=7)
    assert episode.phase is Phase.JUDGE_ALL
    episode.judge(verdict("error"))
    span = CreditSpan(start=3, end=4, value=-0.3)
    episode.score(0, -0.6, {"coarse": -0.6}, [span])
    trajectory = episode.trajectory()
    assert trajectory.token_ids == [1, 2, 3, 4, 5]
    assert trajectory.log_probs == [0.0, 0.0, 0.0, -0.5, -0.5]
    assert trajectory.policy_versions == [-1, -1, -1, 7, 7]
    assert trajectory.loss_mask == [0, 0, 0, 1, 1]
    assert (trajectory.ending, trajectory.reward) == ("turns", -0.6)
    (turn,) = trajectory.turns
    assert (turn.start, turn.end, turn.reward, turn.spans) == (3, 5, -0.6, [span])
    assert turn.verdict == verdict("error")


class Episodes(RuleBasedStateMachine):
    """Any course that an episode can take, beside a model of what it must hold."""

    @initialize(
        turns=st.integers(1, 5), room=st.integers(6, 40), stop=st.booleans(), public=st.booleans(), prompt=TOKENS
    )
    def begin(self, turns: int, room: int, stop: bool, public: bool, prompt: list[int]) -> None:
        self.bounds = Rules(turns, room, max_response_tokens=5, stop_on_public=stop)
        self.public = public
        self.episode = Episode("p", prompt, self.bounds, has_public_tests=public)
        self.ids, self.mask, self.starts = list(prompt), [0] * len(prompt), list[int]()
        self.verdicts: list[Outcome] = []
        self.full = False

    def _phase(self) -> Phase:
        return self.episode.phase

    @precondition(lambda self: self._phase() is Phase.GENERATE)
    @rule(tokens=TOKENS)
    def respond(self, tokens: list[int]) -> None:
        self.starts.append(len(self.ids))
        respond(self.episode, tokens, version=len(self.starts))
        self.ids, self.mask = self.ids + tokens, self.mask + [1] * len(tokens)
        self.verdicts.append(Outcome.INFRASTRUCTURE)
        last = len(self.starts) == self.bounds.max_turns or not self.public
        assert self._phase() is (Phase.JUDGE_ALL if last else Phase.JUDGE_PUBLIC)

    @precondition(lambda self: self._phase() is Phase.JUDGE_PUBLIC)
    @rule(outcome=st.sampled_from([Outcome.PASS, Outcome.FAILURE, Outcome.NO_CODE]))
    def public_tests(self, outcome: Outcome) -> None:
        self.episode.judge(verdict(outcome))
        self.verdicts[-1] = outcome
        ends = outcome is Outcome.PASS and self.bounds.stop_on_public
        assert self._phase() is (Phase.JUDGE_ALL if ends else Phase.OBSERVE)

    @precondition(lambda self: self._phase() is Phase.OBSERVE)
    @rule(tokens=TOKENS)
    def observe(self, tokens: list[int]) -> None:
        self.episode.observe(tokens)
        if len(self.ids) + len(tokens) + 5 > self.bounds.max_tokens:
            self.full = True
            assert self._phase() is Phase.JUDGE_ALL
        else:
            self.ids, self.mask = self.ids + tokens, self.mask + [0] * len(tokens)
            assert self._phase() is Phase.GENERATE

    @precondition(lambda self: self._phase() is Phase.JUDGE_ALL)
    @rule(outcome=st.sampled_from([Outcome.PASS, Outcome.FAILURE]))
    def all_tests(self, outcome: Outcome) -> None:
        by_public = not self.full and len(self.starts) < self.bounds.max_turns and self.public
        self.episode.judge(verdict(outcome))
        self.verdicts[-1] = outcome
        trajectory = self.episode.trajectory()
        assert (trajectory.token_ids, trajectory.loss_mask) == (self.ids, self.mask)
        assert trajectory.ending == ("context" if self.full else "public_tests" if by_public else "turns")
        assert [turn.start for turn in trajectory.turns] == self.starts
        assert [turn.verdict and turn.verdict.outcome for turn in trajectory.turns] == self.verdicts
        for number, turn in enumerate(trajectory.turns, 1):
            assert set(trajectory.policy_versions[turn.start : turn.end]) == {number}
            assert all(trajectory.loss_mask[turn.start : turn.end])
        assert self.episode.trajectory("greedy").loss_mask == [0] * len(self.ids)

    @precondition(lambda self: self._phase() is Phase.DONE)
    @rule(data=st.data(), reward=st.floats(-1, 1))
    def score(self, data: st.DataObject, reward: float) -> None:
        turn = data.draw(st.integers(0, len(self.starts) - 1))
        self.episode.score(turn, reward, {"outcome": reward}, [])
        assert self.episode.trajectory().turns[turn].reward == reward

    @invariant()
    def nothing_is_taken_back(self) -> None:
        if hasattr(self, "episode"):
            assert self.episode.token_ids == self.ids
            assert 0 <= len(self.episode.turns) <= self.bounds.max_turns

    @invariant()
    def what_is_not_asked_for_is_refused(self) -> None:
        if not hasattr(self, "episode"):
            return
        phase = self._phase()
        if phase is not Phase.GENERATE:
            with pytest.raises(ValueError, match="waits for"):
                respond(self.episode, [1])
        if phase is not Phase.OBSERVE:
            with pytest.raises(ValueError, match="waits for"):
                self.episode.observe([1])
        if phase not in (Phase.JUDGE_PUBLIC, Phase.JUDGE_ALL):
            with pytest.raises(ValueError, match="waits for"):
                self.episode.judge(verdict())
        if phase is not Phase.DONE:
            with pytest.raises(ValueError, match="waits for"):
                self.episode.trajectory()
            with pytest.raises(ValueError, match="waits for"):
                self.episode.score(0, 0.0, {}, [])


TestEpisodes = Episodes.TestCase
TestEpisodes.settings = settings(max_examples=300, stateful_step_count=20)


def test_what_is_handed_out_cannot_change_the_episode() -> None:
    prompt = [1, 2]
    episode = Episode("p", prompt, SINGLE)
    prompt.append(9)
    episode.token_ids.append(9)
    episode.turns.append(None)  # type: ignore[arg-type]
    assert (episode.token_ids, episode.turns) == ([1, 2], [])


def test_a_response_may_fill_the_context_to_the_last_token() -> None:
    rules = Rules(max_turns=2, max_tokens=10, max_response_tokens=3)
    for feedback, phase in (([0, 0], Phase.GENERATE), ([0, 0, 0], Phase.JUDGE_ALL)):
        episode = Episode("p", [1, 2], rules)
        respond(episode, [3, 4, 5])
        episode.judge(verdict("failure"))
        episode.observe(feedback)
        assert episode.phase is phase


def test_a_reference_is_trained_on_and_sampled_by_nobody() -> None:
    trajectory = reference_trajectory("p", [1, 2], [3, 4, 5])
    assert trajectory.role == "reference"
    assert trajectory.loss_mask == [0, 0, 1, 1, 1]
    assert set(trajectory.policy_versions) == {-1}

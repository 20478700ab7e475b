"""An episode appends and never rewrites, and refuses a step out of order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trajectories import verdict

from actors.episode import Episode, reference_trajectory
from buffer.trajectory import CreditSpan


def respond(episode: Episode, tokens: list[int], version: int = 0) -> int:
    return episode.respond(tokens, [-0.5] * len(tokens), [version] * len(tokens), "text", "stop")


def score(episode: Episode, reward: float = 0.0) -> None:
    episode.score(verdict("failure", 1), reward, {"coarse": reward}, [])


def test_one_turn() -> None:
    episode = Episode("p", [1, 2, 3])
    assert respond(episode, [4, 5], version=7) == 3
    span = CreditSpan(start=3, end=4, value=-0.3)
    episode.score(verdict("error"), -0.6, {"coarse": -0.6}, [span])
    trajectory = episode.trajectory()
    assert trajectory.token_ids == [1, 2, 3, 4, 5]
    assert trajectory.log_probs == [0.0, 0.0, 0.0, -0.5, -0.5]
    assert trajectory.policy_versions == [-1, -1, -1, 7, 7]
    assert trajectory.loss_mask == [0, 0, 0, 1, 1]
    (turn,) = trajectory.turns
    assert (turn.start, turn.end, turn.reward, turn.spans) == (3, 5, -0.6, [span])
    assert turn.verdict == verdict("error")


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 99), min_size=1, max_size=5), st.lists(st.integers(0, 99), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_tokens_are_only_ever_appended_and_only_responses_are_trained_on(
    turns: list[tuple[list[int], list[int]]],
) -> None:
    episode = Episode("p", [7])
    expected, mask, starts = [7], [0], []
    for number, (response, feedback) in enumerate(turns):
        before = episode.token_ids
        starts.append(respond(episode, response, version=number))
        score(episode, 0.25)
        assert episode.token_ids[: len(before)] == before
        expected, mask = expected + response, mask + [1] * len(response)
        if number < len(turns) - 1:
            episode.observe(feedback)
            expected, mask = expected + feedback, mask + [0] * len(feedback)
        assert episode.token_ids == expected
    trajectory = episode.trajectory()
    assert (trajectory.token_ids, trajectory.loss_mask) == (expected, mask)
    assert episode.turns == len(turns)
    assert [turn.start for turn in trajectory.turns] == starts
    for number, (turn, (response, _)) in enumerate(zip(trajectory.turns, turns, strict=True)):
        assert trajectory.token_ids[turn.start : turn.end] == response
        assert set(trajectory.policy_versions[turn.start : turn.end]) == {number}
    assert trajectory.reward == pytest.approx(0.25 * len(turns))


def test_what_is_handed_out_cannot_change_the_episode() -> None:
    prompt = [1, 2]
    episode = Episode("p", prompt)
    prompt.append(9)
    episode.token_ids.append(9)
    assert episode.token_ids == [1, 2]


def test_steps_out_of_order_are_refused() -> None:
    episode = Episode("p", [1])
    with pytest.raises(ValueError, match="no response waits"):
        score(episode)
    with pytest.raises(ValueError, match="follows a scored response"):
        episode.observe([5])
    with pytest.raises(ValueError, match="not finished"):
        episode.trajectory()
    respond(episode, [2])
    with pytest.raises(ValueError, match="no verdict yet"):
        respond(episode, [3])
    with pytest.raises(ValueError, match="follows a scored response"):
        episode.observe([5])
    with pytest.raises(ValueError, match="not finished"):
        episode.trajectory()
    score(episode)
    with pytest.raises(ValueError, match="no response waits"):
        score(episode)
    assert episode.trajectory().token_ids == [1, 2]


def test_a_greedy_episode_is_never_trained_on() -> None:
    episode = Episode("p", [1])
    respond(episode, [2, 3])
    score(episode)
    assert episode.trajectory("greedy").loss_mask == [0, 0, 0]
    assert episode.trajectory().loss_mask == [0, 1, 1]


def test_a_reference_is_trained_on_without_a_policy_version() -> None:
    trajectory = reference_trajectory("p", [1, 2], [3, 4, 5])
    assert trajectory.role == "reference"
    assert trajectory.token_ids == [1, 2, 3, 4, 5]
    assert trajectory.loss_mask == [0, 0, 1, 1, 1]
    assert trajectory.policy_versions == [-1] * 5
    assert trajectory.turns == []

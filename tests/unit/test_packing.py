"""Packing promises that nobody can tell: the same log-probabilities and gradients as one trajectory at a time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trajectories import reference, sampled

from buffer.trajectory import NOT_SAMPLED, Trajectory
from learner import segment_attention
from learner.model import Policy
from learner.packing import PackedSequence, WeightedTrajectory, pack, shared_prefix

Groups = list[list[WeightedTrajectory]]


def weighted(trajectory: Trajectory, advantage: float = 1.0) -> WeightedTrajectory:
    return WeightedTrajectory(trajectory, [advantage * m for m in trajectory.loss_mask])


def tokens(length: int, seed: int) -> list[int]:
    return torch.randint(2, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


PROMPT, OTHER = tokens(12, 1), tokens(7, 2)
TWO_GROUPS: Groups = [
    [
        weighted(sampled(PROMPT, tokens(9, 3)), 1.0),
        weighted(sampled(PROMPT, tokens(4, 4)), -0.5),
        weighted(sampled(PROMPT, tokens(1, 5)), 2.0),
        weighted(reference(PROMPT, tokens(15, 6)), 0.3),
        weighted(sampled(PROMPT[:8] + tokens(3, 7), tokens(5, 8)), 0.7),  # says something else before it answers
    ],
    [weighted(sampled(OTHER, tokens(6, 9)), 0.9), weighted(sampled(OTHER, tokens(6, 9)), -1.0)],  # the same twice
]


def alone(policy: Policy, trajectory: Trajectory) -> Tensor:
    """Log-probabilities of a trajectory's trained tokens, from a plain forward pass over it and nothing else."""
    ids = torch.tensor([trajectory.token_ids], device=policy.device)
    scores = policy.module(ids).logits[0, :-1].float().log_softmax(-1)
    every = scores.gather(1, ids[0, 1:, None])[:, 0]
    return every[torch.tensor(trajectory.loss_mask[1:], device=policy.device).bool()]


@pytest.fixture(scope="module", params=[segment_attention.NAME, "sdpa", "eager"])
def policy(model_folder: Path, request: pytest.FixtureRequest) -> Policy:
    made = Policy(model_folder, autocast=None, temperature=1.0)
    assert segment_attention.segmented(made.module), "what can compute by segments does"
    made.module.set_attn_implementation(request.param)  # the others are for models that cannot
    return made


# 200 holds all in one sequence; 40 splits the first group; 28 is the longest trajectory with nothing beside it.
@pytest.mark.parametrize("max_tokens, sequences", [(200, 1), (40, 3), (28, 5)])
def test_packed_log_probabilities_are_those_of_each_trajectory_alone(
    policy: Policy, max_tokens: int, sequences: int
) -> None:
    packed = pack(TWO_GROUPS, max_tokens)
    assert len(packed) == sequences
    seen = 0
    with torch.no_grad():
        for sequence in packed:
            together = policy.predict(sequence)[0]
            one_by_one = torch.cat([alone(policy, member.trajectory) for member in sequence.members])
            torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=0)
            seen += len(together)
    assert seen == sum(m.trained_tokens for g in TWO_GROUPS for m in g)


def gradients(policy: Policy, losses: list[Tensor]) -> list[Tensor]:
    policy.module.zero_grad()
    for loss in losses:
        loss.backward()
    return [p.grad.clone() for p in policy.module.parameters() if p.grad is not None]


@pytest.mark.parametrize("max_tokens", [200, 40])
def test_packed_gradients_are_those_of_each_trajectory_alone(policy: Policy, max_tokens: int) -> None:
    packed = gradients(
        policy, [-(torch.tensor(s.advantages) * policy.predict(s)[0]).sum() for s in pack(TWO_GROUPS, max_tokens)]
    )
    single = gradients(
        policy,
        [
            -(
                torch.tensor([a for a, m in zip(w.advantages, w.trajectory.loss_mask, strict=True) if m])
                * alone(policy, w.trajectory)
            ).sum()
            for g in TWO_GROUPS
            for w in g
        ],
    )
    assert len(packed) == len(single) == len(list(policy.module.parameters()))
    for one, other in zip(packed, single, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_prompt_is_computed_once_a_group() -> None:
    (sequence,) = pack([TWO_GROUPS[1]], 100)
    assert len(sequence) == len(OTHER) + 2 * 6
    assert shared_prefix([m.trajectory for m in TWO_GROUPS[0]]) == 8


def test_trained_tokens_are_never_shared_though_they_agree() -> None:
    twins = [m.trajectory for m in TWO_GROUPS[1]]
    assert twins[0].token_ids == twins[1].token_ids
    assert shared_prefix(twins) == len(OTHER)


def test_nothing_to_train_on_is_left_out() -> None:
    greedy = weighted(sampled(PROMPT, [5, 6], role="greedy"))
    (sequence,) = pack([[greedy, weighted(sampled(PROMPT, [7]))], [greedy]], 100)
    assert sequence.targets == [7]
    assert len(sequence) == len(PROMPT) + 1


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="20 tokens does not fit into 19"):
        pack([[weighted(sampled(PROMPT, tokens(8, 1)))]], 19)
    with pytest.raises(ValueError, match="first token"):
        pack([[weighted(sampled([], [3, 4]))]], 100)


@st.composite
def groups_of_trajectories(draw: st.DrawFn) -> Groups:
    """Groups with few different tokens, so that prefixes agree by chance too, and any loss mask that may be."""
    made: Groups = []
    for _ in range(draw(st.integers(1, 4))):
        prompt = draw(st.lists(st.integers(0, 2), min_size=1, max_size=6))
        members = []
        for _ in range(draw(st.integers(1, 5))):
            rest = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=8))
            mask = [0] * len(prompt) + [m for _, m in rest]
            supervised = draw(st.booleans())
            trajectory = Trajectory(
                problem_id="p",
                role="reference" if supervised else "sampled",
                token_ids=prompt + [t for t, _ in rest],
                log_probs=[-0.5 * i for i in range(len(mask))],
                policy_versions=[NOT_SAMPLED if supervised or not m else 3 for m in mask],
                loss_mask=mask,
            )
            members.append(WeightedTrajectory(trajectory, [float(i) for i in range(len(mask))]))
        made.append(members)
    return made


def visible(sequence: PackedSequence, mask: Tensor, row: int) -> list[int]:
    """The tokens that `row` sees, in the order of their positions."""
    columns = [i for i in range(len(sequence)) if mask[row, i]]
    columns.sort(key=lambda i: sequence.positions[i])
    assert [sequence.positions[i] for i in columns] == list(range(len(columns)))
    return [sequence.token_ids[i] for i in columns]


@given(groups_of_trajectories(), st.integers(14, 60))
@settings(max_examples=100)
def test_every_trained_token_comes_once_and_is_predicted_from_its_own_trajectory(
    groups: Groups, max_tokens: int
) -> None:
    packed = pack(groups, max_tokens)
    assert Counter(id(m) for s in packed for m in s.members) == Counter(
        id(m) for g in groups for m in g if m.trained_tokens
    )
    for sequence in packed:
        assert len(sequence) <= max_tokens
        mask = sequence.attention_mask()[0, 0]
        expected = [(m, i) for m in sequence.members for i, trained in enumerate(m.trajectory.loss_mask) if trained]
        columns = (
            sequence.predictors,
            sequence.targets,
            sequence.behaviour_log_probs,
            sequence.advantages,
            sequence.supervised,
            sequence.trajectory_lengths,
        )
        assert {len(column) for column in columns} == {len(expected)}
        for (member, index), predictor, target, log_prob, advantage, supervised, length in zip(
            expected, *columns, strict=True
        ):
            trajectory = member.trajectory
            assert target == trajectory.token_ids[index]
            assert sequence.token_ids[predictor] == trajectory.token_ids[index - 1]
            assert visible(sequence, mask, predictor) == trajectory.token_ids[:index]
            assert (log_prob, advantage) == (trajectory.log_probs[index], member.advantages[index])
            assert supervised == (trajectory.role == "reference")
            assert length == member.trained_tokens

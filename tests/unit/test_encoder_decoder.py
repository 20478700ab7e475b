"""The learner on an encoder-decoder and on CodeGen: right log-probabilities for the same trajectories."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from trajectories import reference, sampled

from actors.episode import Episode, Rules
from buffer.trajectory import Trajectory
from executor.errors import UserError
from executor.verdict import no_code
from learner.encoder_decoder import response_logits
from learner.model import Policy
from learner.packing import WeightedTrajectory, pack

PROMPT, OTHER = [5, 9, 200, 31, 44], [77, 8]
TRAJECTORIES = [
    sampled(PROMPT, [120, 44, 61, 7, 1]),
    sampled(PROMPT, [90, 1]),
    reference(PROMPT, [12, 13, 14]),
    sampled(OTHER, [15, 16, 17, 18, 19, 20, 1]),
]


def weighted(trajectory: Trajectory) -> WeightedTrajectory:
    """Each token worth its own id, so that one in another's place shows."""
    return WeightedTrajectory(
        trajectory, [float(t * m) for t, m in zip(trajectory.token_ids, trajectory.loss_mask, strict=True)]
    )


def alone(policy: Policy, trajectory: Trajectory) -> list[float]:
    """The response's log-probabilities as the model's own loss has them, one trajectory and nothing else."""
    start = trajectory.loss_mask.index(1)
    prompt, said = (torch.tensor([part]) for part in (trajectory.token_ids[:start], trajectory.token_ids[start:]))
    with torch.no_grad():
        logits = policy.module(input_ids=prompt, labels=said).logits[0]
    return logits.log_softmax(-1).gather(1, said[0][:, None])[:, 0].tolist()


def test_each_token_gets_its_log_probability_and_its_own_advantage(t5_folder: Path) -> None:
    policy = Policy(t5_folder, autocast=None, temperature=1.0)
    for sequence in pack([[weighted(t) for t in TRAJECTORIES[:3]], [weighted(TRAJECTORIES[3])]], 64):
        log_probs = policy.predict(sequence)[0].tolist()
        expected = [value for member in sequence.members for value in alone(policy, member.trajectory)]
        assert log_probs == pytest.approx(expected, abs=2e-5)
        trained = [
            token
            for member in sequence.members
            for token, mask in zip(member.trajectory.token_ids, member.trajectory.loss_mask, strict=True)
            if mask
        ]
        assert sequence.targets == trained
        assert sequence.advantages == [float(token) for token in trained]
        assert len(log_probs) == len(sequence.supervised)


def test_log_probabilities_are_those_at_the_sampling_temperature(t5_folder: Path) -> None:
    (sequence,) = pack([[weighted(TRAJECTORIES[0])]], 64)
    logits = response_logits(Policy(t5_folder, autocast=None, temperature=1.0).module, TRAJECTORIES[:1])
    expected = (logits / 0.6).log_softmax(-1)[range(5), sequence.targets].tolist()
    cooled = Policy(t5_folder, autocast=None, temperature=0.6).predict(sequence)[0].tolist()
    assert cooled == pytest.approx(expected, abs=2e-5)


def test_nothing_is_dropped_out(other_model_folder: Path) -> None:
    policy = Policy(other_model_folder, autocast=None, temperature=1.0)
    (sequence,) = pack([[weighted(TRAJECTORIES[0])]], 64)
    assert torch.equal(policy.predict(sequence)[0], policy.predict(sequence)[0])
    policy.predict(sequence)[0].sum().backward()
    assert all(p.grad is not None for p in policy.module.parameters())


def test_several_turns_are_refused_in_a_line(t5_folder: Path) -> None:
    episode = Episode("twice", PROMPT, Rules(max_turns=2, max_tokens=99, max_response_tokens=2))
    for number in range(2):
        episode.respond([10, 11], [-1.0, -1.0], [0, 0], "", "stop")
        episode.judge(no_code("twice", 1, 0))
        if not number:
            episode.observe([30, 31])
    (sequence,) = pack([[weighted(episode.trajectory())]], 64)
    with pytest.raises(UserError, match=r"'twice': an encoder-decoder learns from one turn.*rollout\.max_turns=1"):
        Policy(t5_folder, autocast=None, temperature=1.0).predict(sequence)[0]


def test_a_packed_sequence_means_the_same_to_a_model_that_adds_its_mask(codegen_folder: Path) -> None:
    policy = Policy(codegen_folder, autocast=None, temperature=1.0)
    (sequence,) = pack([[weighted(t) for t in TRAJECTORIES[:3]], [weighted(TRAJECTORIES[3])]], 64)
    expected = []
    for member in sequence.members:
        ids, start = torch.tensor(member.trajectory.token_ids), member.trajectory.loss_mask.index(1)
        with torch.no_grad():
            scores = policy.module(ids[None]).logits[0, :-1].log_softmax(-1)
        expected += scores.gather(1, ids[1:, None])[start - 1 :, 0].tolist()
    assert policy.predict(sequence)[0].tolist() == pytest.approx(expected, abs=2e-5)

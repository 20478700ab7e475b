"""The policy's numbers: the distribution that was sampled from, the checkpoint's names, the engine's rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from trajectories import reference, sampled

from learner.model import Policy
from learner.packing import WeightedTrajectory, pack

TOKENS = [5, 9, 200, 31, 77, 8, 120]


def make(folder: Path, temperature: float = 1.0, autocast: torch.dtype | None = None) -> Policy:
    return Policy(folder, autocast=autocast, temperature=temperature)


def plain_scores(policy: Policy, temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        logits = policy.module(torch.tensor([TOKENS])).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(TOKENS[1:])[:, None])[:, 0]


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_log_probabilities_are_those_at_the_sampling_temperature(model_folder: Path, temperature: float) -> None:
    policy = make(model_folder, temperature)
    trajectory = sampled(TOKENS[:3], TOKENS[3:])
    (sequence,) = pack([[WeightedTrajectory(trajectory, [1.0] * len(TOKENS))]], 100)
    torch.testing.assert_close(
        policy.predict(sequence)[0].detach(), plain_scores(policy, temperature)[2:], atol=1e-5, rtol=0
    )


def test_a_reference_is_scored_at_temperature_one_beside_samples_that_are_not(model_folder: Path) -> None:
    policy = make(model_folder, 0.6)
    members = [WeightedTrajectory(made(TOKENS[:3], TOKENS[3:]), [1.0] * len(TOKENS)) for made in (sampled, reference)]
    (sequence,) = pack([members], 100)
    expected = torch.cat([plain_scores(policy, temperature)[2:] for temperature in (0.6, 1.0)])
    torch.testing.assert_close(policy.predict(sequence)[0].detach(), expected, atol=1e-5, rtol=0)


def test_autocast_changes_matrix_products_and_no_weight(model_folder: Path) -> None:
    policy = make(model_folder, autocast=torch.bfloat16)
    (sequence,) = pack([[WeightedTrajectory(sampled(TOKENS[:3], TOKENS[3:]), [1.0] * len(TOKENS))]], 100)
    log_probs = policy.predict(sequence)[0]
    assert log_probs.dtype == torch.float32
    assert {p.dtype for p in policy.module.parameters()} == {torch.float32}
    exact = plain_scores(policy)[2:]
    assert 0 < float((log_probs.detach() - exact).abs().max()) < 0.5


def test_score_is_at_temperature_one(model_folder: Path) -> None:
    policy = make(model_folder, temperature=0.6)
    (scores,) = policy.score([TOKENS], torch.float32)
    assert scores == pytest.approx(plain_scores(policy).tolist(), abs=1e-5)


def test_score_rounds_the_weights_as_an_engine_holds_them(model_folder: Path) -> None:
    policy = make(model_folder)
    (before,) = policy.score([TOKENS], torch.bfloat16)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter *= 1 + 1e-5  # less than half of bfloat16's spacing, from weights that bfloat16 holds exactly
    assert policy.score([TOKENS], torch.bfloat16) == [before]
    assert policy.score([TOKENS], torch.float32) != [before]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_engines_get_the_names_of_the_checkpoint_and_no_tied_head(model_folder: Path, dtype: torch.dtype) -> None:
    policy = make(model_folder)
    state = dict(policy.state_for_engine(dtype))
    (weights,) = model_folder.glob("*.safetensors")
    with safe_open(weights, framework="pt") as checkpoint:
        assert set(state) == set(checkpoint.keys())
        for name, tensor in state.items():
            assert tensor.dtype == dtype
            assert torch.equal(tensor.float(), checkpoint.get_tensor(name).float())
    assert "lm_head.weight" not in state

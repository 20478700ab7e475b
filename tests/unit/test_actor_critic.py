"""A learner with a critic and a reference policy: what they estimate, that they learn, and that both survive a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learners import learner_settings
from trajectories import dialogue, group, sampled

from buffer.trajectory import Group, Trajectory
from executor.errors import UserError
from executor.verdict import Outcome
from learner.estimates import Estimator, critic_metrics
from learner.packing import WeightedTrajectory
from learner.worker import Learner

PROMPT = [0, 70, 71, 72]
Make = Callable[..., Learner]


def episodes(problem: int) -> list[Trajectory]:
    """One that a second try saves, and one that comes to nothing."""
    prompt = [*PROMPT, problem]
    saved = dialogue(prompt, [([], [80, 81]), ([60, 61], [82, 83, 1])], [0.0, 1.0], outcome=Outcome.PASS)
    lost = dialogue(prompt, [([], [90, 91, 1]), ([60, 62], [92, 1])], [-0.2, -1.0])
    return [saved, lost]


def batch() -> list[Group]:
    return [group(*episodes(40 + n), group_id=n) for n in range(4)]


@pytest.fixture
def make(model_folder: Path, tmp_path: Path) -> Iterator[Make]:
    made: list[Learner] = []

    def build(resume: str | None = None, **changes: Any) -> Learner:
        folder = tmp_path / f"run{len(made)}"
        (folder / "trajectories").mkdir(parents=True)
        mine = {"algorithm": "rlef", "loss": {"value_learning_rate": 1e-3}, "micro_batch_tokens": 64, **changes}
        settings = learner_settings(model_folder, folder, **mine)
        made.append(Learner(settings, resume))
        return made[-1]

    yield build
    for learner in made:
        learner.close()


def with_own_log_probs(learner: Learner, groups: list[Group]) -> list[Group]:
    """The groups as if the learner's own policy had sampled them."""
    estimates = Estimator(learner._policy, None, None, True, 64)([g.trajectories for g in groups], lambda: False)
    assert estimates is not None
    return [
        g.model_copy(
            update={
                "trajectories": [
                    t.model_copy(update={"log_probs": estimates[id(t)]["old_log_probs"]}) for t in g.trajectories
                ]
            }
        )
        for g in groups
    ]


def test_at_first_the_policy_is_the_reference_and_the_critic_expects_next_to_nothing(make: Make) -> None:
    learner = make()
    metrics = learner.step(1, with_own_log_probs(learner, batch()), 0)
    assert metrics is not None
    assert metrics["reference_divergence"] == pytest.approx(0, abs=1e-5)
    assert abs(metrics["value_mean"]) < 0.1
    assert metrics["return_mean"] == pytest.approx((1 + 1 - 1.2 - 1) / 4)
    moved = learner.step(2, with_own_log_probs(learner, batch()), 0)
    assert moved is not None and moved["reference_divergence"] != pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("network", ["own", "shared"])
@pytest.mark.parametrize("value", ["turn", "token"])
def test_the_critic_comes_to_explain_returns(make: Make, network: str, value: str) -> None:
    loss = {"value": value, "value_network": network, "value_learning_rate": 1e-2, "value_clip": 0.0}
    learner = make(loss=loss, learning_rate=1e-5 if network == "own" else 3e-3)
    explained = []
    for step in range(1, 21):
        metrics = learner.step(step, batch(), 0)
        assert metrics is not None
        explained.append(metrics["value_explained"])
    # The first turn's prompt is the same for a good and a bad episode, the second's tells them apart.
    assert explained[0] < 0.05 and explained[-1] > 0.3


@pytest.mark.parametrize("value", ["turn", "token", "group"])
def test_what_leads_to_a_pass_becomes_likelier(make: Make, value: str) -> None:
    learner = make(loss={"value": value, "reference_penalty": 0.0})

    def likelihood(trajectory: Trajectory, turn: int) -> float:
        (scores,) = learner.score([trajectory.token_ids])
        place = trajectory.turns[turn]
        return sum(scores[place.start - 1 : place.end - 1])

    saved, lost = episodes(40)
    before = [likelihood(saved, 1), likelihood(lost, 1)]
    groups = with_own_log_probs(learner, batch())
    learner.step(1, groups, 0)
    assert likelihood(saved, 1) > before[0]
    assert likelihood(lost, 1) < before[1]


def test_several_updates_a_step_go_on_from_one_old_policy(make: Make) -> None:
    one, four = make(), make(epochs=2, minibatches=2)
    groups = with_own_log_probs(one, batch())
    single, several = one.step(1, groups, 0), four.step(1, groups, 0)
    assert single is not None and several is not None
    assert (single["updates"], several["updates"]) == (1, 4)
    assert several["trained_tokens"] == 2 * single["trained_tokens"]
    assert single["log_prob_mismatch"] == several["log_prob_mismatch"] == pytest.approx(0, abs=1e-5)
    assert single["clipped"] == 0 < several["clipped"], "later updates meet the clip, since the old policy stays"


def test_an_abort_between_updates_keeps_those_that_are_made(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make(epochs=1, minibatches=4)
    step = learner._optimizer.step

    def stepped(*arguments: Any) -> Any:
        learner.abort()
        return step(*arguments)

    monkeypatch.setattr(learner._optimizer, "step", stepped)
    metrics = learner.step(1, batch(), 0)
    assert metrics is not None and metrics["updates"] == 1
    monkeypatch.undo()
    again = learner.step(2, batch(), 0)
    assert again is not None and again["updates"] == 4


def test_an_abort_while_estimating_changes_nothing(make: Make) -> None:
    learner = make()
    before = {name: tensor.clone() for name, tensor in learner._policy.module.state_dict().items()}
    learner.abort()
    assert learner.step(1, batch(), 0) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in learner._policy.module.state_dict().items())


@pytest.mark.parametrize("network", ["own", "shared"])
def test_a_checkpoint_keeps_the_critic_and_the_reference(make: Make, network: str) -> None:
    loss = {"value_network": network}
    learner = make(loss=loss)
    learner.step(1, batch(), 0)
    learner.save(1, b"", {"step": 1}, None, copied=False)
    folder = learner.written()
    resumed = make(resume=folder, loss=loss)
    straight, again = learner.step(2, batch(), 0), resumed.step(2, batch(), 0)
    assert straight is not None and again is not None
    same = {name for name in straight if name != "learner_seconds"}
    assert {name: straight[name] for name in same} == {name: again[name] for name in same}
    assert straight["reference_divergence"] != 0
    with pytest.raises(UserError, match=r"made with a critic: algorithm\.loss\.value cannot change"):
        make(resume=folder, loss={"value": "group"})


def test_the_reference_is_the_published_weights_and_does_not_move(make: Make) -> None:
    learner = make()
    assert learner._reference is not None
    weights = learner._reference.weights_for(learner._policy)
    for name, tensor in learner._policy.module.named_parameters():
        assert torch.equal(weights[name], tensor)
    learner.step(1, batch(), 0)
    after = learner._reference.weights_for(learner._policy)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_an_own_critic_has_weights_of_its_own_and_a_shared_one_only_a_head(make: Make) -> None:
    own, shared = make(), make(loss={"value_network": "shared"})
    assert own._critic is not None and shared._critic is not None
    hidden = own._policy.hidden_size
    assert sum(p.numel() for p in shared._critic.parameters()) == hidden + 1
    policies = {p.data_ptr() for p in own._policy.module.parameters()}
    assert not policies & {p.data_ptr() for p in own._critic.parameters()}


def test_the_log_shows_feedback_as_what_nobody_sampled(make: Make) -> None:
    learner = make()
    learner.step(1, batch(), 0)
    lines = (Path(learner._settings.run_folder) / "trajectories" / "step_000001.jsonl").read_text().splitlines()
    saved = json.loads(lines[0])
    assert [version is None for version in saved["policy_versions"]] == [False] * 2 + [True] * 2 + [False] * 3
    assert len(saved["tokens"]) == len(saved["credits"]) == len(saved["log_probs"]) == 7
    assert saved["credits"][2:4] == [0, 0] and saved["log_probs"][2:4] == [None, None]
    assert [turn["reward"] for turn in saved["turns"]] == [0, 1] and saved["reward"] == 1


def test_explained_variance_is_of_the_places_where_the_critic_learns() -> None:
    trajectory = sampled([1], [2, 3])
    columns = {"values": [0, 1.0, 9.0], "returns": [0, 1.0, 0], "value_mask": [0, 1, 0]}
    other = {"values": [0, 0.0, 9.0], "returns": [0, -1.0, 0], "value_mask": [0, 1, 0]}
    members = [WeightedTrajectory(trajectory, [0.0] * 3, c) for c in (columns, other)]
    found = critic_metrics(members)
    assert found == {"value_mean": 0.5, "return_mean": 0.0, "value_explained": 0.75}
    assert critic_metrics([WeightedTrajectory(trajectory, [0.0] * 3)]) == {}

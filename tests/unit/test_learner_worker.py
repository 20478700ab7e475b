"""A learner step: it follows the advantages, happens once or not at all, and goes on from a checkpoint bit for bit."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from learners import learner_settings
from safetensors import safe_open
from trajectories import group, reference, sampled, verdict

from actors.engine.protocol import EngineSettings
from actors.engine.transformers import start
from buffer.trajectory import Group
from executor.verdict import ErrorInfo
from learner.packing import WeightedTrajectory, pack
from learner.worker import Learner

PROMPT = [0, 70, 71, 72, 73, 74]
GOOD, BAD = [80, 81, 82, 1], [90, 91, 92, 93, 94, 1]
Make = Callable[..., Learner]


def batch() -> list[Group]:
    """Two groups; in each one response passed and one did not."""
    return [
        group(
            sampled([*PROMPT, n], GOOD, {"coarse": 1.0}, outcome="pass"),
            sampled([*PROMPT, n], BAD, {"coarse": -1.0}, outcome="error", version=1),
            sampled([*PROMPT, n], [95, 96], {"coarse": -1.0}, role="greedy"),
            group_id=n,
        )
        for n in (40, 41)
    ]


@pytest.fixture
def make(model_folder: Path, tmp_path: Path) -> Iterator[Make]:
    made: list[Learner] = []

    def build(resume: str | None = None, **changes: Any) -> Learner:
        run_folder = tmp_path / f"run{len(made)}"
        (run_folder / "trajectories").mkdir(parents=True)
        settings = learner_settings(model_folder, run_folder, **changes)
        made.append(Learner(settings, resume))
        return made[-1]

    yield build
    for learner in made:
        learner.close()


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner._policy.module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def response_score(learner: Learner, response: list[int]) -> float:
    (scores,) = learner.score([[*PROMPT, 40, *response]])
    return sum(scores[-len(response) :])


@pytest.mark.parametrize("algorithm", ["rltf", "grpo"])
def test_a_step_makes_the_better_response_likelier_and_the_worse_less_likely(make: Make, algorithm: str) -> None:
    learner = make(algorithm=algorithm)
    good, bad = response_score(learner, GOOD), response_score(learner, BAD)
    metrics = learner.step(1, batch(), 1)
    assert metrics is not None
    assert response_score(learner, GOOD) > good
    assert response_score(learner, BAD) < bad
    assert metrics["trained_tokens"] == 2 * (len(GOOD) + len(BAD))  # the greedy sample is no part of it
    assert metrics["reward"] == 0
    assert metrics["staleness_max"] == 1


def test_models_that_vllm_does_not_run_learn_and_their_engine_follows(make: Make, other_model_folder: Path) -> None:
    learner = make(model_path=str(other_model_folder))

    def likelihoods() -> list[float]:
        members = [WeightedTrajectory(sampled([*PROMPT, 40], r), [1.0] * (7 + len(r))) for r in (GOOD, BAD)]
        return [float(learner._policy.predict(pack([[member]], 64)[0])[0].detach().sum()) for member in members]

    async def scored(source: dict[str, str]) -> list[list[float]]:
        engine = await start(EngineSettings(str(other_model_folder), "float32", 64, 4, 0.1, 0.5, 1, 0))
        before = await engine.score(probe)
        await engine.update_weights(source, 1)
        after = await engine.score(probe)
        await engine.shutdown()
        return [before, after]

    probe = [*PROMPT, 40, *GOOD]
    before, (probed,) = likelihoods(), learner.score([probe])
    assert learner.step(1, batch(), 1) is not None
    after, (moved,) = likelihoods(), learner.score([probe])
    assert after[0] > before[0]
    assert after[1] < before[1]
    engine_before, engine_after = asyncio.run(scored(learner.publish(1)))
    assert engine_before == pytest.approx(probed, abs=2e-5)
    assert engine_after == pytest.approx(moved, abs=2e-5)
    assert moved != pytest.approx(probed, abs=1e-3)


def test_a_reference_is_learned_from_where_it_has_a_weight(make: Make) -> None:
    learner = make(loss={"supervised_weight": 1.0, "baseline": "none"})
    before = response_score(learner, [100, 101, 1])
    learner.step(1, [group(reference([*PROMPT, 40], [100, 101, 1]))], 0)
    assert response_score(learner, [100, 101, 1]) > before


def test_alternating_steps_learn_from_one_kind_at_a_time(make: Make) -> None:
    def mixed() -> list[Group]:
        return [*batch(), group(reference([*PROMPT, 42], [100, 101, 1]), group_id=42)]

    learner = make(loss={"supervised_weight": 1.0, "supervised_mode": "alternate"})
    trained = [(learner.step(step, mixed(), 1) or {})["trained_tokens"] for step in (1, 2, 3)]
    assert trained == [2 * (len(GOOD) + len(BAD)), 3, 2 * (len(GOOD) + len(BAD))]
    metrics = learner.step(4, batch(), 1)
    assert metrics is not None and metrics["trained_tokens"] > 0, "without references a step learns from what there is"


def test_fine_tuning_needs_no_samples(make: Make) -> None:
    learner = make(algorithm="sft")
    before = response_score(learner, [100, 101, 1])
    metrics = learner.step(1, [group(reference([*PROMPT, 40], [100, 101, 1]))], 0)
    assert metrics is not None and metrics["trained_tokens"] == 3
    assert response_score(learner, [100, 101, 1]) > before


def test_micro_batches_do_not_change_the_step(make: Make) -> None:
    whole, parts = make(micro_batch_tokens=256), make(micro_batch_tokens=16)
    before = weights(whole)
    one, other = whole.step(1, batch(), 1), parts.step(1, batch(), 1)
    assert one is not None
    assert other is not None
    assert other["packed_tokens"] > one["packed_tokens"]  # prompts repeated: there really were more passes
    assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-5)
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert other["log_prob_mismatch"] == pytest.approx(one["log_prob_mismatch"], rel=1e-5)
    after, split = weights(whole), weights(parts)
    assert max(float((after[name] - before[name]).abs().max()) for name in after) > 5e-4
    for name in after:
        torch.testing.assert_close(after[name], split[name], atol=1e-5, rtol=0)


def test_an_aborted_step_changes_nothing_and_leaves_nothing_behind(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, never_aborted = make(micro_batch_tokens=16), make(micro_batch_tokens=16)
    before, forward = weights(learner), learner._policy.predict

    def abort_during_the_first_pass(*arguments: Any) -> Any:
        learner.abort()
        return forward(*arguments)

    monkeypatch.setattr(learner._policy, "predict", abort_during_the_first_pass)
    assert learner.step(1, batch(), 1) is None
    assert same(weights(learner), before)
    assert not list((Path(learner._settings.run_folder) / "trajectories").iterdir())
    monkeypatch.undo()
    learner.step(1, batch(), 1)
    never_aborted.step(1, batch(), 1)
    assert same(weights(learner), weights(never_aborted))
    assert not same(weights(learner), before)


def test_a_gradient_that_is_not_finite_changes_nothing(make: Make) -> None:
    learner = make()
    before = weights(learner)
    groups = [group(sampled(PROMPT, GOOD, {"coarse": float("nan")}), sampled(PROMPT, BAD, {"coarse": 0.0}))]
    with pytest.raises(ValueError, match=r"not finite.*learner\.learning_rate"):
        learner.step(1, groups, 0)
    assert same(weights(learner), before)
    assert learner.step(1, batch(), 1) is not None


def test_a_batch_without_a_token_to_learn_from_is_an_error(make: Make) -> None:
    with pytest.raises(ValueError, match="step 3: no token"):
        make().step(3, [group(sampled(PROMPT, GOOD, role="greedy"))], 0)


def test_the_learning_rate_warms_up(make: Make) -> None:
    learner = make(warmup_steps=4)
    rates = [metrics["learning_rate"] for step in (1, 2, 4, 5) if (metrics := learner.step(step, batch(), 1))]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 1e-3, 1e-3])


def test_training_goes_on_from_a_checkpoint_bit_for_bit(make: Make) -> None:
    straight = make()
    straight.step(1, batch(), 1)
    straight.save(1, b"buffer", {"step": 1}, None, copied=False)
    saved = straight.written()
    resumed = make(resume=saved)
    assert same(weights(resumed), weights(straight))
    straight.step(2, batch(), 2)
    resumed.step(2, batch(), 2)
    assert same(weights(resumed), weights(straight))
    without_memory = make(
        model_path=saved
    )  # the optimizer's memory matters: from the weights alone it comes out otherwise
    without_memory.step(2, batch(), 2)
    assert not same(weights(without_memory), weights(straight))


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_published_weights_lie_under_the_checkpoints_names(make: Make, model_folder: Path, dtype: str) -> None:
    learner = make(engine_dtype=dtype)
    learner.step(1, batch(), 1)
    path = Path(learner.publish(1)["path"])
    (checkpoint,) = model_folder.glob("*.safetensors")
    held = weights(learner)
    with safe_open(path, framework="pt") as published, safe_open(checkpoint, framework="pt") as original:
        assert set(published.keys()) == set(original.keys())
        assert "lm_head.weight" not in set(published.keys())
        for name in published.keys():  # noqa: SIM118
            tensor = published.get_tensor(name)
            assert tensor.dtype == getattr(torch, dtype)
            assert torch.equal(tensor, held[name].to(tensor.dtype))


def test_at_most_two_published_versions_lie_in_memory_and_none_after_close(make: Make) -> None:
    learner = make()
    paths = [Path(learner.publish(version)["path"]) for version in (1, 2, 3)]
    assert [path.exists() for path in paths] == [False, True, True]
    assert {path.name for path in paths[0].parent.iterdir()} == {paths[1].name, paths[2].name}
    learner.close()
    assert not paths[0].parent.exists()


def test_episodes_are_logged_token_by_token(make: Make) -> None:
    learner = make()
    groups = batch()
    failed = groups[0].trajectories[1].turns[0]
    failed.verdict = verdict("error", passed=1, error=ErrorInfo(type="NameError", message="x", line=2))
    learner.step(7, groups, 1)
    (path,) = (Path(learner._settings.run_folder) / "trajectories").iterdir()
    assert path.name == "step_000007.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["group_id"] for line in lines] == [40, 40, 41, 41]
    good, bad = lines[:2]
    tokenizer = learner._tokenizer
    assert good["prompt"] == tokenizer.decode([*PROMPT, 40])
    assert good["tokens"] == [tokenizer.decode([token]) for token in GOOD]
    assert good["credits"] == [1.0] * len(GOOD)
    assert bad["credits"] == [-1.0] * len(BAD)
    assert (good["step"], good["problem_id"], good["reward"], good["outcome"]) == (7, "p", 1.0, "pass")
    assert bad["log_probs"] == [-1.0] * len(BAD)
    assert bad["policy_versions"] == [1] * len(BAD)
    assert (bad["passed"], bad["total"], bad["components"]) == (1, 4, {"coarse": -1.0})
    assert (bad["error"]["type"], bad["error"]["line"]) == ("NameError", 2)
    assert good["error"] is None


def test_full_shared_memory_is_an_os_error_and_leaves_the_last_version(make: Make) -> None:
    learner = make()
    path = Path(learner.publish(1)["path"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="policy version 2 do not fit"):
            learner.publish(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in path.parent.iterdir()] == [path.name]

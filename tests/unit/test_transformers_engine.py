"""The transformers engine on a real T5 and a real CodeGen, tiny and random: the promises of the protocol, with real threads and real updates."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from asynchronous import asynchronous
from safetensors.torch import save_file
from trajectories import sampled
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from actors.engine.protocol import Completion, EngineError, EngineSettings, SamplingSettings
from actors.engine.transformers import THREAD_NAME, TransformersEngine, start
from learner.model import Policy
from learner.packing import WeightedTrajectory, pack

GREEDY = SamplingSettings(temperature=0.0, top_p=1.0, max_tokens=12)
SAMPLED = SamplingSettings(temperature=0.7, top_p=1.0, max_tokens=12)
PROMPTS = [[5, 9, 200], [31, 77, 8, 120, 44, 61, 7], [5, 9, 200], [250], [12, 13, 14, 15, 16]]


def settings(folder: Path, **changes: Any) -> EngineSettings:
    fields: dict[str, Any] = {
        "model_path": str(folder),
        "dtype": "float32",
        "max_model_tokens": 256,
        "max_sequences": 8,
        "kv_cache_gib": 0.1,
        "gpu_memory_share": 0.5,
        "threads": 1,
        "seed": 3,
        **changes,
    }
    return EngineSettings(**fields)


@asynccontextmanager
async def running(folder: Path, **changes: Any) -> AsyncIterator[TransformersEngine]:
    engine = await start(settings(folder, **changes))
    try:
        yield engine
    finally:
        await engine.shutdown()


def policy_of(folder: Path, temperature: float = 1.0) -> Policy:
    return Policy(folder, autocast=None, temperature=temperature)


def learned(policy: Policy, prompt: list[int], response: list[int]) -> list[float]:
    """The learner's log-probabilities of a response."""
    trajectory = sampled(prompt, response)
    (sequence,) = pack([[WeightedTrajectory(trajectory, [1.0] * len(trajectory.token_ids))]], 1000)
    return policy.predict(sequence)[0].detach().tolist()


def publish(folder: Path, to: Path, seed: int = 0) -> tuple[Policy, dict[str, str]]:
    """The model with every weight moved, as the learner holds it, and the file that an engine takes."""
    policy = policy_of(folder)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_file({name: t.contiguous() for name, t in policy.state_for_engine(torch.float32)}, to)
    return policy, {"path": str(to)}


class Gate:
    """Holds the engine's thread before its n-th pass until it is told to go on."""

    def __init__(self, engine: TransformersEngine, before: int) -> None:
        self.reached, self._go_on, self._engine = threading.Event(), threading.Event(), engine
        step, self._passes = engine._step, 0

        def held(cohort: Any) -> None:
            self._passes += 1
            if self._passes == before:
                self.reached.set()
                assert self._go_on.wait(20)
            step(cohort)

        engine._step = held  # type: ignore[method-assign]

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 20)

    async def open_after_arrival(self) -> None:
        """Go on once something new lies in the engine's queue."""
        for _ in range(2000):
            if not self._engine._inbox.empty():
                break
            await asyncio.sleep(0.001)
        else:
            raise AssertionError("nothing arrived")
        self._go_on.set()


@asynchronous
async def test_log_probabilities_are_the_learners(other_model_folder: Path) -> None:
    async with running(other_model_folder) as engine:
        completions = await asyncio.gather(*(engine.generate(prompt, SAMPLED) for prompt in PROMPTS))
    policy = policy_of(other_model_folder, SAMPLED.temperature)
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        expected = learned(policy, prompt, completion.token_ids)
        assert completion.log_probs == pytest.approx(expected, abs=2e-5)
        assert max(expected) - min(expected) > 0.1  # the model is no uniform one, which would agree with anything
        assert completion.policy_versions == [0] * len(completion.token_ids)


@asynchronous
async def test_a_score_is_the_learners(other_model_folder: Path) -> None:
    sequences = [[*prompt, 17, 18, 99] for prompt in PROMPTS]
    async with running(other_model_folder) as engine:
        scores = [await engine.score(sequence) for sequence in sequences]
    for mine, theirs in zip(scores, policy_of(other_model_folder).score(sequences, torch.float32), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-5)


@asynchronous
async def test_a_batch_answers_as_one_by_one(other_model_folder: Path) -> None:
    async with running(other_model_folder) as engine:
        together = await asyncio.gather(*(engine.generate(prompt, GREEDY) for prompt in PROMPTS))
        alone = [await engine.generate(prompt, GREEDY) for prompt in PROMPTS]
    for one, other in zip(together, alone, strict=True):
        assert one.token_ids == other.token_ids
        assert one.log_probs == pytest.approx(other.log_probs, abs=2e-5)


@asynchronous
async def test_greedy_is_what_transformers_generates(other_model_folder: Path) -> None:
    async with running(other_model_folder) as engine:
        answers = [await engine.generate(prompt, GREEDY) for prompt in PROMPTS]
    kind = AutoModelForSeq2SeqLM if "t5" in other_model_folder.name else AutoModelForCausalLM
    model: Any = kind.from_pretrained(other_model_folder, dtype=torch.float32)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        (whole,) = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=GREEDY.max_tokens).tolist()
        assert answer.token_ids == (whole[1:] if model.config.is_encoder_decoder else whole[len(prompt) :])
        assert answer.finish_reason == ("stop" if answer.token_ids[-1] == 1 else "length")


@asynchronous
async def test_a_response_ends_with_its_end_token(other_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(other_model_folder) as engine:
        free = await engine.generate(PROMPTS[1], GREEDY)
        engine._end_tokens = {free.token_ids[3]}
        ended = await engine.generate(PROMPTS[1], GREEDY)
    first = free.token_ids.index(free.token_ids[3])
    assert (ended.token_ids, ended.finish_reason) == (free.token_ids[: first + 1], "stop")
    assert (len(free.token_ids), free.finish_reason) == (GREEDY.max_tokens, "length")


@asynchronous
async def test_an_update_between_two_tokens_counts_from_the_next_one(other_model_folder: Path, tmp_path: Path) -> None:
    new, source = publish(other_model_folder, tmp_path / "1.safetensors")
    old = policy_of(other_model_folder)
    sampling = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=30)
    async with running(other_model_folder) as engine:
        engine._end_tokens = set()
        gate = Gate(engine, before=10)
        responses = [asyncio.create_task(engine.generate(prompt, sampling)) for prompt in PROMPTS]
        await gate.wait()
        update = asyncio.create_task(engine.update_weights(source, 1))
        await gate.open_after_arrival()
        assert await update > 0
        assert engine.policy_version == 1
        for prompt, completion in zip(PROMPTS, await asyncio.gather(*responses), strict=True):
            count = completion.policy_versions.count(0)
            assert completion.policy_versions == [0] * count + [1] * (30 - count)
            assert 0 < count < 30
            before, after = (learned(policy, prompt, completion.token_ids) for policy in (old, new))
            # With old keys and values, tokens after the update would be those of neither model.
            assert completion.log_probs == pytest.approx(before[:count] + after[count:], abs=5e-5)
            assert before[count:] != pytest.approx(after[count:], abs=1e-2)
        assert await engine.score(PROMPTS[1]) == pytest.approx(new.score([PROMPTS[1]], torch.float32)[0], abs=5e-5)


@asynchronous
async def test_an_engine_that_sleeps_draws_nothing_and_goes_on_where_it_was(
    other_model_folder: Path, tmp_path: Path
) -> None:
    new, source = publish(other_model_folder, tmp_path / "1.safetensors")
    sampling = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=30, seed=5)
    async with running(other_model_folder) as engine:
        engine._end_tokens = set()
        undisturbed = await engine.generate(PROMPTS[1], sampling)
        gate = Gate(engine, before=10)
        response = asyncio.create_task(engine.generate(PROMPTS[1], sampling))
        await gate.wait()
        asleep = asyncio.create_task(engine.sleep())
        await gate.open_after_arrival()
        await asleep
        await engine.sleep()
        late = asyncio.create_task(engine.generate(PROMPTS[0], GREEDY))
        passes = gate._passes
        await asyncio.sleep(0.2)
        assert gate._passes == passes and not response.done() and not late.done()
        assert engine.gauges()["asleep"] == 1
        await engine.wake()
        assert (await response).token_ids == undisturbed.token_ids
        assert len((await late).token_ids) == GREEDY.max_tokens
        await engine.sleep()
        await engine.update_weights(source, 1)
        assert engine.gauges()["asleep"] == 0
        assert await engine.score(PROMPTS[1]) == pytest.approx(new.score([PROMPTS[1]], torch.float32)[0], abs=5e-5)


@asynchronous
async def test_weights_that_do_not_fit_end_the_engine(other_model_folder: Path, tmp_path: Path) -> None:
    save_file({"odd.weight": torch.zeros(2)}, tmp_path / "1.safetensors")
    async with running(other_model_folder) as engine:
        gate = Gate(engine, before=3)
        under_way = asyncio.create_task(engine.generate(PROMPTS[0], SAMPLED))
        await gate.wait()
        update = asyncio.create_task(engine.update_weights({"path": str(tmp_path / "1.safetensors")}, 1))
        await gate.open_after_arrival()
        with pytest.raises(EngineError, match=r"policy version 1 failed: ValueError: .*not in both"):
            await update
        with pytest.raises(EngineError, match="the engine failed: ValueError"):
            await under_way
        for again in (engine.generate(PROMPTS[0], SAMPLED), engine.score(PROMPTS[0])):
            with pytest.raises(EngineError, match="the engine failed"):
                await again
        assert engine.policy_version == 0


@asynchronous
async def test_a_failed_pass_is_told_to_everyone_who_waits(other_model_folder: Path) -> None:
    async with running(other_model_folder, max_sequences=2) as engine:
        asked = [engine.generate(prompt, SAMPLED) for prompt in (*PROMPTS, [10**6])]
        answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[-1], EngineError)
    assert "IndexError" in str(answers[-1])
    assert all(isinstance(answer, Completion | EngineError) for answer in answers)


@asynchronous
async def test_shutdown_leaves_no_thread_and_nobody_waiting(other_model_folder: Path) -> None:
    engine = await start(settings(other_model_folder))
    gate = Gate(engine, before=3)
    under_way = asyncio.create_task(engine.generate(PROMPTS[0], SAMPLED))
    await gate.wait()
    ending = asyncio.create_task(engine.shutdown())
    await gate.open_after_arrival()
    await ending
    with pytest.raises(EngineError, match="shut down"):
        await under_way
    with pytest.raises(EngineError, match="shut down"):
        await engine.generate(PROMPTS[0], SAMPLED)
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    await engine.shutdown()  # once more does no harm


@asynchronous
async def test_more_requests_than_sequences_are_all_answered(other_model_folder: Path) -> None:
    async with running(other_model_folder, max_sequences=2) as engine:
        answers = await asyncio.gather(*(engine.generate(PROMPTS[n % 5], SAMPLED) for n in range(20)))
        assert engine.gauges()["running_requests"] == 0
        assert engine.gauges()["generated_tokens"] == sum(len(answer.token_ids) for answer in answers)
    assert len(answers) == 20


@asynchronous
async def test_a_short_request_does_not_wait_for_long_ones(other_model_folder: Path) -> None:
    async with running(other_model_folder) as engine:
        engine._end_tokens = set()
        gate = Gate(engine, before=5)
        long = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=200)
        early = [asyncio.create_task(engine.generate(PROMPTS[0], long)) for _ in range(3)]
        await gate.wait()
        late = asyncio.create_task(
            engine.generate(PROMPTS[1], SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=2))
        )
        await gate.open_after_arrival()
        assert len((await late).token_ids) == 2
        assert not any(task.done() for task in early)


@asynchronous
async def test_a_request_that_nobody_waits_for_makes_room(other_model_folder: Path) -> None:
    async with running(other_model_folder, max_sequences=1) as engine:
        engine._end_tokens = set()
        gate = Gate(engine, before=5)
        long = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=250)
        given_up = asyncio.create_task(engine.generate([5], long))
        await gate.wait()
        given_up.cancel()
        following = asyncio.create_task(engine.generate(PROMPTS[1], SAMPLED))
        await gate.open_after_arrival()
        assert len((await following).token_ids) == SAMPLED.max_tokens
        assert gate._passes < 100  # where the one given up would have taken 250
        assert given_up.cancelled()


@asynchronous
async def test_the_event_loop_stays_free(other_model_folder: Path) -> None:
    async with running(other_model_folder) as engine:
        engine._end_tokens = set()
        long = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=100)
        response = asyncio.create_task(engine.generate(PROMPTS[0], long))
        turns = 0
        while not response.done():
            await asyncio.sleep(0.001)
            turns += 1
    assert turns > 20


@asynchronous
async def test_what_the_model_or_the_memory_cannot_hold_is_refused(codegen_folder: Path) -> None:
    with pytest.raises(EngineError, match=r"has 1024 positions.*may take 1025"):
        await start(settings(codegen_folder, max_model_tokens=1025))
    with pytest.raises(
        EngineError, match=r"engine\.kv_cache_gib=1e-05 holds .* of 20 tokens, one sequence may take 256"
    ):
        await start(settings(codegen_folder, kv_cache_gib=1e-5))
    async with running(codegen_folder, max_model_tokens=8) as engine:
        with pytest.raises(EngineError, match="a prompt of 8 tokens"):
            await engine.generate([5] * 8, SAMPLED)
        engine._end_tokens = set()
        answer = await engine.generate([5] * 6, SAMPLED)
        assert (len(answer.token_ids), answer.finish_reason) == (2, "length")


@asynchronous
async def test_a_folder_without_a_model_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="transformers could not start"):
        await start(settings(tmp_path))

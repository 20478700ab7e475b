"""vLLM itself: with the default model, more prompt tokens at once than one pass holds, each request with a seed of its own; with a tiny one, sleep."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from actors.engine.choose import start
from actors.engine.protocol import Completion, EngineSettings, SamplingSettings
from cluster.config import load_config
from cluster.model_source import resolve

PROMPTS, PROMPT_TOKENS, RESPONSE_TOKENS = 10, 300, 4
VOCABULARY = 10_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


async def answers(model: Path) -> tuple[list[Completion], list[Completion]]:
    """To the same requests twice."""
    engine = await start(
        EngineSettings(
            model_path=str(model),
            dtype="float32",
            max_model_tokens=PROMPT_TOKENS + RESPONSE_TOKENS,
            max_sequences=PROMPTS,
            kv_cache_gib=0.25,
            gpu_memory_share=0.2,
            threads=1,
            seed=0,
            backend="vllm",
        )
    )
    source = random.Random(0)
    prompts = [[source.randrange(2, VOCABULARY) for _ in range(PROMPT_TOKENS)] for _ in range(PROMPTS)]
    try:
        rounds = []
        for _ in range(2):
            asked = [
                engine.generate(prompt, SamplingSettings(1.0, 1.0, RESPONSE_TOKENS, seed=number))
                for number, prompt in enumerate(prompts)
            ]
            rounds.append(await asyncio.gather(*asked))
        return rounds[0], rounds[1]
    finally:
        await engine.shutdown()


def test_prompts_that_no_pass_holds_at_once_are_answered_and_a_seed_gives_the_same_answer() -> None:
    config = load_config()
    model = resolve(config.model.name, config.model.cache)
    first, second = asyncio.run(asyncio.wait_for(answers(model), 240))
    assert all(1 <= len(completion.token_ids) <= RESPONSE_TOKENS for completion in first)
    assert [completion.token_ids for completion in first] == [completion.token_ids for completion in second]
    assert len({tuple(completion.token_ids) for completion in first}) > 1


async def sampled_some(engine: Any) -> None:
    """Until the request that is under way has a token."""
    async with asyncio.timeout(60):
        while not any((await engine._llm.collective_rpc("cupel_token_counts"))[0].values()):
            await asyncio.sleep(0.01)


def test_an_engine_that_sleeps_draws_nothing_and_goes_on_with_the_weights_it_is_given(vllm_model_folder: Path) -> None:
    async def slept() -> None:
        settings = EngineSettings(
            str(vllm_model_folder), "float32", 1024, 4, 0.1, 0.2, 1, 0, backend="vllm", sleep_mode=True
        )
        engine = await start(settings)
        try:
            sampling = SamplingSettings(1.0, 1.0, 800, seed=1)
            undisturbed = (await engine.generate([5, 6, 7], sampling)).token_ids
            asked = asyncio.ensure_future(engine.generate([5, 6, 7], sampling))
            await sampled_some(engine)
            await engine.sleep()
            await engine.sleep()
            assert not asked.done() and engine.gauges()["asleep"] == 1
            late = asyncio.ensure_future(engine.generate([8, 9], SamplingSettings(1.0, 1.0, 4, seed=2)))
            await asyncio.sleep(0.5)
            assert not late.done()
            await engine.wake()
            assert len((await late).token_ids) == 4
            assert (await asked).token_ids == undisturbed
            asked = asyncio.ensure_future(engine.generate([5, 6, 7], sampling))
            await sampled_some(engine)
            await engine.sleep()
            await engine.update_weights({"path": str(vllm_model_folder / "model.safetensors")}, 1)
            versions = (await asked).policy_versions
            assert versions[0] == 0 and versions[-1] == 1 and versions == sorted(versions)
            assert engine.gauges()["asleep"] == 0 and engine.gauges()["paused_seconds"] > 0.5
        finally:
            await engine.shutdown()

    asyncio.run(asyncio.wait_for(slept(), 240))

"""vLLM itself, with the default model: more prompt tokens at once than one pass holds, each request with a seed of its own."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

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

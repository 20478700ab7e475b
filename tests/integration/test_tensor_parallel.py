"""A vLLM whose model is split over two processes: it computes what one computes, and takes new weights as one does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.engine.choose import start
from actors.engine.protocol import EngineSettings, SamplingSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
TEXT = list(range(3, 120))


async def scores(model: Path, weights: Path, split: int) -> list[list[float]]:
    """Of the text, with the model's weights and then with those of the file, which arrive while it samples."""
    settings = EngineSettings(str(model), "float32", 256, 2, 0.1, 0.2, 1, 0, backend="vllm", tensor_parallel=split)
    engine = await start(settings)
    try:
        before = await engine.score(TEXT)
        sampling = asyncio.ensure_future(engine.generate(TEXT[:8], SamplingSettings(1.0, 1.0, 200, seed=1)))
        await asyncio.sleep(0.1)
        await engine.update_weights({"path": str(weights)}, 1)
        sampled = await sampling
        assert sampled.policy_versions[-1] == 1 and sampled.policy_versions == sorted(sampled.policy_versions)
        return [before, await engine.score(TEXT)]
    finally:
        await engine.shutdown()


def test_a_split_model_is_the_model(vllm_model_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = {name: tensor.float() for name, tensor in load_file(vllm_model_folder / "model.safetensors").items()}
    save_file({n: t + 0.05 * torch.randn_like(t) for n, t in weights.items()}, tmp_path / "new.safetensors")
    whole, split = (asyncio.run(scores(vllm_model_folder, tmp_path / "new.safetensors", n)) for n in (1, 2))
    assert whole[0] != pytest.approx(whole[1], abs=1e-2), "the weights are others"
    for one, other in zip(whole, split, strict=True):
        assert one == pytest.approx(other, abs=1e-3)

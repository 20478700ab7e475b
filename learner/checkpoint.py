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
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from executor.errors import UserError
from learner.checkpoint_folder import folder_of, steps_of
from learner.critic import FILE as CRITIC_FILE
from learner.critic import Critic

_COPIED = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges", "added_tokens", "generation_config")


def save(
    checkpoints: Path,
    step: int,
    *,
    module: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    critic: Critic | None,
    source: Path,
    buffer_state: bytes,
    record: dict[str, Any],
    keep: int,
    best: int | None = None,
) -> Path:
    """Write the checkpoint of `step` and remove all but the newest `keep` and that of step `best`.

    `source` is the model folder whose tokenizer files go along. Raises UserError if it cannot be written (disk full, no permission).
    """
    target = folder_of(checkpoints, step)
    temporary = checkpoints / f".step_{step}.part"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        trainer = temporary / "trainer"
        trainer.mkdir(parents=True)
        module.save_pretrained(temporary)
        for path in source.iterdir():
            if path.is_file() and path.name.startswith(_COPIED):
                shutil.copy(path, temporary / path.name)
        torch.save(
            {
                "optimizer": optimizer.state_dict(),
                "torch_random": torch.get_rng_state(),
                "python_random": random.getstate(),
            },
            trainer / "state.pt",
        )
        if critic is not None:
            critic.save(trainer)
        (trainer / "buffer.bin").write_bytes(buffer_state)
        (trainer / "record.json").write_text(json.dumps(record, indent=1))
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

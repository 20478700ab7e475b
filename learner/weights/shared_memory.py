"""Weights through a file in shared memory: for engines on the learner's own machine, with or without a GPU.

Invariants: an engine sees a file whole or not at all; at most two versions lie in memory at a time; files of learners that no longer
live are removed by the next one that starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import psutil
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

_ROOT = Path("/dev/shm")
_PREFIX = "cupel-weights-"


class SharedMemoryTransport:
    """The learner's end; the engine's end is in actors/engine: SharedMemoryTransfer for vLLM, TransformersEngine.update_weights."""

    def __init__(self) -> None:
        _remove_orphans()
        self._folder = _ROOT / f"{_PREFIX}{os.getpid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def publish(self, state: Iterable[tuple[str, Tensor]], policy_version: int) -> dict[str, str]:
        """Write the weights of `policy_version` and return what an engine's `update_weights` takes.

        Raises OSError if shared memory is full.
        """
        for old in self._folder.glob("*.safetensors"):
            if int(old.stem) < policy_version - 1:
                old.unlink()
        path = self._folder / f"{policy_version}.safetensors"
        temporary = path.with_suffix(".part")
        try:
            save_file({name: tensor.contiguous() for name, tensor in state}, temporary)
        except SafetensorError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(f"weights of policy version {policy_version} do not fit into {_ROOT}: {error}") from None
        temporary.rename(path)
        return {"path": str(path)}

    def close(self) -> None:
        """Give the memory back."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _remove_orphans() -> None:
    for folder in _ROOT.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX)
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)

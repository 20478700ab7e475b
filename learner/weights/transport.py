"""The learner's end of a broadcast: a file in shared memory for the engines of its machine, the same bytes through Ray for those of others.

The engine's end is in actors/: `RolloutWorker.update_weights` has a file on its own machine, SharedMemoryTransfer (vLLM) and
TransformersEngine.update_weights read it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from buffer.weights_files import ROOT, WeightsFiles


class Transport:
    """Weights by policy version."""

    def __init__(self) -> None:
        self._files = WeightsFiles()

    def publish(self, state: Iterable[tuple[str, Tensor]], policy_version: int) -> dict[str, str]:
        """Write the weights of `policy_version` and return what an engine's `update_weights` takes.

        Raises OSError if shared memory is full.
        """
        tensors = {name: tensor.contiguous() for name, tensor in state}
        try:
            path = self._files.add(policy_version, lambda path: save_file(tensors, path))
        except SafetensorError as error:
            raise OSError(f"weights of policy version {policy_version} do not fit into {ROOT}: {error}") from None
        return {"path": str(path)}

    def carried(self, policy_version: int) -> numpy.ndarray:
        """The file of that version as bytes, `[bytes]`. Raises FileNotFoundError if it is not among the last two."""
        return numpy.fromfile(self._files.path(policy_version), dtype=numpy.uint8)

    def close(self) -> None:
        """Give the memory back."""
        self._files.close()

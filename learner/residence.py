"""Where the learner's numbers are: on its device while it computes, in the machine's memory while an engine has that device.

A tensor stays the object that it is and only its storage moves, so the optimizer goes on with the parameters it knows. Invariants: what is away is
whole; host copies are made once, pinned where there is a GPU, and used again at every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Residence:
    """Of all tensors that `tensors` lists when it is asked, which may become more."""

    def __init__(self, device: str, tensors: Callable[[], Iterable[Tensor]], *, away: bool) -> None:
        """`away`: they are in the machine's memory now."""
        self._device = device
        self._tensors = tensors
        self._away = away
        self._hosts: dict[int, Tensor] = {}  # by the id of the tensor whose numbers they take

    def leave(self) -> None:
        """Give the device's memory back."""
        if self._away:
            return
        pairs = [(tensor, self._host(tensor)) for tensor in self._tensors()]
        for tensor, host in pairs:
            host.copy_(tensor.data, non_blocking=True)
        self._settle()
        for tensor, host in pairs:
            tensor.data = host
        if self._device == "cuda":
            torch.cuda.empty_cache()
        self._away = True

    def come_back(self) -> None:
        """Be on the device."""
        if not self._away:
            return
        for tensor in self._tensors():
            tensor.data = tensor.data.to(self._device, non_blocking=True)
        self._settle()
        self._away = False

    def _host(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._hosts:
            pinned = self._device == "cuda"
            self._hosts[id(tensor)] = torch.empty_like(tensor.data, device="cpu", pin_memory=pinned)
        return self._hosts[id(tensor)]

    def _settle(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

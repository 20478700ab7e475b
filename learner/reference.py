"""The policy that training began from, to measure how far it has gone.

It is no second model: its weights lie in the machine's memory, in the type in which they were published (exact, and half the size for most), and visit the
policy's device and type only while a step's episodes are scored. Invariant: before the first update the reference policy is the policy.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from learner.model import Policy


class ReferencePolicy:
    """Frozen weights beside the policy whose shape they have."""

    def __init__(self, folder: Path) -> None:
        module = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", local_files_only=True)
        self._weights = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def weights_for(self, policy: Policy) -> dict[str, Tensor]:
        """The weights by name, in the policy's place and type; the caller holds this copy for as long as it scores."""
        return {name: tensor.to(policy.device, torch.float32) for name, tensor in self._weights.items()}

"""The critic: what is still to come, estimated before each trained token.

`own` is a copy of the model's trunk with one number for a head, as in RLEF; it takes as much memory as the policy. `shared` is such a head on the policy's own
trunk, which the value loss then moves too; it takes next to none. Invariants: its numbers are float32 whatever the type of the matrix
products; a fresh head estimates near 0.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from learner.losses.base import CriticSettings
from learner.model import Policy, trunk_states
from learner.packing import PackedSequence
from learner.segment_attention import use_segments

FILE = "critic.safetensors"
_HEAD_DEVIATION = 0.01


class Critic(nn.Module):
    """Estimates by a trunk and a linear head."""

    def __init__(self, settings: CriticSettings, policy: Policy, folder: Path, autocast: torch.dtype | None) -> None:
        """A fresh head, and for `own` the trunk of the model in `folder`."""
        super().__init__()
        self._autocast = autocast
        self._device = policy.device
        self.trunk = (
            AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
            if settings.network == "own"
            else None
        )
        if self.trunk is not None:
            use_segments(self.trunk)
        self.head = nn.Linear(policy.hidden_size, 1)
        nn.init.normal_(self.head.weight, std=_HEAD_DEVIATION / policy.hidden_size**0.5)
        nn.init.zeros_(self.head.bias)
        self.to(policy.module.device)

    def values(self, packed: PackedSequence, policy_states: Tensor | None) -> Tensor:
        """Estimates `[N]` before the trained tokens, with gradient; `policy_states` `[N, hidden]` are used where the trunk is shared."""
        if self.trunk is None:
            assert policy_states is not None, "a shared trunk has run for the policy"
            states = policy_states
        else:
            with torch.autocast(self._device, dtype=self._autocast, enabled=self._autocast is not None):
                states = trunk_states(self.trunk, packed)
        return self.head(states.float())[:, 0]

    def load(self, folder: Path) -> None:
        """Put weights back from a checkpoint's folder. Raises OSError where there are none."""
        self.load_state_dict(load_file(folder / FILE))

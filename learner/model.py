"""The policy as the learner holds it: a causal language model in float32 that turns packed sequences into log-probabilities.

Invariants: log-probabilities are those of the distribution that was sampled from, so logits are divided by the sampling temperature;
they are computed in float32 whatever the type of the matrix products; what `state_for_engine` yields has the names of a Hugging Face checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from learner.packing import PackedSequence


class Policy:
    """The model that is trained."""

    def __init__(self, folder: Path, *, autocast: torch.dtype | None, temperature: float, device: str = "cpu") -> None:
        self.module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        )
        self.module.to(device)  # type: ignore[arg-type]
        self.module.train()
        self.device = device
        self._autocast = autocast
        self._temperature = temperature

    def log_probs(self, packed: PackedSequence) -> Tensor:
        """Log-probabilities `[N]` of the trained tokens, with gradient.

        The head runs only where something is predicted: a prompt's logits are never made.
        """
        with torch.autocast(self.device, dtype=self._autocast, enabled=self._autocast is not None):
            logits = self._logits(
                torch.tensor([packed.token_ids], device=self.device),
                torch.tensor([packed.positions], device=self.device),
                packed.attention_mask(self.device),
                torch.tensor(packed.predictors, device=self.device),
            )
        logits = logits.float()
        if self._temperature != 1.0:
            logits = logits / self._temperature
        return -functional.cross_entropy(logits, torch.tensor(packed.targets, device=self.device), reduction="none")

    @torch.no_grad()
    def score(self, sequences: list[list[int]], dtype: torch.dtype) -> list[list[float]]:
        """Log-probability of each token after the first, `[sequences][tokens - 1]`, at temperature 1, as an engine of `dtype` computes it.

        The weights are rounded as `state_for_engine` rounds them: in bfloat16 a small update moves most weights not at all, so
        an engine is to be compared with what it was sent and not with what the optimizer holds.
        """
        names = {name: parameter.to(dtype) for name, parameter in self.module.named_parameters()}
        scores = []
        for token_ids in sequences:
            tokens = torch.tensor([token_ids], device=self.device)
            logits = torch.func.functional_call(self.module, names, (tokens,), {"use_cache": False}).logits[0, :-1]
            scores.append((-functional.cross_entropy(logits.float(), tokens[0, 1:], reduction="none")).tolist())
        return scores

    def _logits(self, token_ids: Tensor, positions: Tensor, mask: Tensor, predictors: Tensor) -> Tensor:
        """`[len(predictors), vocabulary]` logits that follow the given places of one packed sequence."""
        hidden = self.module.base_model(
            input_ids=token_ids, position_ids=positions, attention_mask=mask, use_cache=False
        ).last_hidden_state
        head = self.module.get_output_embeddings()
        assert head is not None, "a causal language model has an output head"
        return head(hidden[0, predictors])

    def state_for_engine(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once, in `dtype`; a tied output head is left out, as in the checkpoint."""
        tied = set(self.module.all_tied_weights_keys)
        for name, tensor in self.module.state_dict().items():
            if name not in tied:
                yield name, tensor.detach().to(dtype)

"""The policy as the learner holds it: a language model in float32 that turns packed sequences into log-probabilities.

Invariants: log-probabilities are those of the distribution that was sampled from, so logits are divided by the sampling temperature and nothing is
dropped out; a reference was not sampled: its tokens are scored, and so learnt, at temperature 1; log-probabilities are computed in float32 whatever
the type of the matrix products; what `state_for_engine` yields has the names of a Hugging Face checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from learner import encoder_decoder
from learner.packing import PackedSequence
from learner.segment_attention import as_mask, segmented, use_segments


class _Predicting(torch.nn.Module):
    """Logits `[N, vocabulary]` and states `[N, hidden]` of a packed sequence's trained tokens, as a module, so that it can be called with other weights."""

    def __init__(self, module: PreTrainedModel) -> None:
        super().__init__()
        self.module = module

    def forward(self, packed: PackedSequence) -> tuple[Tensor, Tensor]:
        if self.module.config.is_encoder_decoder:
            logits = encoder_decoder.response_logits(self.module, [m.trajectory for m in packed.members])
            return logits, logits.new_zeros(len(logits), 0)
        hidden = trunk_states(self.module.base_model, packed)
        head = self.module.get_output_embeddings()
        assert head is not None, "a causal language model has an output head"
        return head(hidden), hidden


def trunk_states(trunk: Any, packed: PackedSequence) -> Tensor:
    """States `[N, hidden]` that the trained tokens of a packed sequence are predicted from."""
    device = trunk.device
    if segmented(trunk):
        mask = as_mask(packed.segments)
    else:
        mask = packed.attention_mask(device)
        if trunk.config._attn_implementation == "eager":
            # It adds the mask to its scores, where True would count for one.
            mask = torch.zeros(mask.shape, device=device).masked_fill(~mask, torch.finfo(torch.float32).min)
    hidden = trunk(
        input_ids=torch.tensor([packed.token_ids], device=device),
        position_ids=torch.tensor([packed.positions], device=device),
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    return hidden[0, packed.predictors]


class Policy:
    """The model that is trained."""

    def __init__(
        self, folder: Path, *, autocast: torch.dtype | None, temperature: float, device: str = "cpu", away: bool = False
    ) -> None:
        """The model in `folder`, to compute on `device`; `away`: it is to be brought there first (learner/residence.py)."""
        self._encoder_decoder: bool = AutoConfig.from_pretrained(folder, local_files_only=True).is_encoder_decoder
        kind = AutoModelForSeq2SeqLM if self._encoder_decoder else AutoModelForCausalLM
        self.module: PreTrainedModel = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        if not away:
            self.module.to(device)  # type: ignore[arg-type]
        self.module.eval()  # the engine samples without dropout
        use_segments(self.module)
        self.device = device
        self._predicting = _Predicting(self.module)
        self._autocast = autocast
        self._temperature = temperature

    @property
    def hidden_size(self) -> int:
        """Numbers in a state of the trunk."""
        return self.module.config.get_text_config().hidden_size

    def predict(self, packed: PackedSequence, weights: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Log-probabilities `[N]` of the trained tokens and the trunk's states `[N, hidden]` that they are predicted from, with gradient; under
        other `weights` than the policy's own, by parameter name, where they are given.

        The head runs only where something is predicted: a prompt's logits are never made. An encoder-decoder takes the members one a row (and
        has no such states: they are `[N, 0]`). Raises UserError for a trajectory of several turns, which an encoder-decoder cannot learn from.
        """
        with torch.autocast(self.device, dtype=self._autocast, enabled=self._autocast is not None):
            if weights is None:
                logits, hidden = self._predicting(packed)
            else:
                named = {f"module.{name}": tensor for name, tensor in weights.items()}
                logits, hidden = torch.func.functional_call(self._predicting, named, (packed,))
        logits = logits.float()
        if self._temperature != 1.0:
            temperatures = [1.0 if supervised else self._temperature for supervised in packed.supervised]
            logits = logits / torch.tensor(temperatures, device=self.device)[:, None]
        targets = torch.tensor(packed.targets, device=self.device)
        return -functional.cross_entropy(logits, targets, reduction="none"), hidden

    @torch.no_grad()
    def score(self, sequences: list[list[int]], dtype: torch.dtype) -> list[list[float]]:
        """Log-probability of each token after the first, `[sequences][tokens - 1]`, at temperature 1, as an engine of `dtype` computes it; of an
        encoder-decoder, those of the second half of the tokens after its encoder has read the first.

        The weights are rounded as `state_for_engine` rounds them: in bfloat16 a small update moves most weights not at all, so
        an engine is to be compared with what it was sent and not with what the optimizer holds.
        """
        names = {name: parameter.to(dtype) for name, parameter in self.module.named_parameters()}
        scores = []
        for token_ids in sequences:
            tokens = torch.tensor([token_ids], device=self.device)
            if self._encoder_decoder:
                prompt, said = tokens.tensor_split([len(token_ids) // 2], dim=1)
                inputs = {"input_ids": prompt, "decoder_input_ids": encoder_decoder.shifted(self.module, said)}
            else:
                said, inputs = tokens[:, 1:], {"input_ids": tokens[:, :-1]}
            logits = torch.func.functional_call(self.module, names, (), {**inputs, "use_cache": False}).logits[0]
            scores.append((-functional.cross_entropy(logits.float(), said[0], reduction="none")).tolist())
        return scores

    def state_for_engine(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        """Every parameter once, in `dtype`; a tied output head is left out, as in the checkpoint."""
        tied = set(self.module.all_tied_weights_keys)
        for name, tensor in self.module.state_dict().items():
            if name not in tied:
                yield name, tensor.detach().to(dtype)

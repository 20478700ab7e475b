"""Attention over a packed sequence, segment by segment: what no token sees is not computed.

A dense mask makes every token of a pass pay for all others, however short its own trajectory. Models that leave attention to transformers'
interface get this one; those with attention of their own (CodeGen) keep the mask. Invariant: the result is the dense mask's, up to rounding.
The segments arrive where the mask would, as a tensor of four axes, since that is what all models hand on untouched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from learner.packing import Segment

NAME = "cupel_segments"


def use_segments(model: PreTrainedModel) -> None:
    """Switch `model` to attention by segments, where it can."""
    if model.config._attn_implementation == "sdpa" and model._supports_attention_backend:
        model.set_attn_implementation(NAME)


def segmented(model: PreTrainedModel) -> bool:
    """Whether `model` is to be given segments for a mask."""
    return model.config._attn_implementation == NAME


def as_mask(segments: Sequence[Segment]) -> Tensor:
    """`[1, 1, segments, 4]` integers, on the CPU, where reading them waits for no device."""
    return torch.tensor([[[(s.prefix_start, s.prefix_end, s.start, s.end) for s in segments]]])


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`[1, T, heads, dim]` from queries, keys and values `[1, heads, T, dim]`; without segments, plain causal attention."""
    if attention_mask is None or attention_mask.is_floating_point() or attention_mask.dtype == torch.bool:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    parts = []
    for prefix_start, prefix_end, start, end in attention_mask[0, 0].tolist():
        before, own = slice(prefix_start, prefix_end), slice(start, end)
        keys = torch.cat([key[:, :, before], key[:, :, own]], 2)
        values = torch.cat([value[:, :, before], value[:, :, own]], 2)
        parts.append(_segment(query[:, :, own], keys, values, kwargs.get("scaling")))
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def _segment(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """`[1, heads, tokens, dim]`: the last of the keys is the last query's own."""
    if query.device.type != "cpu":
        seen = causal_lower_right(query.shape[2], key.shape[2])
        return scaled_dot_product_attention(query, key, value, seen, scale=scale, enable_gqa=True)  # type: ignore[arg-type]
    # Written out: torch's kernel for CPUs takes twice as long at these lengths (benchmarks/attention.py).
    _, heads, tokens, dim = query.shape
    shared = key.shape[1]
    rows = query.reshape(1, shared, heads // shared * tokens, dim)  # those that share a key's head together
    scores = (rows @ key.transpose(2, 3)).float() * (dim**-0.5 if scale is None else scale)
    unseen = torch.ones(tokens, key.shape[2], dtype=torch.bool).tril(key.shape[2] - tokens).logical_not()
    scores = scores.view(1, heads, tokens, -1).masked_fill(unseen, -torch.inf).softmax(-1)
    return (scores.to(value.dtype).view(1, shared, rows.shape[2], -1) @ value).view(query.shape)


AttentionInterface.register(NAME, _attention)

"""Trajectories for an encoder-decoder: what comes before the response goes to the encoder, the response to the decoder.

Invariants: trained tokens come out in the order in which packing lists them (trajectory by trajectory, token by token), so advantages and error spans
stay on their tokens; a trajectory is one prompt and one response, since an encoder reads once what a second turn would have it read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from buffer.trajectory import Trajectory
from executor.errors import UserError


def response_logits(module: PreTrainedModel, trajectories: Sequence[Trajectory]) -> Tensor:
    """Logits `[N, vocabulary]` of the trained tokens of `trajectories`; a prompt that some of them share is encoded once.

    Raises UserError for a trajectory of several turns.
    """
    prompts: dict[tuple[int, ...], int] = {}
    rows: list[int] = []
    responses: list[Tensor] = []
    for trajectory in trajectories:
        start = response_start(trajectory)
        rows.append(prompts.setdefault(tuple(trajectory.token_ids[:start]), len(prompts)))
        responses.append(torch.tensor(trajectory.token_ids[start:]))
    read, readable = _padded([torch.tensor(prompt) for prompt in prompts], module.device)
    said, trained = _padded(responses, module.device)
    encoder: Any = module.get_encoder()
    hidden = encoder(input_ids=read, attention_mask=readable).last_hidden_state
    # Padding comes after a response, and a decoder looks back only: it needs no mask of its own.
    output = module(
        encoder_outputs=(hidden[rows],),
        attention_mask=readable[rows],
        decoder_input_ids=shifted(module, said),
        use_cache=False,
    )
    return output.logits[trained.bool()]


def response_start(trajectory: Trajectory) -> int:
    """Where the one response begins. Raises UserError if something that is not trained on follows it."""
    start = trajectory.loss_mask.index(1)
    if not all(trajectory.loss_mask[start:]):
        raise UserError(
            f"problem {trajectory.problem_id!r}: an encoder-decoder learns from one turn an episode; set rollout.max_turns=1"
        )
    return start


def shifted(module: PreTrainedModel, said: Tensor) -> Tensor:
    """What the decoder reads to say `said` `[batch, tokens]`: its start token, then all but the last."""
    start = said.new_full((len(said), 1), module.config.decoder_start_token_id)
    return torch.cat([start, said[:, :-1]], dim=1)


def _padded(sequences: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and mask (1 at a token), `[sequences, longest]`, padded at the end."""
    mask = [torch.ones_like(sequence) for sequence in sequences]
    return pad_sequence(sequences, batch_first=True).to(device), pad_sequence(mask, batch_first=True).to(device)

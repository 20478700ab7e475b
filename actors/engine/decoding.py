"""Responses under way in a transformers model: one token a response a forward pass, with keys and values kept; no thread and no I/O.

Responses that begin together form a `Cohort` and stay of one length, so only prompts are padded: at their start in a decoder-only model, at their end
in an encoder. Invariants: a response's tokens depend on its own tokens alone, whatever else is in the batch; a log-probability is that of the
distribution the token was drawn from; keys and values that were forgotten are computed again from the tokens before the next one is drawn.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import EncoderDecoderCache, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput

from actors.engine.protocol import SamplingSettings

_SEED_STEP = 1_000_003  # more than any response has tokens, so that neighbouring seeds share no draw


def draw(
    logits: Tensor, sampling: Sequence[SamplingSettings], generator: torch.Generator | None = None, position: int = 0
) -> tuple[Tensor, Tensor]:
    """One token a row from `logits` `[rows, vocabulary]`: token ids `[rows]` and their log-probabilities `[rows]`.

    `position` counts the tokens that the responses have so far: with it, a row's own seed says what is drawn. A row of temperature 0 takes the likeliest token and reports its log-probability at temperature 1, as vLLM does.
    """
    temperature = torch.tensor([s.temperature or 1.0 for s in sampling], device=logits.device)
    greedy = torch.tensor([s.temperature == 0 for s in sampling], device=logits.device)
    top_p = torch.tensor([1.0 if s.temperature == 0 else s.top_p for s in sampling], device=logits.device)
    scaled = logits.float() / temperature[:, None]
    if bool((top_p < 1).any()):
        scaled = _nucleus(scaled, top_p)
    log_probs = scaled.log_softmax(-1)
    # The fastest of exponential clocks that run at the tokens' probabilities is a draw from them, and never one of probability 0.
    clocks = torch.empty_like(log_probs).exponential_(generator=generator)
    for row, settings in enumerate(sampling):
        if settings.seed is not None:
            own = torch.Generator(logits.device).manual_seed((settings.seed * _SEED_STEP + position) % 2**63)
            clocks[row].exponential_(generator=own)
    tokens = torch.where(greedy, log_probs.argmax(-1), (log_probs.exp() / clocks).argmax(-1))
    return tokens, log_probs.gather(1, tokens[:, None])[:, 0]


def _nucleus(logits: Tensor, top_p: Tensor) -> Tensor:
    """`logits` `[rows, vocabulary]` with minus infinity outside the fewest likeliest tokens whose probabilities reach `top_p` `[rows]`."""
    ordered, places = logits.sort(-1, descending=True)
    probabilities = ordered.softmax(-1)
    outside = probabilities.cumsum(-1) - probabilities >= top_p[:, None]
    outside &= (top_p < 1)[:, None]  # rounding must not cost a row of top_p 1 its unlikeliest tokens
    outside[:, 0] = False
    return logits.masked_fill(outside.scatter(1, places, outside), -torch.inf)


class Passes(Protocol):
    """Forward passes of one batch, keys and values between them included."""

    def begin(self, prompts: list[list[int]], responses: list[list[int]]) -> Tensor:
        """Read everything so far, responses `[rows][n]`; logits `[rows, vocabulary]` of the next tokens."""
        ...

    def go_on(self, tokens: Tensor) -> Tensor:
        """Read one token a row `[rows]`; logits `[rows, vocabulary]` of the next tokens."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows `[rows kept]` only."""
        ...

    def cache_bytes(self) -> int:
        """Bytes that keys and values take."""
        ...


def passes(model: PreTrainedModel) -> Passes:
    """What runs a batch through `model`."""
    return EncoderDecoderPasses(model) if model.config.is_encoder_decoder else DecoderPasses(model)


class DecoderPasses:
    """A decoder-only model: what is shared as a whole context is read once; shorter contexts are padded at their start."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        # A prompt's logits, which nobody needs, can take more memory than the model.
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def begin(self, prompts: list[list[int]], responses: list[list[int]]) -> Tensor:
        contexts, rows = _distinct([p + r for p, r in zip(prompts, responses, strict=True)], self._model.device)
        tokens, mask = _padded(contexts, self._model.device, at_start=True)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        output = self._model(
            input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=True, **self._last_only
        )
        self._mask, self._cache = mask, output.past_key_values
        self.keep(rows)
        return output.logits[rows, -1]

    def go_on(self, tokens: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        output = self._model(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(-1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
            **self._last_only,
        )
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)

    def cache_bytes(self) -> int:
        return _bytes(self._cache)


class EncoderDecoderPasses:
    """An encoder-decoder: the encoder reads each distinct prompt once, the decoder the response after its start token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def begin(self, prompts: list[list[int]], responses: list[list[int]]) -> Tensor:
        device = self._model.device
        distinct, rows = _distinct(prompts, device)
        tokens, mask = _padded(distinct, device, at_start=False)
        encoder: Any = self._model.get_encoder()
        hidden = encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        self._hidden, self._mask = hidden[rows], mask[rows]
        self._cache: Cache | None = None
        start = self._model.config.decoder_start_token_id
        return self._decode(torch.tensor([[start, *response] for response in responses], device=device))

    def go_on(self, tokens: Tensor) -> Tensor:
        return self._decode(tokens[:, None])

    def _decode(self, tokens: Tensor) -> Tensor:
        output = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._hidden),  # type: ignore[arg-type]
            attention_mask=self._mask,
            decoder_input_ids=tokens,
            past_key_values=self._cache,
            use_cache=True,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        assert self._cache is not None, "keep() follows begin()"
        self._hidden, self._mask = self._hidden[rows], self._mask[rows]
        self._cache.batch_select_indices(rows)

    def cache_bytes(self) -> int:
        assert isinstance(self._cache, EncoderDecoderCache)
        return _bytes(self._cache.self_attention_cache) + _bytes(self._cache.cross_attention_cache)


def _distinct(sequences: list[list[int]], device: torch.device) -> tuple[list[list[int]], Tensor]:
    """The different ones among `sequences`, and for each of them its place among those, `[sequences]`."""
    places: dict[tuple[int, ...], int] = {}
    rows = [places.setdefault(tuple(sequence), len(places)) for sequence in sequences]
    return [list(sequence) for sequence in places], torch.tensor(rows, device=device)


def _padded(sequences: list[list[int]], device: torch.device, *, at_start: bool) -> tuple[Tensor, Tensor]:
    """Token ids and mask (1 at a token, 0 at padding), both `[sequences, longest]`."""
    longest = max(len(sequence) for sequence in sequences)
    tokens, mask = [], []
    for sequence in sequences:
        nothing = [0] * (longest - len(sequence))
        ones = [1] * len(sequence)
        tokens.append([*nothing, *sequence] if at_start else [*sequence, *nothing])
        mask.append([*nothing, *ones] if at_start else [*ones, *nothing])
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)


def _bytes(cache: Cache) -> int:
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in kept if tensor is not None)


class Cohort:
    """Responses that began together: `[rows]` prompts, settings, and the tokens drawn so far, one list a row."""

    def __init__(self, model: PreTrainedModel, prompts: list[list[int]], sampling: list[SamplingSettings]) -> None:
        self._model, self._passes = model, passes(model)
        self._prompts, self._sampling = prompts, sampling
        self._responses: list[list[int]] = [[] for _ in prompts]
        self._last: Tensor | None = None  # [rows] the newest tokens, not read yet; None: nothing has been read

    def __len__(self) -> int:
        return len(self._prompts)

    def step(self, generator: torch.Generator | None = None) -> tuple[list[int], list[float]]:
        """Draw one token a row; token ids `[rows]` and log-probabilities `[rows]`."""
        last, forward = self._last, self._passes
        logits = forward.begin(self._prompts, self._responses) if last is None else forward.go_on(last)
        self._last, log_probs = draw(logits, self._sampling, generator, len(self._responses[0]))
        tokens = self._last.tolist()
        for response, token in zip(self._responses, tokens, strict=True):
            response.append(token)
        return tokens, log_probs.tolist()

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""
        self._prompts = [self._prompts[row] for row in rows]
        self._sampling = [self._sampling[row] for row in rows]
        self._responses = [self._responses[row] for row in rows]
        if self._last is not None and rows:
            index = torch.tensor(rows, device=self._last.device)
            self._last = self._last[index]
            self._passes.keep(index)

    def forget(self) -> None:
        """Throw keys and values away: the weights have changed, or their memory is needed."""
        self._last, self._passes = None, passes(self._model)


def score(model: PreTrainedModel, token_ids: list[int]) -> list[float]:
    """What `Engine.score` promises, from one forward pass."""
    tokens = torch.tensor([token_ids], device=model.device)
    if model.config.is_encoder_decoder:
        prompt, targets = tokens.tensor_split([len(token_ids) // 2], dim=1)
        start = targets.new_full((1, 1), model.config.decoder_start_token_id)
        said = torch.cat([start, targets[:, :-1]], dim=1)
        logits = model(input_ids=prompt, decoder_input_ids=said, use_cache=False).logits[0]
    else:
        targets = tokens[:, 1:]
        logits = model(input_ids=tokens, use_cache=False).logits[0, :-1]
    return logits.float().log_softmax(-1).gather(1, targets[0][:, None])[:, 0].tolist()


def bytes_per_token(model: PreTrainedModel) -> float:
    """Bytes of keys and values that one token takes, of a prompt or of a response, measured."""
    measured = passes(model)
    measured.begin([[0]], [[]])
    return measured.cache_bytes() / (2 if model.config.is_encoder_decoder else 1)

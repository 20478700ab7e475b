"""What an inference engine is to the rest of the house: token ids in, token ids with provenance out, new weights in flight.

Invariants: every sampled token carries its log-probability under the distribution it was sampled from and the policy version whose
weights sampled it; after `update_weights` returns, no token is sampled from older weights or from keys and values that older weights made.
`vllm.py` implements it for models that vLLM runs, `transformers.py` for encoder-decoders and the others; `choose.py` chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Backend = Literal["auto", "vllm", "transformers"]


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn. `temperature` 0 is greedy; with a `seed` the response does not depend on what else is sampled."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None = None


@dataclass(frozen=True)
class Completion:
    """One sampled response: three lists of one length, `[response tokens]`, the end token included."""

    token_ids: list[int]
    log_probs: list[float]
    policy_versions: list[int]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class EngineSettings:
    """Everything an engine needs to start; plain values, so that it crosses processes."""

    model_path: str
    dtype: str
    max_model_tokens: int
    max_sequences: int
    kv_cache_gib: float
    gpu_memory_share: float
    threads: int
    seed: int
    policy_version: int = 0
    backend: Backend = "auto"
    tensor_parallel: int = 1
    """Over how many GPUs a model is split."""
    metrics_name: str | None = None
    """What vLLM's own metrics are exported under, by way of Ray; None: they are not."""
    sleep_mode: bool = False
    """It is to be able to give a GPU's memory back."""


class EngineError(Exception):
    """The engine is unusable and must be replaced; the text says why."""


class Engine(Protocol):
    """A running engine. All coroutines belong to one event loop."""

    @property
    def policy_version(self) -> int:
        """The version of the weights that sample the next token."""
        ...

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        """Sample one response. Raises EngineError if the engine has died."""
        ...

    async def score(self, token_ids: list[int]) -> list[float]:
        """Log-probability of each token after the first, `[tokens - 1]`, under the current weights at temperature 1.

        An encoder-decoder, for which no one sequence is prompt and response, reads the first half (`tokens // 2`) in its encoder and is scored on
        the rest, `[tokens - tokens // 2]`.
        """
        ...

    async def update_weights(self, source: dict[str, str], policy_version: int) -> float:
        """Take the weights that `source` names and return the seconds that generation stood still.

        Requests under way go on with the new weights, and an engine that sleeps wakes with them. Raises EngineError if it failed: the engine is then unusable.
        """
        ...

    async def sleep(self) -> None:
        """Give the memory of weights, keys and values back until `wake`: no token is sampled, requests wait where they are, new ones too.

        Nothing to an engine that sleeps. Raises EngineError if it failed: the engine is then unusable.
        """
        ...

    async def wake(self) -> None:
        """Go on with the weights from before. Nothing to an engine that is awake. Raises EngineError if it failed."""
        ...

    def gauges(self) -> dict[str, float]:
        """Counters and levels for the metrics."""
        ...

    async def shutdown(self) -> None:
        """End the engine's processes and threads."""
        ...

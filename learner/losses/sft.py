"""Supervised fine-tuning: cross-entropy on reference programs, the warm start that RLTF and its kin begin from.

Invariant: sampled programs weigh nothing; with rollout.samples_per_problem=0 none are sampled.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from buffer.trajectory import Group
from learner.losses.base import LossOutput, PolicyLoss, TokenBatch, normalise


class Settings(BaseModel):
    """How tokens are averaged."""

    model_config = ConfigDict(extra="forbid")

    normalise: Literal["token", "sequence"] = Field(
        default="token",
        description="token: divide by all tokens of the batch; sequence: mean over programs of token means.",
    )


class Loss(PolicyLoss):
    """Minus the log-probability of the references' tokens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def supervised(self) -> bool:
        return True

    def trains(self, step: int, role: str) -> bool:
        return role == "reference"

    def advantages(self, group: Group) -> list[list[float]]:
        return [[float(m) if t.role == "reference" else 0.0 for m in t.loss_mask] for t in group.trajectories]

    def loss(self, tokens: TokenBatch) -> LossOutput:
        return LossOutput(normalise(-tokens.advantages * tokens.log_probs, tokens, self._settings.normalise))

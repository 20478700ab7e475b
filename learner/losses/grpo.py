"""GRPO: the group's own mean as the baseline, a clipped ratio as the trust region (arXiv 2402.03300; Dr. GRPO with std "none")."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from buffer.trajectory import Group
from learner.advantages import group_relative, leave_one_out
from learner.losses.base import LossOutput, PolicyLoss, TokenBatch, importance_weights, normalise


class Settings(BaseModel):
    """How the advantage and the clip are made."""

    model_config = ConfigDict(extra="forbid")

    baseline: Literal["group_mean", "leave_one_out"] = Field(
        default="group_mean",
        description="What a reward is compared with: the group's mean, or the mean of the others (RLOO; with std=none).",
    )
    std: Literal["sample", "population", "none"] = Field(
        default="sample", description="Deviation that rewards are divided by."
    )
    eps: float = Field(default=1e-6, gt=0, description="Added to the deviation.")
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="The ratio is clipped below 1 - clip_low.")
    clip_high: float = Field(default=0.2, gt=0, description="The ratio is clipped above 1 + clip_high.")
    importance_cap: float = Field(
        default=2.0, ge=0, description="Cap of truncated importance sampling; 0 turns it off."
    )
    normalise: Literal["token", "sequence", "constant"] = Field(
        default="sequence",
        description="sequence: mean over trajectories of token means (the paper); token: mean over all tokens (DAPO); "
        "constant: mean over trajectories of token sums divided by constant_length (Dr. GRPO).",
    )
    constant_length: int = Field(
        default=512, ge=1, description="Tokens that normalise=constant divides by: the response limit."
    )

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.baseline == "leave_one_out" and self.std != "none":
            raise ValueError(f"baseline=leave_one_out divides by nothing and std={self.std} does: set std=none")
        return self


class Loss(PolicyLoss):
    """min(ratio * A, clip(ratio) * A), corrected for who sampled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def advantages(self, group: Group) -> list[list[float]]:
        relative = iter(self._relative([t.reward for t in group.sampled]))
        values = [next(relative) if t.role == "sampled" else 0.0 for t in group.trajectories]
        return [[value * m for m in t.loss_mask] for value, t in zip(values, group.trajectories, strict=True)]

    def _relative(self, rewards: list[float]) -> list[float]:
        if self._settings.baseline == "leave_one_out" and len(rewards) > 1:
            return leave_one_out(rewards)
        return group_relative(rewards, self._settings.std, self._settings.eps)

    def loss(self, tokens: TokenBatch) -> LossOutput:
        settings = self._settings
        weights, metrics = importance_weights(tokens, settings.importance_cap)
        ratio = (tokens.log_probs - tokens.old_log_probs).exp()
        clipped = ratio.clamp(1 - settings.clip_low, 1 + settings.clip_high)
        per_token = -weights * (ratio * tokens.advantages).minimum(clipped * tokens.advantages)
        metrics["clipped_sum"] = (ratio != clipped).float().sum()
        return LossOutput(normalise(per_token, tokens, settings.normalise, settings.constant_length), metrics)

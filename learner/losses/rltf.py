"""RLTF's policy loss (arXiv 2307.04349, eqs 1 to 10): REINFORCE with a baseline, plus a penalty on the failing line's tokens.

Paper mode: a token's credit is (R_coarse - B_coarse) + (R_adaptive - B_adaptive) + [token in span] * alpha * R_fine with alpha = T / (E - S), capped;
the loss is minus the sum of credit times log-probability, over the batch's total. Code mode is what the released training code computes with its
critic left out: the rewards are one sum and alpha is 1. A masked token has no credit in either; it counts in the totals that the loss is divided by,
so that masking changes no other token's weight. Tokens sampled by an older policy are corrected: by truncated importance sampling
(objective=reinforce), or by PPO's clipped ratio to the policy that sampled them (objective=clipped; with the cap of dual-clip PPO, arXiv 1912.09729).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from buffer.trajectory import Group, Trajectory
from learner.losses.base import LossOutput, PolicyLoss, TokenBatch, importance_weights, normalise

if TYPE_CHECKING:
    from torch import Tensor


class Settings(BaseModel):
    """Baseline, spans and the supervised term."""

    model_config = ConfigDict(extra="forbid")

    baseline: Literal["group_mean", "best_so_far", "latest_greedy", "none"] = Field(
        default="group_mean",
        description="What a reward is compared with: the group's mean, the best earlier program for the problem (the paper), the newest greedy "
        "one (the released code), nothing. Without an earlier program the group's mean serves.",
    )
    mode: Literal["paper", "code"] = Field(
        default="paper", description="paper: the published equations; code: the released training code."
    )
    objective: Literal["reinforce", "clipped"] = Field(
        default="reinforce",
        description="reinforce: credit times log-probability (the paper); clipped: a token moves no further once its probability has left "
        "[1 - clip_low, 1 + clip_high] of what it was sampled with, which bounds what an old sample can do.",
    )
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="With objective=clipped: bound below.")
    clip_high: float = Field(default=0.2, gt=0, description="With objective=clipped: bound above.")
    alpha_cap: float = Field(default=4.0, ge=1, description="Largest weight of a span's tokens, T / (E - S) uncapped.")
    supervised_weight: float = Field(
        default=0.0, ge=0, description="Weight of cross-entropy on reference programs; 0 leaves it out."
    )
    supervised_mode: Literal["sum", "alternate"] = Field(
        default="sum",
        description="sum: every step learns from references and samples; alternate: odd steps from samples, even ones from references.",
    )
    importance_cap: float = Field(
        default=2.0,
        ge=0,
        description="Cap of truncated importance sampling; 0 turns it off. With objective=clipped: the largest ratio of a token with negative "
        "credit; 0 for none.",
    )
    normalise: Literal["token", "sequence"] = Field(
        default="token",
        description="token: divide by all tokens of the batch; sequence: mean over trajectories of token means.",
    )


def alpha(length: int, start: int, end: int, cap: float) -> float:
    """Weight of a span's tokens (RLTF eq. 9): T / (E - S), at most `cap`."""
    return min(length / (end - start), cap)


def paper_credit(
    relative: float, length: int, spans: Sequence[tuple[int, int, float]], alpha_cap: float
) -> list[float]:
    """Credit of each of `length` tokens: the relative reward, plus alpha * R_fine where a span `(start, end, R_fine)` lies."""
    credit = [relative] * length
    for start, end, value in spans:
        weight = alpha(length, start, end, alpha_cap)
        for index in range(start, end):
            credit[index] += weight * value
    return credit


def code_credit(
    relative: float,
    length: int,
    spans: Sequence[tuple[int, int, float]],
    critic: Sequence[float] | None = None,
    fine_type: Literal[0, 1] = 1,
) -> list[float]:
    """Credit as the released code computes it: q * (R - R_base + fine) for type 1, q * (R - R_base) + fine for type 0.

    `critic` is CodeRL's probability of the true outcome, a token each; without a critic it is 1.
    """
    fine = [0.0] * length
    for start, end, value in spans:
        for index in range(start, end):
            fine[index] = value
    confidence = critic if critic is not None else [1.0] * length
    if fine_type == 1:
        return [q * (relative + f) for q, f in zip(confidence, fine, strict=True)]
    return [q * relative + f for q, f in zip(confidence, fine, strict=True)]


class Loss(PolicyLoss):
    """Minus credit times log-probability."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def supervised(self) -> bool:
        return self._settings.supervised_weight > 0

    def trains(self, step: int, role: str) -> bool:
        if self.supervised and self._settings.supervised_mode == "alternate":
            return role == ("sampled" if step % 2 else "reference")
        return True

    @property
    def baseline_needs_greedy(self) -> bool:
        return self._settings.baseline == "latest_greedy"

    def advantages(self, group: Group) -> list[list[float]]:
        baseline = self._baseline(group)
        return [self._credit(trajectory, baseline) for trajectory in group.trajectories]

    def _baseline(self, group: Group) -> dict[str, float]:
        if self._settings.baseline == "none":
            return {}
        if self._settings.baseline == "latest_greedy":
            own = [turn.components for t in group.trajectories if t.role == "greedy" for turn in t.turns]
            if own:
                return own[-1]
        known = group.baselines.get(self._settings.baseline)
        if known:
            return known
        return group.baselines.get("group_mean") or group.mean_components()

    def _credit(self, trajectory: Trajectory, baseline: dict[str, float]) -> list[float]:
        length = len(trajectory.token_ids)
        if trajectory.role == "reference":
            return [self._settings.supervised_weight * m for m in trajectory.loss_mask]
        credit = [0.0] * length
        if trajectory.role == "greedy":
            return credit
        for turn in trajectory.turns:
            size = turn.end - turn.start
            relative = sum(value - baseline.get(name, 0.0) for name, value in turn.components.items())
            spans = [(s.start - turn.start, s.end - turn.start, s.value) for s in turn.spans if s.kind == "penalty"]
            if self._settings.mode == "paper":
                credit[turn.start : turn.end] = paper_credit(relative, size, spans, self._settings.alpha_cap)
            else:
                credit[turn.start : turn.end] = code_credit(relative, size, spans)
            for mask in (s for s in turn.spans if s.kind == "mask"):
                credit[mask.start : mask.end] = [0.0] * (mask.end - mask.start)
        return [value * m for value, m in zip(credit, trajectory.loss_mask, strict=True)]

    def loss(self, tokens: TokenBatch) -> LossOutput:
        weights, metrics = importance_weights(tokens, self._settings.importance_cap)
        clipped = self._settings.objective == "clipped"
        objective = self._clipped(tokens, metrics) if clipped else weights * tokens.advantages * tokens.log_probs
        return LossOutput(normalise(-objective, tokens, self._settings.normalise), metrics)

    def _clipped(self, tokens: TokenBatch, metrics: dict[str, Tensor]) -> Tensor:
        """PPO's objective a token, `[tokens]`; a reference's token, which nobody sampled, counts as sampled by the policy itself."""
        behaviour = tokens.behaviour_log_probs.where(~tokens.supervised, tokens.log_probs.detach())
        ratio = (tokens.log_probs - behaviour).exp()
        credit, cap = tokens.advantages, self._settings.importance_cap
        clipped = ratio.clamp(1 - self._settings.clip_low, 1 + self._settings.clip_high)
        objective = (ratio * credit).minimum(clipped * credit)
        if cap:
            objective = objective.where(credit >= 0, objective.maximum(max(cap, 1 + self._settings.clip_high) * credit))
        metrics["clipped_sum"] = (objective != ratio * credit).float().sum()
        return objective

"""RLEF's losses (arXiv 2410.02089, section 2.3 and appendix A.1; golden B01, B03, B04): PPO with a policy by the token and a value by the turn.

A turn is one action: its return is what its reward and those of later turns come to, each less beta times how much likelier the policy makes the
response than the reference policy does, by the mean over its tokens; its value is read at the last token before it; the difference is the advantage
of all its tokens. Feedback and prompts are not trained on. Two alternatives to compare with: a value by the token, and no
value but the mean over the group's episodes (GRPO). Not in the paper: a supervised term, without which a small model has too little to begin with.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from buffer.trajectory import Group, Trajectory
from learner.advantages import group_relative
from learner.losses.base import Credit, CriticSettings, LossOutput, PolicyLoss, Scored, TokenBatch, normalise

if TYPE_CHECKING:
    from torch import Tensor

_EPS = 1e-6


class Settings(BaseModel):
    """Value, penalty and clips."""

    model_config = ConfigDict(extra="forbid")

    value: Literal["turn", "token", "group"] = Field(
        default="turn",
        description="What a return is compared with: the critic's value of the turn (the paper) or of the token, or the mean over the group's "
        "episodes, divided by their deviation, without a critic (GRPO).",
    )
    value_network: Literal["own", "shared"] = Field(
        default="own",
        description="own: a network of its own, started from the same model (the paper); shared: a head on the policy's trunk, for next to no memory.",
    )
    value_learning_rate: float = Field(default=2e-5, gt=0, lt=1, description="Learning rate of the critic.")
    value_weight: float = Field(
        default=1.0, gt=0, description="Weight of the value loss; it matters where the trunk is shared."
    )
    value_clip: float = Field(
        default=0.2, ge=0, description="The value loss sees no move of a value beyond this; 0 turns it off."
    )
    reference_penalty: float = Field(
        default=0.05, ge=0, description="beta: price of leaving the reference policy; 0 does without one."
    )
    discount: float = Field(default=1.0, gt=0, le=1, description="gamma, by the turn.")
    clip_low: float = Field(default=0.2, gt=0, lt=1, description="The ratio is clipped below 1 - clip_low.")
    clip_high: float = Field(default=0.2, gt=0, description="The ratio is clipped above 1 + clip_high.")
    normalise_advantages: Literal["step", "group", "none"] = Field(
        default="step",
        description="step: advantages of all turns of a step get mean 0 and deviation 1; group: those of each problem get mean 0, all of the step "
        "deviation 1, which tells a good answer from an easy problem before the critic can; value=group has its own.",
    )
    supervised_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of cross-entropy on reference programs, as in RLTF; 0 (the paper) leaves it out.",
    )
    normalise: Literal["token", "sequence"] = Field(
        default="token",
        description="token: divide by all tokens of the update; sequence: mean over episodes of token means.",
    )


def turn_returns(rewards: Sequence[float], divergences: Sequence[float], beta: float, discount: float) -> list[float]:
    """G_t of each turn: what R_t = r_t - beta * divergence_t and the discounted R of later turns come to (golden B01)."""
    returns: list[float] = []
    following = 0.0
    for reward, divergence in zip(reversed(rewards), reversed(divergences), strict=True):
        following = reward - beta * divergence + discount * following
        returns.append(following)
    return returns[::-1]


def ratio(log_probs: Tensor, old_log_probs: Tensor, behaviour_log_probs: Tensor) -> Tensor:
    """pi / pi_old * min(pi / pi_behaviour, 1), the second factor without gradient, `[tokens]` (golden B03)."""
    return (log_probs - old_log_probs).exp() * (log_probs.detach() - behaviour_log_probs).exp().clamp(max=1.0)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """1/2 max((V - G)^2, (clip(V, V_old +- clip) - G)^2), `[tokens]` (golden B04); without the clip where it is 0."""
    error = (values - returns).square()
    if clip:
        near = values.clamp(old_values - clip, old_values + clip)
        error = error.maximum((near - returns).square())
    return 0.5 * error


class Loss(PolicyLoss):
    """PPO over turns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def supervised(self) -> bool:
        return self._settings.supervised_weight > 0

    def trains(self, step: int, role: str) -> bool:
        return role == "sampled" or self.supervised

    @property
    def reference_policy(self) -> bool:
        return self._settings.reference_penalty > 0

    @property
    def critic(self) -> CriticSettings | None:
        if self._settings.value == "group":
            return None
        return CriticSettings(self._settings.value_network, self._settings.value_learning_rate)

    def credits(self, groups: Sequence[tuple[Group, Sequence[Scored]]]) -> tuple[list[list[Credit]], dict[str, float]]:
        divergences: list[float] = []
        batch = [[self._returns(s, divergences) for s in scored] for _, scored in groups]
        if self._settings.value == "group":
            credits = [self._relative(scored, rows) for (_, scored), rows in zip(groups, batch, strict=True)]
        else:
            credits = [
                [self._valued(s, row) for s, row in zip(scored, rows, strict=True)]
                for (_, scored), rows in zip(groups, batch, strict=True)
            ]
            if self._settings.normalise_advantages != "none":
                scope = self._settings.normalise_advantages
                credits = _normalised(credits, [list(scored) for _, scored in groups], scope)
        metrics = {"reference_divergence": fmean(divergences)} if divergences else {}
        return credits, metrics

    def _returns(self, scored: Scored, divergences: list[float]) -> list[float]:
        """The return of each turn; what each diverges from the reference is added to `divergences`."""
        trajectory = scored.trajectory
        if trajectory.role != "sampled":
            return []
        own = [0.0] * len(trajectory.turns)
        if scored.reference_log_probs is not None:
            for number, turn in enumerate(trajectory.turns):
                tokens = slice(turn.start, turn.end)
                own[number] = fmean(trajectory.log_probs[tokens]) - fmean(scored.reference_log_probs[tokens])
            divergences += own
        rewards = [turn.reward for turn in trajectory.turns]
        return turn_returns(rewards, own, self._settings.reference_penalty, self._settings.discount)

    def _valued(self, scored: Scored, returns: list[float]) -> Credit:
        """Advantages over the critic's values, by the turn or by the token."""
        length = len(scored.trajectory.token_ids)
        if not returns:
            return Credit(self._supervised_credit(scored.trajectory), [0.0] * length, [0] * length)
        assert scored.values is not None, "the learner has the critic that was asked for"
        advantages, targets, mask = [0.0] * length, [0.0] * length, [0] * length
        for turn, value in zip(scored.trajectory.turns, returns, strict=True):
            for index in range(turn.start, turn.end):
                first = self._settings.value == "token" or index == turn.start
                advantages[index] = value - scored.values[index if self._settings.value == "token" else turn.start]
                targets[index], mask[index] = value, int(first)
        return Credit(advantages, targets, mask)

    def _relative(self, scored: Sequence[Scored], returns: Sequence[Sequence[float]]) -> list[Credit]:
        """Advantages of whole episodes over those of the group."""
        sampled = [row[0] for row in returns if row]
        relative = iter(group_relative(sampled, "sample", _EPS))
        credits = []
        for s, row in zip(scored, returns, strict=True):
            if row:
                value = next(relative)
                credits.append(Credit([value * mask for mask in s.trajectory.loss_mask]))
            else:
                credits.append(Credit(self._supervised_credit(s.trajectory)))
        return credits

    def _supervised_credit(self, trajectory: Trajectory) -> list[float]:
        """Of what the policy did not sample, `[tokens]`."""
        weight = self._settings.supervised_weight if trajectory.role == "reference" else 0.0
        return [weight * mask for mask in trajectory.loss_mask]

    def loss(self, tokens: TokenBatch) -> LossOutput:
        settings = self._settings
        # A reference's token, which nobody sampled, counts as sampled by the policy itself: its ratio is 1, its gradient cross-entropy's.
        now = tokens.log_probs.detach()
        old, behaviour = (
            before.where(~tokens.supervised, now) for before in (tokens.old_log_probs, tokens.behaviour_log_probs)
        )
        ratios = ratio(tokens.log_probs, old, behaviour)
        clipped = ratios.clamp(1 - settings.clip_low, 1 + settings.clip_high)
        objective = (ratios * tokens.advantages).minimum(clipped * tokens.advantages)
        loss = normalise(-objective, tokens, settings.normalise)
        mismatch = (old - behaviour).detach()
        metrics = {
            "clipped_sum": (objective != ratios * tokens.advantages).float().sum(),
            "log_prob_mismatch_sum": mismatch.abs().sum(),
            "importance_ratio_sum": mismatch.exp().sum(),
        }
        if tokens.values is None:
            return LossOutput(loss, metrics)
        assert tokens.old_values is not None and tokens.returns is not None and tokens.value_mask is not None
        errors = clipped_value_loss(tokens.values, tokens.old_values, tokens.returns, settings.value_clip)
        value_loss = (errors * tokens.value_mask).sum() / tokens.batch_values
        metrics["value_loss"] = value_loss.detach()
        return LossOutput(loss + settings.value_weight * value_loss, metrics)


def _normalised(
    credits: list[list[Credit]], scored: list[list[Scored]], scope: Literal["step", "group"]
) -> list[list[Credit]]:
    """Advantages less their mean over `scope`, divided by what is left of deviation in the step; a turn counts once however long, a token where
    values are by the token."""
    by_group = [
        [a for credit in row for a, counts in zip(credit.advantages, credit.value_mask or [], strict=False) if counts]
        for row in credits
    ]
    everything = [a for group in by_group for a in group]
    if len(everything) < 2:
        return credits
    means = [fmean((group if scope == "group" else everything) or [0.0]) for group in by_group]
    centred = [a - mean for group, mean in zip(by_group, means, strict=True) for a in group]
    deviation = pstdev(centred) + _EPS
    return [
        [
            Credit(
                [(a - mean) / deviation * m for a, m in zip(c.advantages, s.trajectory.loss_mask, strict=True)],
                c.returns,
                c.value_mask,
            )
            if s.trajectory.role == "sampled"
            else c
            for c, s in zip(row, members, strict=True)
        ]
        for row, members, mean in zip(credits, scored, means, strict=True)
    ]

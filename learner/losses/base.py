"""What a policy loss is: groups in, advantages out; tokens in, a number to minimise out; found by name.

Invariants: this folder's files are the losses there are (base.py apart); a file here has `Settings` (a pydantic model) and `Loss` and imports no torch
at run time, so that the configuration can check its settings; a loss is divided by totals of the whole update, so micro-batches add up.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from buffer.trajectory import Group, Trajectory

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CriticSettings:
    """A network that estimates returns, trained beside the policy."""

    network: Literal["own", "shared"]
    """own: a copy of the model with one number for a head; shared: such a head on the policy's own trunk."""
    learning_rate: float
    """Of what is not the policy's."""


@dataclass(frozen=True)
class Scored:
    """A trajectory with what was computed of it before the first update; lists are `[tokens]`, 0 where no token is trained."""

    trajectory: Trajectory
    reference_log_probs: list[float] | None = None  # under the reference policy
    values: list[float] | None = None  # the critic's estimate of what is still to come, before the token is chosen


@dataclass(frozen=True)
class Credit:
    """What the tokens of a trajectory are worth; lists are `[tokens]`."""

    advantages: list[float]  # 0 where the loss mask is 0
    returns: list[float] | None = None  # what the critic should have said
    value_mask: list[int] | None = None  # 1 where the critic learns


@dataclass
class TokenBatch:
    """The trained tokens of one micro-batch; every tensor is `[tokens]`."""

    log_probs: Tensor  # under the current policy, with gradient
    old_log_probs: Tensor  # under the policy at the start of the step, without
    behaviour_log_probs: Tensor  # when the token was sampled; 0 for a reference's token
    advantages: Tensor
    supervised: Tensor  # bool: the token belongs to a reference
    trajectory_length: Tensor  # trained tokens of the token's trajectory
    batch_tokens: float  # trained tokens of the update
    batch_trajectories: float  # trajectories of the update
    values: Tensor | None = None  # of the critic, with gradient; None without one, as are the next three
    old_values: Tensor | None = None  # at the start of the step
    returns: Tensor | None = None
    value_mask: Tensor | None = None  # 1 where the critic learns
    batch_values: float = 0.0  # ones in the value masks of the update


@dataclass
class LossOutput:
    """A loss already divided by the batch's total; metrics named `..._sum` are sums over tokens."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


def importance_weights(tokens: TokenBatch, cap: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Truncated importance sampling: min(pi_old / pi_behaviour, cap) a token, without gradient; a reference's token has weight 1.

    `cap` 0 turns the correction off. The metrics tell how far learner and engine disagree.
    """
    difference = (tokens.old_log_probs - tokens.behaviour_log_probs).detach()
    difference = difference.masked_fill(tokens.supervised, 0.0)
    ratio = difference.exp()
    metrics = {
        "log_prob_mismatch_sum": difference.abs().sum(),
        "importance_ratio_sum": ratio.sum(),
        "importance_capped_sum": (ratio > cap).float().sum() if cap else ratio.new_zeros(()),
    }
    return (ratio.clamp(max=cap) if cap else ratio.new_ones(ratio.shape)), metrics


def normalise(
    per_token: Tensor, tokens: TokenBatch, how: Literal["token", "sequence", "constant"], constant: float = 1.0
) -> Tensor:
    """These tokens' part of the batch's loss.

    "token": the sum over tokens divided by the batch's tokens (DAPO); "sequence": the mean over trajectories of their token means (GRPO);
    "constant": the mean over trajectories of their token sums divided by `constant` (Dr. GRPO).
    """
    if how == "token":
        return per_token.sum() / tokens.batch_tokens
    if how == "constant":
        return per_token.sum() / (tokens.batch_trajectories * constant)
    return (per_token / tokens.trajectory_length).sum() / tokens.batch_trajectories


class PolicyLoss:
    """What `Loss` in a file of this folder extends. It has `loss`, and `advantages` or, if a group alone does not tell them, `credits`."""

    @property
    def supervised(self) -> bool:
        """Whether groups should hold a reference solution."""
        return False

    @property
    def baseline_needs_greedy(self) -> bool:
        """Whether groups should hold a greedy sample."""
        return False

    @property
    def reference_policy(self) -> bool:
        """Whether it needs log-probabilities under the policy that training began from."""
        return False

    @property
    def critic(self) -> CriticSettings | None:
        """The critic that it needs; None for none."""
        return None

    def trains(self, step: int, role: str) -> bool:
        """Whether step `step`, counted from 1, learns from "sampled" or from "reference" trajectories, as far as the batch has both."""
        return role == "sampled"

    def advantages(self, group: Group) -> list[list[float]]:
        """A credit for every token of every trajectory, `[trajectories][tokens]`; 0 where the loss mask is 0."""
        raise NotImplementedError

    def credits(self, groups: Sequence[tuple[Group, Sequence[Scored]]]) -> tuple[list[list[Credit]], dict[str, float]]:
        """The credit of every trajectory of a step's groups, and metrics of them."""
        return [[Credit(a) for a in self.advantages(group)] for group, _ in groups], {}

    def loss(self, tokens: TokenBatch) -> LossOutput:
        """The part of the update's loss that these tokens make."""
        raise NotImplementedError


class LossModule(Protocol):
    """A file of this folder."""

    Settings: type[BaseModel]
    Loss: Callable[[Any], PolicyLoss]


def names() -> list[str]:
    """The losses there are."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "base"))


def make(name: str, settings: Mapping[str, Any]) -> PolicyLoss:
    """The loss of algorithm `name` with these settings. Raises ValueError."""
    module = load(name)
    return module.Loss(module.Settings.model_validate(settings))


def load(name: str) -> LossModule:
    """The loss file of algorithm `name`. Raises ValueError naming what exists."""
    if name not in names():
        raise ValueError(f"algorithm.name={name!r}: there is no such loss; there are {', '.join(names())}")
    return importlib.import_module(f"learner.losses.{name}")  # type: ignore[return-value]

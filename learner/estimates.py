"""What is known of a step's trajectories before its first update, and the credit that follows from it.

Invariant: what is estimated here is not changed by the step's updates: they all learn from the same old log-probabilities, values and advantages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance

import torch

from buffer.trajectory import Group, Trajectory
from learner.critic import Critic
from learner.losses.base import Credit, PolicyLoss, Scored
from learner.model import Policy
from learner.packing import PackedSequence, WeightedTrajectory, pack
from learner.reference import ReferencePolicy

Estimates = Mapping[int, Mapping[str, list[float]]]
"""By identity of a trajectory and name (old_log_probs, reference_log_probs, values): a number a token, `[tokens]`."""


@dataclass(frozen=True)
class Estimator:
    """The models that are asked before a step's first update."""

    policy: Policy
    reference: ReferencePolicy | None
    critic: Critic | None
    several_updates: bool
    """The policy's own log-probabilities are wanted, since the first update changes them."""
    max_tokens: int
    """Of a forward pass."""

    @torch.no_grad()
    def __call__(self, groups: Sequence[Sequence[Trajectory]], aborted: Callable[[], bool]) -> Estimates | None:
        """Estimates of all trajectories; None once `aborted`."""
        found: dict[int, dict[str, list[float]]] = {id(t): {} for group in groups for t in group}
        if not (self.reference or self.critic or self.several_updates):
            return found
        weights = self.reference.weights_for(self.policy) if self.reference else None
        members = [[WeightedTrajectory(t, [0.0] * len(t.token_ids)) for t in group] for group in groups]
        for sequence in pack(members, self.max_tokens):
            if aborted():
                return None
            for name, values in self._of(sequence, weights).items():
                for member, row in zip(sequence.members, sequence.by_member(values.tolist()), strict=True):
                    found[id(member.trajectory)][name] = row
        return found

    def _of(self, sequence: PackedSequence, weights: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
        estimates: dict[str, torch.Tensor] = {}
        states = None
        if weights is not None:
            estimates["reference_log_probs"] = self.policy.predict(sequence, weights)[0]
        if self.several_updates or (self.critic is not None and self.critic.trunk is None):
            estimates["old_log_probs"], states = self.policy.predict(sequence)
        if self.critic is not None:
            estimates["values"] = self.critic.values(sequence, states)
        return estimates


def credited(
    loss: PolicyLoss, groups: Sequence[Group], estimates: Estimates
) -> tuple[list[tuple[Group, list[WeightedTrajectory]]], dict[str, float]]:
    """The groups with the credit that `loss` gives every token of all their trajectories, and metrics of it."""
    scored = [(group, [_scored(t, estimates.get(id(t), {})) for t in group.trajectories]) for group in groups]
    credits, metrics = loss.credits(scored)
    batch = [
        (group, [_weighted(t, c, estimates.get(id(t), {})) for t, c in zip(group.trajectories, row, strict=True)])
        for group, row in zip(groups, credits, strict=True)
    ]
    return batch, metrics | critic_metrics([m for _, members in batch for m in members])


def _scored(trajectory: Trajectory, known: Mapping[str, list[float]]) -> Scored:
    return Scored(trajectory, known.get("reference_log_probs"), known.get("values"))


def _weighted(trajectory: Trajectory, credit: Credit, known: Mapping[str, list[float]]) -> WeightedTrajectory:
    columns: dict[str, Sequence[float]] = {name: known[name] for name in ("old_log_probs", "values") if name in known}
    if credit.returns is not None and credit.value_mask is not None:
        columns |= {"returns": credit.returns, "value_mask": credit.value_mask}
    return WeightedTrajectory(trajectory, credit.advantages, columns)


def critic_metrics(members: Sequence[WeightedTrajectory]) -> dict[str, float]:
    """What the critic's estimates were worth before the step: the share of the returns' variance that they explain (1: all; 0 or
    less: no more than their mean does)."""
    known = [m.columns for m in members if {"values", "returns", "value_mask"} <= set(m.columns)]
    pairs = [
        (value, target)
        for columns in known
        for value, target, counts in zip(columns["values"], columns["returns"], columns["value_mask"], strict=True)
        if counts
    ]
    if not pairs:
        return {}
    targets = [target for _, target in pairs]
    spread = pvariance(targets)
    left = pvariance([target - value for value, target in pairs])
    return {
        "value_mean": fmean(value for value, _ in pairs),
        "return_mean": fmean(targets),
        "value_explained": 1 - left / spread if spread else 0.0,
    }

"""Trajectories into packed sequences: the tokens that a group's trajectories share at their start are computed once.

A packed sequence is one row of tokens made of blocks. A block is a shared prefix (the prompt) followed by branches (what each trajectory
says after it). A branch sees its own block's prefix and itself, nothing else, and its positions go on from the prefix, so every token
gets the hidden state it would have had alone. Invariants: packing changes no log-probability beyond rounding; a trained token is
predicted from the token before it in its own trajectory; nothing is padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from buffer.trajectory import Trajectory


@dataclass(frozen=True)
class WeightedTrajectory:
    """A trajectory with what its tokens are worth: `advantages` and every column are `[tokens]`, aligned with its token ids."""

    trajectory: Trajectory
    advantages: list[float]
    columns: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """More that is to be known of trained tokens, by name; all members of a batch have the same names."""

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return sum(self.trajectory.loss_mask)


class Segment(NamedTuple):
    """Neighbouring tokens of a packed sequence of which each sees those before it in the segment and all of a prefix."""

    prefix_start: int
    prefix_end: int
    """Where the prefix is; equal for none."""
    start: int
    end: int


@dataclass
class PackedSequence:
    """One forward pass. T is its number of tokens, N the number of trained ones among them."""

    token_ids: list[int] = field(default_factory=list)  # [T]
    positions: list[int] = field(default_factory=list)  # [T]
    segments: list[Segment] = field(default_factory=list)  # prefixes and branches, in the order of their tokens
    predictors: list[int] = field(default_factory=list)  # [N] index of the token that predicts
    targets: list[int] = field(default_factory=list)  # [N] the token predicted
    behaviour_log_probs: list[float] = field(default_factory=list)  # [N]
    advantages: list[float] = field(default_factory=list)  # [N]
    supervised: list[bool] = field(default_factory=list)  # [N]
    trajectory_lengths: list[float] = field(default_factory=list)  # [N] trained tokens of the token's trajectory
    columns: dict[str, list[float]] = field(default_factory=dict)  # [N] each
    members: list[WeightedTrajectory] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.token_ids)

    def attention_mask(self, device: torch.device | str = "cpu") -> Tensor:
        """`[1, 1, T, T]` bool, True where the row's token may see the column's."""
        mask = torch.zeros(len(self), len(self), dtype=torch.bool, device=device)
        for prefix_start, prefix_end, start, end in self.segments:
            mask[start:end, prefix_start:prefix_end] = True
            mask[start:end, start:end] = True
        return mask.tril()[None, None]

    def add_block(self, members: Sequence[WeightedTrajectory], prefix_length: int) -> None:
        """Append a block of trajectories that agree in their first `prefix_length` tokens."""
        prefix_start = len(self)
        self._extend(members[0].trajectory.token_ids[:prefix_length], 0, prefix_start)
        for member in members:
            trajectory = member.trajectory
            branch_start = len(self)
            self._extend(trajectory.token_ids[prefix_length:], prefix_length, prefix_start)
            length = float(member.trained_tokens)
            for index, trained in enumerate(trajectory.loss_mask):
                if not trained:
                    continue
                before = index - 1
                self.predictors.append(
                    prefix_start + before if before < prefix_length else branch_start + before - prefix_length
                )
                self.targets.append(trajectory.token_ids[index])
                self.behaviour_log_probs.append(trajectory.log_probs[index])
                self.advantages.append(member.advantages[index])
                self.supervised.append(trajectory.role == "reference")
                self.trajectory_lengths.append(length)
                for name, column in member.columns.items():
                    self.columns.setdefault(name, []).append(column[index])
            self.members.append(member)

    def by_member(self, values: Sequence[float]) -> list[list[float]]:
        """`values` [N] of the trained tokens as `[members][tokens]`, 0 where a member's token is not trained."""
        rest = iter(values)
        return [[next(rest) if trained else 0.0 for trained in m.trajectory.loss_mask] for m in self.members]

    def _extend(self, token_ids: list[int], prefix_length: int, prefix_start: int) -> None:
        """Append a segment that goes on from the prefix of `prefix_length` tokens at `prefix_start`."""
        start, length = len(self), len(token_ids)
        if not length:
            return
        self.segments.append(Segment(prefix_start, prefix_start + prefix_length, start, start + length))
        self.token_ids += token_ids
        self.positions += range(prefix_length, prefix_length + length)


def shared_prefix(trajectories: Sequence[Trajectory]) -> int:
    """Tokens that all trajectories start with and none trains on, at least 0.

    A trained token stays in its own branch even where two trajectories agree, since it counts once for each.
    """
    first = trajectories[0]
    limit = min(_first_trained(t) for t in trajectories)
    length = 0
    while length < limit and all(t.token_ids[length] == first.token_ids[length] for t in trajectories):
        length += 1
    return length


def _first_trained(trajectory: Trajectory) -> int:
    try:
        return trajectory.loss_mask.index(1)
    except ValueError:
        return len(trajectory.token_ids)


def pack(groups: Sequence[Sequence[WeightedTrajectory]], max_tokens: int) -> list[PackedSequence]:
    """Pack groups into sequences of at most `max_tokens` tokens; a group that does not fit is split, its prefix repeated.

    Trajectories without a trained token are left out. Raises ValueError if one trajectory alone is longer than `max_tokens` or has a trained
    first token, which nothing predicts.
    """
    blocks: list[tuple[int, list[WeightedTrajectory], int]] = []
    for group in groups:
        members = [m for m in group if m.trained_tokens]
        if not members:
            continue
        prefix = shared_prefix([m.trajectory for m in members])
        current: list[WeightedTrajectory] = []
        size = prefix
        for member in members:
            tokens = len(member.trajectory.token_ids)
            if tokens > max_tokens:
                raise ValueError(f"a trajectory of {tokens} tokens does not fit into {max_tokens}")
            if member.trajectory.loss_mask[0]:
                raise ValueError("the first token of a trajectory cannot be trained: nothing predicts it")
            if current and size + tokens - prefix > max_tokens:
                blocks.append((size, current, prefix))
                current, size = [], prefix
            current.append(member)
            size += tokens - prefix
        blocks.append((size, current, prefix))
    # First fit, longest first.
    sequences: list[PackedSequence] = []
    for size, members, prefix in sorted(blocks, key=lambda block: -block[0]):
        target = next((s for s in sequences if len(s) + size <= max_tokens), None)
        if target is None:
            target = PackedSequence()
            sequences.append(target)
        target.add_block(members, prefix)
    return sequences

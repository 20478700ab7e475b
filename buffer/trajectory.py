"""What travels from actors through the buffer to the learner: trajectories in groups, with provenance on every token.

Invariants: a trajectory's per-token lists have one length; a token with loss mask 1 was sampled by a known policy version (0 or later) or
belongs to a supervised reference; token ids are those the engine sampled and are never made again from text; a group holds trajectories
of one problem only. `form` is the version of the form: a reader refuses one that it does not know.
"""

from __future__ import annotations

from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from executor.verdict import Verdict

FORM: Literal[1] = 1
Ending = Literal["turns", "public_tests", "context"]
NOT_SAMPLED = -1  # the policy version of a prompt, feedback or reference token


class CreditSpan(BaseModel):
    """Tokens `[start, end)` of a trajectory that a reward singles out (RLTF's fine-grained feedback, a linter's or compiler's finding)."""

    model_config = ConfigDict(extra="forbid")

    start: int = Field(ge=0, description="First token position in the trajectory.")
    end: int = Field(ge=0, description="Position after the last token.")
    value: float = Field(description="Reward of the span, before any length weight.")
    reason: str = Field(default="", description="Why, in a few words: the error's type and line.")
    kind: Literal["penalty", "mask"] = Field(
        default="penalty",
        description="penalty: the value counts beside the reward; mask: neither the reward nor a penalty counts.",
    )

    @model_validator(mode="after")
    def _is_whole(self) -> CreditSpan:
        if self.end <= self.start:
            raise ValueError(f"credit span [{self.start}, {self.end}) is empty")
        if self.kind == "mask" and self.value:
            raise ValueError(f"a mask has no value: {self.value}")
        return self


class Turn(BaseModel):
    """One response of the policy and what became of it."""

    model_config = ConfigDict(extra="forbid")

    start: int = Field(ge=0, description="Position of the response's first token in the trajectory.")
    end: int = Field(ge=0, description="Position after its last token.")
    response: str = Field(description="The response as text, for people; the token ids are what counts.")
    finish_reason: Literal["stop", "length"] = Field(description="Whether the policy ended the response itself.")
    verdict: Verdict | None = Field(
        default=None, description="The verdict on the program of this turn: of public tests, for the last turn of all."
    )
    reward: float = Field(default=0.0, description="Reward of the turn.")
    components: dict[str, float] = Field(default_factory=dict, description="The parts the reward is made of, by name.")
    spans: list[CreditSpan] = Field(
        default_factory=list, description="Token spans with a reward of their own, or none."
    )


class Trajectory(BaseModel):
    """An episode of one or more turns as one sequence of tokens."""

    model_config = ConfigDict(extra="forbid")

    form: Literal[1] = Field(default=FORM, description="Version of this form.")
    problem_id: str = Field(description="The problem.")
    role: Literal["sampled", "greedy", "reference"] = Field(
        default="sampled",
        description="sampled: trained on; greedy: a baseline, never trained on; reference: a solution for the supervised term.",
    )
    token_ids: list[int] = Field(description="[tokens] prompt, responses and feedback in order.")
    log_probs: list[float] = Field(
        description="[tokens] log-probability under the distribution sampled from; 0 where not sampled."
    )
    policy_versions: list[int] = Field(
        description="[tokens] policy version that sampled the token; -1 where not sampled."
    )
    loss_mask: list[int] = Field(description="[tokens] 1 where the policy loss counts the token.")
    turns: list[Turn] = Field(default_factory=list, description="The turns in order; none for a reference.")
    ending: Ending = Field(
        default="turns",
        description="Why there are no more turns: as many as there may be; the public tests passed; the context has no room for another.",
    )

    @model_validator(mode="after")
    def _one_length(self) -> Trajectory:
        lengths = {len(self.token_ids), len(self.log_probs), len(self.policy_versions), len(self.loss_mask)}
        if len(lengths) != 1:
            raise ValueError(f"trajectory of {self.problem_id!r} has per-token lists of lengths {sorted(lengths)}")
        for turn in self.turns:
            if not 0 <= turn.start <= turn.end <= len(self.token_ids):
                raise ValueError(
                    f"turn [{turn.start}, {turn.end}) lies outside a trajectory of {len(self.token_ids)} tokens"
                )
        if self.role != "reference":
            for mask, version in zip(self.loss_mask, self.policy_versions, strict=True):
                if mask and version < 0:
                    raise ValueError(f"trajectory of {self.problem_id!r} has a trained token without a policy version")
        return self

    @property
    def reward(self) -> float:
        """Sum of the rewards of the turns."""
        return sum(turn.reward for turn in self.turns)

    @property
    def passed(self) -> bool:
        """Whether the last turn's program passed."""
        verdict = self.turns[-1].verdict if self.turns else None
        return verdict is not None and verdict.outcome == "pass"

    @property
    def oldest_version(self) -> int:
        """The oldest policy version among the trained tokens; -1 if none was sampled."""
        versions = [v for v, m in zip(self.policy_versions, self.loss_mask, strict=True) if m]
        return min(versions, default=NOT_SAMPLED)


class Group(BaseModel):
    """All trajectories of one visit to one problem; what the buffer stores and the learner consumes."""

    model_config = ConfigDict(extra="forbid")

    form: Literal[1] = Field(default=FORM, description="Version of this form.")
    group_id: int = Field(ge=0, description="Number of the ticket it answers; unique in a run.")
    problem_id: str = Field(description="The problem.")
    issued_version: int = Field(
        ge=0, description="Policy version when the ticket was issued; no sampled token is older."
    )
    trajectories: list[Trajectory] = Field(description="The episodes, and greedy or reference ones where asked for.")
    baselines: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="Reward components of earlier programs for the problem, by name of the baseline (best_so_far, latest_greedy); "
        "group_mean where the group has lost samples since.",
    )
    seconds: dict[str, float] = Field(default_factory=dict, description="Seconds spent by kind (generate, judge).")

    @property
    def sampled(self) -> list[Trajectory]:
        """The trajectories that are trained on as samples of the policy."""
        return [t for t in self.trajectories if t.role == "sampled"]

    def mean_components(self) -> dict[str, float]:
        """The mean of each reward component over the turns of the group's samples."""
        parts: dict[str, list[float]] = {}
        for trajectory in self.sampled:
            for turn in trajectory.turns:
                for name, value in turn.components.items():
                    parts.setdefault(name, []).append(value)
        return {name: fmean(values) for name, values in parts.items()}

"""How the buffer behaves; plain values that cross processes.

Invariant: an online pool can hold at least one sample of each group of a learner step.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class BufferSettings(BaseModel):
    """Batch size, staleness bound and kind of buffer."""

    model_config = ConfigDict(extra="forbid")

    groups_per_step: int = Field(default=8, ge=1, description="Groups that make one learner step.")
    broadcast_every: int = Field(default=1, ge=1, description="Learner steps per policy version.")
    max_staleness: int = Field(
        default=1, ge=0, description="Policy versions that training may lag behind; 0 = synchronous."
    )
    kind: Literal["queue", "online"] = Field(
        default="queue", description="queue: each group once; online: RLTF's pool, drawn from again."
    )
    capacity: int = Field(default=6400, ge=1, description="Samples the online pool holds.")
    refresh_every: int = Field(default=50, ge=1, description="Learner steps between refreshes of the online pool.")
    fill_first: bool = Field(
        default=True,
        description="The first step waits until the online pool is full, or until no more can be sampled before it.",
    )
    max_attempts: int = Field(
        default=3, ge=1, description="Tries at a ticket before its place goes to another problem."
    )
    selection: Literal["uniform", "signal"] = Field(
        default="uniform",
        description="uniform: every problem in turn; signal: problems without mixed outcomes come less often.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the problem order and of the online pool.")

    @model_validator(mode="after")
    def _pool_holds_a_step(self) -> BufferSettings:
        if self.kind == "online" and self.capacity < self.groups_per_step:
            raise ValueError(
                f"capacity={self.capacity} cannot fill a step: with kind=online it must be at least "
                f"groups_per_step={self.groups_per_step}"
            )
        return self

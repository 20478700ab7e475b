"""How the buffer behaves; plain values that cross processes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class BufferSettings(BaseModel):
    """Batch size, staleness bound and kind of buffer."""

    model_config = ConfigDict(extra="forbid")

    groups_per_step: int = Field(default=8, ge=1, description="Groups that make one learner step.")
    broadcast_every: int = Field(default=1, ge=1, description="Learner steps per policy version.")
    max_staleness: int = Field(default=1, ge=0, description="Policy versions that training may lag behind; 0 = synchronous.")
    kind: Literal["queue", "online"] = Field(default="queue", description="queue: each group once; online: RLTF's pool.")
    capacity: int = Field(default=64, ge=1, description="Groups the online pool holds.")
    refresh_every: int = Field(default=1, ge=1, description="Learner steps between refreshes of the online pool.")
    max_attempts: int = Field(default=3, ge=1, description="Tries at a ticket before its place goes to another problem.")
    selection: Literal["uniform", "signal"] = Field(default="uniform", description="How the next problem is chosen.")
    seed: int = Field(default=0, ge=0, description="Seed of the order and of the pool.")

"""Settings of the executor: plain data, no Ray."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from executor.sandbox.level import LEVELS, LevelName, default_min_level
from executor.sandbox.supervise import PATIENCE


class ExecutorSettings(BaseModel):
    """How programs are run and held."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    slots: int = Field(default=1, ge=1, le=128, description="Tests that one worker runs at a time.")
    output_limit_bytes: int = Field(
        default=1 << 20,
        ge=1024,
        le=64 << 20,
        description="Bytes a program may write on any one channel, or an answer may take.",
    )
    wall_factor: float = Field(
        default=3.0, ge=1, le=100, description="Wall seconds allowed for each CPU second allowed."
    )
    wall_extra_s: float = Field(default=1.0, ge=0, le=600, description="Wall seconds allowed on top.")
    retries: int = Field(
        default=2, ge=0, le=10, description="Times a test is tried again after our own machinery failed."
    )
    min_level: LevelName = Field(
        default_factory=default_min_level,
        description="Lowest level of isolation to work at; by default L1 (another user) for root, else L0. "
        "The highest that works is used.",
    )
    max_level: LevelName = Field(
        default="L3", description="Highest level of isolation to use, for comparisons and tests."
    )
    packages: list[str] = Field(
        default=["numpy"],
        description="Packages beyond the standard library that programs and test code may import, as far as they are installed beside Cupel.",
    )
    scratch_dir: str | None = Field(
        default=None, description="Folder for the programs' scratch folders; the system's if null."
    )

    @model_validator(mode="after")
    def _levels_in_order(self) -> ExecutorSettings:
        if LEVELS.index(self.max_level) < LEVELS.index(self.min_level):
            raise ValueError(f"max_level={self.max_level} is below min_level={self.min_level}")
        return self

    @field_validator("packages")
    @classmethod
    def _are_names(cls, names: list[str]) -> list[str]:
        for name in names:
            if not name.isidentifier():
                raise ValueError(f"packages: {name!r} is no name of a package that can be imported")
        return names

    def wall_s(self, cpu_s: float) -> float:
        """Wall seconds allowed to a test of so many CPU seconds, those without a core not counted."""
        return self.wall_factor * cpu_s + self.wall_extra_s

    def longest_s(self, cpu_s: float, tests: int) -> float:
        """Wall seconds that so many tests of so many CPU seconds can take at the very most, however busy the machine."""
        return PATIENCE * self.wall_s(cpu_s) * (tests + 1) * (self.retries + 1)

"""GRPO's reward: the program passes or it does not; nothing in between unless asked for."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.rewards.base import TurnContext, TurnScore
from executor.verdict import Outcome


class Settings(BaseModel):
    """What a verdict is worth."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["pass", "share"] = Field(
        default="pass", description="pass: 1 or 0; share: the share of tests passed."
    )


class Reward:
    """1 for a pass, or the share of tests passed; of an episode of several turns the last one's."""

    several_turns = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def score(self, context: TurnContext) -> TurnScore:
        verdict = context.verdict
        if verdict.outcome == Outcome.INFRASTRUCTURE:
            raise ValueError("an infrastructure failure is never scored")
        if not context.final:
            return TurnScore(reward=0.0)
        reward = verdict.share_passed if self._settings.kind == "share" else float(verdict.outcome == Outcome.PASS)
        return TurnScore(reward=reward, components={"pass": reward})

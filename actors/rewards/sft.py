"""The reward of supervised fine-tuning: a pass is worth 1. Nothing is learnt from it; where samples are drawn, it shows how they fare."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from actors.rewards.base import TurnContext, TurnScore
from executor.verdict import Outcome


class Settings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid")


class Reward:
    """1 for an episode whose last program passes."""

    several_turns = True

    def __init__(self, settings: Settings) -> None:
        pass

    def score(self, context: TurnContext) -> TurnScore:
        if context.verdict.outcome == Outcome.INFRASTRUCTURE:
            raise ValueError("an infrastructure failure is never scored")
        reward = float(context.final and context.verdict.outcome == Outcome.PASS)
        return TurnScore(reward=reward, components={"pass": reward})

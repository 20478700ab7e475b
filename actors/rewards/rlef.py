"""RLEF's reward (arXiv 2410.02089, section 2.2; golden B02): the last program passes all tests or it does not; before that, a turn without code costs.

The paper's penalty on leaving the initial policy is a matter of log-probabilities and the learner's (learner/losses/rlef.py).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.rewards.base import TurnContext, TurnScore
from executor.verdict import Outcome


class Settings(BaseModel):
    """What a turn is worth."""

    model_config = ConfigDict(extra="forbid")

    passing: float = Field(default=1.0, description="The last program passes all tests.")
    failing: float = Field(default=-1.0, description="It does not, or there is none.")
    invalid: float = Field(default=-0.2, le=0, description="A turn before the last holds no valid code.")
    invalid_is: Literal["no_code", "does_not_compile"] = Field(
        default="no_code",
        description="What counts as no valid code, which the paper leaves open: no program in the response, or none that compiles.",
    )

    cut_off: float = Field(
        default=0.0,
        le=0,
        description="Added, in any turn, for a response that was cut off at its limit. Only the first program counts, so nothing else tells a model to end.",
    )


class Reward:
    """Scores a turn of an episode."""

    several_turns = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def score(self, context: TurnContext) -> TurnScore:
        outcome = context.verdict.outcome
        if outcome is Outcome.INFRASTRUCTURE:
            raise ValueError("an infrastructure failure is never scored")
        components: dict[str, float] = {}
        if context.final:
            components["outcome"] = self._settings.passing if outcome is Outcome.PASS else self._settings.failing
        elif outcome is Outcome.NO_CODE or (
            outcome is Outcome.SYNTAX_ERROR and self._settings.invalid_is == "does_not_compile"
        ):
            components["invalid"] = self._settings.invalid
        if context.truncated and self._settings.cut_off:
            components["cut_off"] = self._settings.cut_off
        return TurnScore(reward=sum(components.values()), components=components)

"""RLTF's rewards (arXiv 2307.04349): coarse by outcome, adaptive by the share of tests passed, fine-grained on the tokens of the line that failed.

Coarse: pass 1, failure -0.3, error -0.6, syntax error -1; no program counts as a syntax error, and a limit reached as an error. Adaptive: a failure is
worth -0.3 + 1.3 * share passed, every other outcome its coarse value. Fine: a penalty on a span of tokens, never a gain, since what a program says of its
own errors is advisory. Invariant: a better outcome is never worth less, and every outcome has the same components, so that no baseline can turn that round.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from actors.error_spans import Blame, blame, line_range, tokens_in
from actors.rewards.base import TurnContext, TurnScore
from buffer.trajectory import CreditSpan
from executor.verdict import Outcome

COARSE: dict[Outcome, float] = {
    Outcome.PASS: 1.0,
    Outcome.FAILURE: -0.3,
    Outcome.ERROR: -0.6,
    Outcome.TIMEOUT: -0.6,
    Outcome.MEMORY: -0.6,
    Outcome.OUTPUT_LIMIT: -0.6,
    Outcome.SYNTAX_ERROR: -1.0,
    Outcome.NO_CODE: -1.0,
}


class Settings(BaseModel):
    """Which granularities count, and how."""

    model_config = ConfigDict(extra="forbid")

    coarse: bool = Field(default=True, description="Reward by outcome.")
    adaptive: bool = Field(default=True, description="Reward by the share of tests passed.")
    fine: bool = Field(default=True, description="Penalty on the tokens of the line that failed.")
    fine_value: float = Field(default=-0.3, ge=-1, le=0, description="The penalty of a span; never above 0.")
    adaptive_mode: Literal["sum", "replace"] = Field(
        default="sum",
        description="sum: coarse and adaptive add up (the paper); replace: adaptive takes a failure's place (the released code).",
    )

    @model_validator(mode="after")
    def _something_counts(self) -> Settings:
        if not (self.coarse or self.adaptive or self.fine):
            raise ValueError("coarse, adaptive and fine are all off: there is nothing to learn from")
        return self


def adaptive(outcome: Outcome, share_passed: float) -> float:
    """RLTF's adaptive reward: -0.3 to 1 by the share of tests passed for a failure, else the coarse value."""
    return -0.3 + 1.3 * share_passed if outcome == Outcome.FAILURE else COARSE[outcome]


def components(outcome: Outcome, share_passed: float, settings: Settings) -> dict[str, float]:
    """The reward's parts by name. Raises ValueError for an infrastructure failure."""
    if outcome not in COARSE:
        raise ValueError(f"outcome {outcome} is never scored")
    parts: dict[str, float] = {}
    if settings.coarse and not (settings.adaptive and settings.adaptive_mode == "replace"):
        parts["coarse"] = COARSE[outcome]
    if settings.adaptive:
        parts["adaptive"] = adaptive(outcome, share_passed)
    return parts


class Reward:
    """Scores one response."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def score(self, context: TurnContext) -> TurnScore:
        parts = components(context.verdict.outcome, context.verdict.share_passed, self._settings)
        return TurnScore(reward=sum(parts.values()), components=parts, spans=self._spans(context))

    def _spans(self, context: TurnContext) -> list[CreditSpan]:
        start, end = context.program_start, context.program_end
        if not self._settings.fine or start is None or end is None:
            return []
        program = context.response[start:end]
        verdict = context.verdict
        kind, line = blame(verdict.outcome, verdict.error, program, context.truncated)
        if kind is Blame.IGNORE:
            return []
        reason = verdict.error.type if verdict.error else str(verdict.outcome)
        if kind is Blame.LINE and line is not None:
            place = line_range(program, line)
            assert place is not None, "blame() gives a line only where there is text"
            start, end = start + place[0], start + place[1]
            reason = f"{reason} in line {line}"
        tokens = tokens_in(context.token_offsets, start, end)
        if tokens is None:
            return []
        return [
            CreditSpan(
                start=context.token_start + tokens[0],
                end=context.token_start + tokens[1],
                value=self._settings.fine_value,
                reason=reason,
            )
        ]

"""RLTF's rewards (arXiv 2307.04349): coarse by outcome, adaptive by the share of tests passed, fine-grained on the tokens of the line that failed.

Coarse: pass 1, failure -0.3, error -0.6, syntax error -1; no program counts as a syntax error, and a limit reached as an error. Adaptive: a failure is
worth -0.3 + 1.3 * share passed, every other outcome its coarse value. Fine: a penalty on a span of tokens, never a gain, since what a program says of its
own errors is advisory. Beyond the paper, and off unless asked for: a penalty on what a linter finds, and no credit at all for what did not run.
Invariant: a better outcome is never worth less, and every outcome has the same components, so that no baseline can turn that round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from actors.error_spans import Blame, blame, line_range, line_starts, outside, tokens_in, tokens_within
from actors.findings import character_range
from actors.rewards.base import Needs, TurnContext, TurnScore
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
    linter: bool = Field(
        default=False,
        description="Penalty on the tokens that ruff finds fault with, in programs that do not pass. Needs ruff.",
    )
    linter_value: float = Field(default=-0.3, ge=-1, le=0, description="The penalty of a finding; never above 0.")
    linter_rules: list[str] = Field(
        default=["E9", "F63", "F7", "F82"],
        min_length=1,
        description="Ruff's rules, by code or prefix. By default those that only errors break; what does not parse is told by any.",
    )
    executed_lines: bool = Field(
        default=False, description="No credit, good or bad, for the tokens of statements that no test ran."
    )

    @field_validator("linter_rules")
    @classmethod
    def _are_codes(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            if not re.fullmatch(r"[A-Z]+[0-9]*", rule):
                raise ValueError(f"{rule!r} is no rule of ruff: a code or a prefix of codes, like F821 or F")
        return rules

    @model_validator(mode="after")
    def _something_counts(self) -> Settings:
        if not (self.coarse or self.adaptive or self.fine or self.linter):
            raise ValueError("coarse, adaptive, fine and linter are all off: there is nothing to learn from")
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

    @property
    def needs(self) -> Needs:
        rules = tuple(self._settings.linter_rules) if self._settings.linter else ()
        return Needs(linter_rules=rules, executed_lines=self._settings.executed_lines, token_offsets=True)

    def score(self, context: TurnContext) -> TurnScore:
        parts = components(context.verdict.outcome, context.verdict.share_passed, self._settings)
        return TurnScore(reward=sum(parts.values()), components=parts, spans=self._spans(context))

    def _spans(self, context: TurnContext) -> list[CreditSpan]:
        """No token is penalised twice, and what the linter penalises is not masked."""
        start, end = context.program_start, context.program_end
        if start is None or end is None:
            return []
        error = self._error(context, start, end)
        findings = self._findings(context, start, end, error)
        return [*error, *findings, *self._masks(context, start, end, findings)]

    def _error(self, context: TurnContext, start: int, end: int) -> list[CreditSpan]:
        """What the program's error is charged to."""
        if not self._settings.fine:
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
        return self._penalties(context, tokens_in(context.token_offsets, start, end), self._settings.fine_value, reason)

    def _findings(self, context: TurnContext, start: int, end: int, error: list[CreditSpan]) -> list[CreditSpan]:
        """What the linter finds, but for what the error is charged to. What is missing from a program that was cut off is not its fault."""
        cut_off = context.truncated and end == len(context.response)
        if not self._settings.linter or cut_off or context.verdict.outcome is Outcome.PASS:
            return []
        program = context.response[start:end]
        spans: list[CreditSpan] = []
        for finding in context.findings:
            place = character_range(program, finding)
            tokens = tokens_in(context.token_offsets, start + place[0], start + place[1]) if place else None
            reason = f"{finding.code} in line {finding.line}"
            spans += self._penalties(context, tokens, self._settings.linter_value, reason, [*error, *spans])
        return spans

    def _penalties(
        self,
        context: TurnContext,
        tokens: tuple[int, int] | None,
        value: float,
        reason: str,
        taken: Sequence[CreditSpan] = (),
    ) -> list[CreditSpan]:
        free = _free(context, tokens, taken)
        return [CreditSpan(start=first, end=last, value=value, reason=reason) for first, last in free]

    def _masks(self, context: TurnContext, start: int, end: int, findings: list[CreditSpan]) -> list[CreditSpan]:
        """The tokens of what did not run; one that reaches into what did is not among them."""
        if not self._settings.executed_lines:
            return []
        program = context.response[start:end]
        spans: list[CreditSpan] = []
        for first, last in context.verdict.unexecuted or ():
            lines = [*line_starts(program), len(program)]
            if not 1 <= first <= last < len(lines):
                continue
            tokens = tokens_within(context.token_offsets, start + lines[first - 1], start + lines[last])
            for a, b in _free(context, tokens, findings):
                reason = f"lines {first} to {last} did not run"
                spans.append(CreditSpan(start=a, end=b, value=0.0, reason=reason, kind="mask"))
        return spans


def _free(context: TurnContext, tokens: tuple[int, int] | None, taken: Sequence[CreditSpan]) -> list[tuple[int, int]]:
    """The tokens of a response by their place in the trajectory, without those of the spans `taken`."""
    if tokens is None:
        return []
    place = context.token_start + tokens[0], context.token_start + tokens[1]
    return outside(place, [(span.start, span.end) for span in taken])

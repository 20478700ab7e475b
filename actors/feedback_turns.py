"""What a model is told after a failed attempt, as tokens within a budget.

Invariants: what is appended to an episode never takes more than `max_tokens`, the chat template's tokens included; nothing of a private test is in
it; with mode `random` it is about another problem, with `none` it says of the tests nothing at all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actors.dialogue import feedback_ids
from executor.errors import UserError
from executor.feedback import Mode, feedback, no_feedback
from executor.feedback_templates import load_templates
from executor.problem import Problem
from executor.unrelated_feedback import unrelated_feedback
from executor.verdict import Verdict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHARS_A_TOKEN = 6  # more than text has: where shortening begins
_SHORTER = 0.75
_FEWEST_CHARS = 64


@dataclass(frozen=True)
class FeedbackSettings:
    """How feedback is made; plain values, so that it crosses processes."""

    mode: Mode
    templates: str | None
    max_tokens: int

    @property
    def says_of_passing(self) -> bool:
        """Whether an answer that passes the public tests is told so, and is the last: without feedback nobody knows."""
        return self.mode != "none"


class FeedbackTurns:
    """Feedback for the episodes of one actor."""

    def __init__(
        self,
        settings: FeedbackSettings,
        tokenizer: PreTrainedTokenizerBase,
        problems: Sequence[Problem],
    ) -> None:
        self._settings = settings
        self._tokenizer = tokenizer
        self._problems = problems
        self._templates = load_templates(settings.templates)
        self._chars = _CHARS_A_TOKEN * settings.max_tokens

    def ids(
        self, problem: Problem, program: str | None, verdict: Verdict, last_token: int | None, seed: int
    ) -> list[int]:
        """Tokens that follow a response which ended with `last_token`, up to where the next one begins; the text is shortened until they fit.

        `seed` chooses the problem that random feedback is about. Raises UserError where not even a few words do.
        """
        chars, ids = self._chars, list[int]()
        while chars >= _FEWEST_CHARS:
            ids = feedback_ids(self._tokenizer, self._text(problem, program, verdict, chars, seed), last_token)
            if len(ids) <= self._settings.max_tokens:
                return ids
            chars = min(int(chars * _SHORTER), int(chars * self._settings.max_tokens / len(ids)))
        raise UserError(
            f"rollout.max_feedback_tokens={self._settings.max_tokens} is too few for any feedback: {len(ids)} would do"
        )

    def _text(self, problem: Problem, program: str | None, verdict: Verdict, chars: int, seed: int) -> str:
        match self._settings.mode:
            case "tests":
                return feedback(problem, program, verdict, self._templates, chars)
            case "random":
                return unrelated_feedback(problem, self._problems, random.Random(seed), self._templates, chars)
            case "none":
                return no_feedback(problem, self._templates, chars)

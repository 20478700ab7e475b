"""What a reward function is: a verdict in, what it is worth out; found by name.

Invariants: this folder's files are the algorithms there are (base.py apart); a reward never sees an infrastructure verdict; a file here
has `Settings` (a pydantic model) and `Reward`, and imports neither Ray, torch nor vLLM.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from actors.findings import Finding
from buffer.trajectory import CreditSpan
from executor.problem import Problem
from executor.verdict import Verdict


@dataclass(frozen=True)
class TurnContext:
    """One judged response; the verdict is that of the public tests, for the last response of an episode that of all."""

    problem: Problem
    verdict: Verdict
    response: str
    token_ids: list[int]  # of the response, its end token included
    token_offsets: list[
        tuple[int, int]
    ]  # character range of each token in `response`; none where the reward does not need them
    token_start: int  # position of the response's first token in the trajectory
    program_start: int | None  # character range of the program in `response`; None without a program
    program_end: int | None
    truncated: bool  # cut off at its length limit
    turn: int  # 0-based
    final: bool  # the episode ends with this turn
    findings: Sequence[Finding] = ()  # of the linter, where the reward needs them


@dataclass(frozen=True)
class TurnScore:
    """What a response is worth: a reward, the parts it is made of, and token spans singled out."""

    reward: float
    components: dict[str, float] = field(default_factory=dict)
    spans: list[CreditSpan] = field(default_factory=list)


@dataclass(frozen=True)
class Needs:
    """What a reward wants to know of a response beside the outcomes of its tests."""

    linter_rules: tuple[str, ...] = ()  # the rules to lint by; none: it is not linted
    executed_lines: bool = False  # which lines ran
    token_offsets: bool = False  # which characters each token wrote


class RewardFunction(Protocol):
    """What `Reward` in a file of this folder does. One that needs more than a verdict has an attribute `needs` too; one that can tell a turn's worth
    from an episode's has `several_turns = True`."""

    def __init__(self, settings: Any) -> None: ...

    def score(self, context: TurnContext) -> TurnScore:
        """What the response is worth. Raises ValueError for an infrastructure verdict, which is never scored."""
        ...


class RewardModule(Protocol):
    """A file of this folder."""

    Settings: type[BaseModel]
    Reward: type[RewardFunction]


def needs(reward: RewardFunction) -> Needs:
    """What the reward wants to know; nothing more than the verdict if it does not say."""
    return getattr(reward, "needs", Needs())


def takes_several_turns(name: str) -> bool:
    """Whether algorithm `name` can learn from episodes of several turns. Raises ValueError for a name that there is not."""
    return getattr(load(name).Reward, "several_turns", False)


def make(name: str, settings: Mapping[str, Any]) -> RewardFunction:
    """The reward of algorithm `name` with these settings. Raises ValueError."""
    module = load(name)
    return module.Reward(module.Settings.model_validate(settings))


def names() -> list[str]:
    """The algorithms there are."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "base"))


def load(name: str) -> RewardModule:
    """The reward file of algorithm `name`. Raises ValueError naming what exists."""
    if name not in names():
        raise ValueError(f"algorithm.name={name!r}: there is no such algorithm; there are {', '.join(names())}")
    return importlib.import_module(f"actors.rewards.{name}")  # type: ignore[return-value]

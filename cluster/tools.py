"""The tools that a reward works with, asked for before anything starts."""

from __future__ import annotations

from actors.linter import Linter
from actors.rewards.base import make, needs
from cluster.config import Config


def check(config: Config) -> None:
    """Raises UserError where the reward needs a linter that is not here, or rules that it does not have."""
    rules = needs(make(config.algorithm.name, config.algorithm.reward)).linter_rules
    if rules:
        Linter(rules).close()

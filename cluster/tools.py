"""What rewards and feedback are made with beside the configuration, asked for before anything starts."""

from __future__ import annotations

from actors.linter import Linter
from actors.rewards.base import make, needs
from cluster.config import Config
from executor.feedback_templates import load_templates


def check(config: Config) -> None:
    """Raises UserError where the reward needs a linter that is not here, or rules that it does not have, and for templates of feedback that are wrong."""
    load_templates(config.rollout.feedback_templates)
    rules = needs(make(config.algorithm.name, config.algorithm.reward)).linter_rules
    if rules:
        Linter(rules).close()

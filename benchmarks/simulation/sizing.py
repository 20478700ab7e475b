"""How many executor slots for a GPU, and how many GPUs for the learner: the formulas behind docs/cluster.md, "How far it scales".

Pure. They hold where nothing waits for anything else; the simulation says what waiting takes off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.simulation.draws import Draws
from benchmarks.simulation.setting import Setting

SPARE = 1.5  # slots for each that is busy on average: long programs come in crowds


@dataclass(frozen=True)
class Sizing:
    """What an episode takes of each part, and the sizes that follow."""

    turns: float
    """Responses of an episode."""
    response_tokens: float
    """Sampled tokens of an episode."""
    learner_tokens: float
    """Packed tokens of an episode."""
    slot_seconds: float
    """Slot seconds of an episode: public tests after each response but the last one allowed, then all tests."""
    engine_s: float
    """Seconds of a full engine for an episode."""
    learner_s: float
    """Seconds of one learner GPU for an episode."""

    @property
    def slots_per_engine(self) -> int:
        """Executor slots that one GPU of generation asks for."""
        return math.ceil(SPARE * self.slot_seconds / self.engine_s)

    @property
    def learner_share(self) -> float:
        """Share of the GPUs with which the learner keeps pace with the engines."""
        return self.learner_s / (self.learner_s + self.engine_s)


def size(setting: Setting, draws: Draws | None = None) -> Sizing:
    """The sizes for `setting`."""
    draws, s = draws or Draws(setting), setting
    most = s.max_turns if s.public_tests else 1
    turns = publics = 0.0
    for chance in draws.pass_chances:
        passing = chance * (1 - s.no_code_share)
        reached = [(1 - passing) ** turn for turn in range(most)]
        turns += sum(reached)
        publics += sum(reached[: most - 1])
    turns, publics = turns / len(draws.pass_chances), publics / len(draws.pass_chances)
    response = turns * draws.mean_response_tokens()
    code = 1 - s.no_code_share
    slot_seconds = code * (publics * draws.mean_judge_s(s.public_tests) + draws.mean_judge_s(s.all_tests))
    feedback = (turns - 1) * s.feedback_tokens
    decoding = response * s.decode_s(s.max_sequences) / s.max_sequences
    prefill = (s.prompt_tokens / s.samples_per_problem + feedback) * s.prefill_token_s / s.engine_speed
    learner_tokens = s.prompt_tokens / s.samples_per_problem + response + feedback
    learner_s = learner_tokens * s.learner_token_s * s.learner_passes
    return Sizing(turns, response, learner_tokens, slot_seconds, decoding + prefill, learner_s)


def split(setting: Setting, draws: Draws) -> tuple[int, float]:
    """Engines and GPUs of the learner."""
    if setting.gpus == 1:
        return setting.engines or 1, setting.learner_gpus or 0.5
    share = setting.learner_share or size(setting, draws).learner_share
    learner = setting.learner_gpus or min(setting.gpus - 1, max(1, round(share * setting.gpus)))
    return setting.engines or max(1, setting.gpus - math.ceil(learner)), float(learner)

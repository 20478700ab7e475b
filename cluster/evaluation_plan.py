"""What the samples of an evaluation are drawn from and how; how many is not of it, and may grow."""

from __future__ import annotations

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.engine.protocol import EngineSettings, SamplingSettings
from actors.episode import Rules
from actors.feedback_turns import FeedbackSettings
from actors.prompts import prompt_ids
from actors.worked_examples import WorkedExamples
from cluster import machine
from cluster.config import Config
from cluster.evaluated_model import fingerprint
from cluster.placement import engine_threads
from executor.errors import UserError
from executor.feedback_templates import load_templates
from executor.problem import Problem
from executor.settings import ExecutorSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Plan:
    """All that a sample depends on. Making one raises UserError for turns that the model cannot take, and for feedback that cannot be given."""

    folder: Path
    """Of the model."""
    config: Config
    """Of the run that the model is from, or the defaults."""
    problems: Sequence[Problem]
    sampling: SamplingSettings
    seed: int
    turns: int
    """Responses that a sample may have."""
    feedback: FeedbackSettings
    """What follows each but the last."""
    max_context_tokens: int | None = None
    """Of a whole sample; None: as many as the model has room for."""

    def __post_init__(self) -> None:
        if self.turns == 1:
            return
        if json.loads((self.folder / "config.json").read_text(encoding="utf-8")).get("is_encoder_decoder"):
            raise UserError(f"{self.folder.name} is an encoder-decoder, which takes one turn: --turns 1")
        if self.feedback.mode != "random":
            return
        languages = Counter(problem.language for problem in self.problems if problem.public_tests)
        if alone := [language for language, number in languages.items() if number == 1]:
            raise UserError(
                f"--feedback random: there is only one problem with public tests in {alone[0]}, and no other one to speak of; "
                "give more problems, or --feedback none"
            )

    @property
    def executor(self) -> ExecutorSettings:
        """The run's limits; the level of isolation is this machine's, which need not be the one it was trained on."""
        limits = {"output_limit_bytes", "wall_factor", "wall_extra_s", "packages"}
        return ExecutorSettings(**self.config.executor.model_dump(include=limits))

    def made_with(self) -> dict[str, Any]:
        """All that samples and their verdicts depend on, as far as it can be set. Raises UserError for templates that cannot be read."""
        hashed = hashlib.sha256()
        for problem in self.problems:
            hashed.update(json.dumps(problem.model_dump()).encode())
        several = self.turns > 1  # nothing follows the one response otherwise
        return {
            "form": 2,
            "Python": platform.python_version(),
            "model": fingerprint(self.folder),
            "problems": hashed.hexdigest(),
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "max_response_tokens": self.sampling.max_tokens,
            "seed": self.seed,
            "worked_examples": self.config.rollout.worked_examples,
            "worked_second_try": self.config.rollout.worked_second_try,
            "turns": self.turns,
            "max_context_tokens": self.max_context_tokens,
            "feedback": self.feedback.mode if several else None,
            "feedback_templates": load_templates(self.feedback.templates).model_dump() if several else None,
            "max_feedback_tokens": self.feedback.max_tokens if several else None,
            "executor": self.executor.model_dump(exclude={"slots", "retries", "scratch_dir"}),
        }

    @cached_property
    def room(self) -> int | None:
        """Tokens that a sample may have: as many as the model takes, or fewer where that is asked for; None for no limit."""
        from transformers import AutoConfig

        model = AutoConfig.from_pretrained(self.folder, local_files_only=True)
        room = None if model.is_encoder_decoder else getattr(model.get_text_config(), "max_position_embeddings", None)
        limits = [limit for limit in (room, self.max_context_tokens) if limit is not None]
        return min(limits, default=None)

    def fitting_prompts(self, tokenizer: PreTrainedTokenizerBase, reasons: dict[str, str]) -> dict[str, list[int]]:
        """Token ids by problem, without those that leave no room for a response; these get a reason."""
        shown = self.config.rollout
        examples = WorkedExamples.told(shown.worked_examples, shown.worked_second_try, self.feedback)
        prompts = {}
        for problem in self.problems:
            ids = prompt_ids(tokenizer, problem, examples.before(problem))
            if self.room is not None and len(ids) + self.sampling.max_tokens > self.room:
                both = f"{len(ids)} tokens of prompt and {self.sampling.max_tokens} of response"
                whose = "asked for" if self.room == self.max_context_tokens else "the model's"
                reasons[problem.id] = f"{both} are more than {whose} {self.room}"
            else:
                prompts[problem.id] = ids
        return prompts

    def rules(self, longest_prompt: int) -> Rules:
        """When a sample ends, with prompts of so many tokens at most."""
        most = longest_prompt + self.turns * self.sampling.max_tokens + (self.turns - 1) * self.feedback.max_tokens
        return Rules(
            max_turns=self.turns,
            max_tokens=most if self.room is None else min(most, self.room),
            max_response_tokens=self.sampling.max_tokens,
            stop_on_public=self.feedback.says_of_passing,
        )

    def engine(self, rules: Rules) -> EngineSettings:
        """Settings of an engine for samples by these rules."""
        engine = self.config.engine
        dtype = ("bfloat16" if machine.has_gpu() else "float32") if engine.dtype == "auto" else engine.dtype
        return EngineSettings(
            model_path=str(self.folder),
            dtype=dtype,
            max_model_tokens=rules.max_tokens,
            max_sequences=engine.max_sequences,
            kv_cache_gib=engine.kv_cache_gib,
            gpu_memory_share=0.9,
            threads=engine_threads(engine.threads),
            seed=self.config.run.seed,
            backend=engine.backend,
        )

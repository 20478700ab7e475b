"""What is simulated: sizes that one chooses, and service times with where each was measured, or that it is assumed.

Pure. Invariant: every number that stands for the time or size of something real says where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.errors import UserError

ASSUMED = "assumption"


def _chosen(default: Any, meaning: str, **bounds: Any) -> Any:
    return Field(default=default, description=meaning, **bounds)


def _measured(default: Any, where: str, meaning: str, **bounds: Any) -> Any:
    return Field(default=default, description=meaning, json_schema_extra={"source": where}, **bounds)


def _assumed(default: Any, meaning: str, **bounds: Any) -> Any:
    return _measured(default, ASSUMED, meaning, **bounds)


_OWN = "benchmarks/simulate.py measure"


class Setting(BaseModel):
    """One simulation. The defaults are RLEF on a model of 8 billion parameters and 8 GPUs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # What one chooses
    gpus: int = _chosen(8, "GPUs in all; of one, engine and learner have half each.", ge=1, le=65536)
    engines: int | None = _chosen(None, "Rollout actors; null: the GPUs that the learner leaves.", ge=1, le=65536)
    learner_gpus: float | None = _chosen(None, "GPUs of the learner; null: by learner_share.", gt=0)
    learner_share: float | None = _chosen(
        None, "Share of the GPUs for the learner; null: as sizing.py has it.", gt=0, lt=1
    )
    slots_per_gpu: float = _chosen(96, "Executor slots for each GPU, where slots is null.", gt=0)
    slots: int | None = _chosen(None, "Executor slots in all.", ge=1, le=1_000_000)
    slots_per_worker: int = _chosen(32, "Slots of one executor worker (executor.slots).", ge=1, le=128)
    groups_per_gpu: float = _chosen(4, "Groups of a learner step for each GPU, where groups_per_step is null.", gt=0)
    groups_per_step: int | None = _chosen(None, "Groups of a learner step (learner.groups_per_step).", ge=1)
    samples_per_problem: int = _chosen(8, "Episodes of a group (rollout.samples_per_problem).", ge=1, le=256)
    concurrent_groups: int | None = _chosen(
        None, "Groups under way at an actor (rollout.concurrent_groups); null: twice what its engine holds.", ge=1
    )
    max_sequences: int = _chosen(64, "Sequences an engine generates at a time (engine.max_sequences).", ge=1, le=4096)
    max_staleness: int = _chosen(4, "weights.max_staleness.", ge=0)
    broadcast_every: int = _chosen(1, "weights.broadcast_every.", ge=1)
    max_turns: int = _chosen(3, "rollout.max_turns.", ge=1, le=32)
    problems: int = _chosen(4096, "Training problems.", ge=1)
    steps: int = _chosen(6, "Learner steps that are measured.", ge=1)
    warmup_steps: int = _chosen(4, "Learner steps before that.", ge=0)
    seed: int = _chosen(0, "Seed of everything.", ge=0)

    # The work
    prompt_tokens: int = _assumed(600, "Tokens of a prompt.", ge=1)
    response_tokens: float = _assumed(400.0, "Median tokens of a response.", gt=0)
    response_sigma: float = _assumed(0.8, "Spread of the logarithm of its length.", ge=0, le=3)
    max_response_tokens: int = _chosen(2048, "rollout.max_response_tokens.", ge=1)
    feedback_tokens: int = _assumed(200, "Tokens of the feedback between two responses.", ge=0)
    no_code_share: float = _assumed(0.02, "Share of responses without a program.", ge=0, le=1)
    pass_share: float = _assumed(1 / 3, "Mean share of answers that pass; problems differ (u^k, u even).", gt=0, lt=1)
    public_tests: int = _assumed(3, "Public tests of a problem.", ge=0)
    all_tests: int = _assumed(100, "Tests of a problem in all.", ge=1)
    program_seconds: float = _assumed(0.02, "Median seconds of a program's own on one test.", ge=0)
    program_sigma: float = _assumed(1.0, "Spread of their logarithm.", ge=0, le=3)
    timeout_share: float = _assumed(0.03, "Share of programs that meet the time limit, which ends them.", ge=0, le=1)
    time_limit_s: float = _measured(
        10.0, "docs/problem_sets.md: CodeContests where it states none", "Seconds of a test at most.", gt=0
    )

    # Engines
    engine_step_s: float = _assumed(0.008, "Seconds of a decoding step besides its sequences (8 B, bfloat16).", gt=0)
    engine_sequence_s: float = _assumed(0.00006, "Seconds that each sequence adds to it.", ge=0)
    prefill_token_s: float = _assumed(0.00004, "Seconds that a prompt token takes, decoding stands still.", ge=0)
    engine_restart_s: float = _assumed(120.0, "Seconds until a lost rollout actor generates again.", ge=0)
    actor_deaths_per_hour: float = _assumed(0.0, "Deaths of one rollout actor an hour.", ge=0)

    # Executors
    test_s: float = _measured(
        0.0022, "docs/sandbox.md: benchmarks/executor.py, L2 and L3", "Seconds of a test besides the program.", ge=0
    )
    dispatch_s: float = _measured(
        0.00026,
        "benchmarks/dispatch.py: stub, 1 worker",
        "Seconds of the rollout actor's loop for one judgement, there and back.",
        ge=0,
    )
    linger_s: float = _measured(0.02, "executor/worker.py _LINGER_S", "Seconds that a verdict waits for company.", ge=0)
    worker_failures_per_hour: float = _assumed(0.0, "Losses of one simulated executor worker an hour.", ge=0)
    worker_return_s: float = _assumed(20.0, "Seconds until a lost executor worker judges again.", ge=0)
    judge_failure_share: float = _assumed(0.0, "Share of judgements that fail for reasons of ours.", ge=0, lt=1)

    # The control plane
    call_s: float = _measured(
        0.00047,
        "benchmarks/buffer.py: a call that carries nothing",
        "Seconds of a Ray actor call of the called actor's process.",
        ge=0,
    )
    latency_s: float = _assumed(0.002, "Seconds of a Ray actor call on the way, one direction.", ge=0)
    turn_s: float = _assumed(
        0.0005,
        "Seconds of the rollout actor's loop a turn: feedback, tokens; benchmarks/episodes.py finds too little to tell.",
        ge=0,
    )
    place_worker_s: float = _measured(
        5.8e-8, _OWN, "Seconds that each executor worker adds to one Dispatch.place.", ge=0
    )
    group_token_s: float = _measured(
        1.5e-7,
        "benchmarks/buffer.py: a group of 4,800 tokens, 1.97 ms, less its calls",
        "Seconds that a token of a group takes of the buffer's process when it is put; as long when it is taken.",
        ge=0,
    )
    put_s: float = _measured(3.2e-5, _OWN, "Seconds of Replay.put of a group.", ge=0)
    ready_group_s: float = _measured(5e-7, _OWN, "Seconds that each group held adds to Replay.ready.", ge=0)
    wake_s: float = _measured(3.1e-6, _OWN, "Seconds that each waiting poll adds to a change in BufferActor.", ge=0)

    # Learner and weights
    learner_token_s: float = _assumed(1 / 7000, "Seconds of a GPU for a packed token: forward, backward (8 B).", gt=0)
    learner_passes: float = _measured(
        1.41, "docs/rlef.md: benchmarks/critic.py, reference, no critic", "Factor of loss and estimates.", ge=1
    )
    learner_scaling: float = _assumed(0.97, "n GPUs of the learner do the work of n to the power of this.", gt=0, le=1)
    learner_fixed_s: float = _assumed(0.5, "Seconds of a step besides its tokens.", ge=0)
    weights_gb: float = _chosen(16.0, "Gigabytes of the weights (8 B, bfloat16).", gt=0)
    transfer_gb_s: float = _assumed(10.0, "Gigabytes a second that reach all engines at once.", gt=0)
    load_s: float = _measured(
        0.35, "ENGINE.md section 3: 269 MB on a CPU, packing and loading", "Seconds an engine stands still.", ge=0
    )
    probe_s: float = _assumed(1.0, "Seconds of the probe after a broadcast.", ge=0)

    # How it is simulated
    unit_tokens: int = _chosen(256, "Tokens that one token of a simulated episode stands for.", ge=1)
    simulated_workers: int = _chosen(8, "Executor workers at most; each stands for as many real ones as needed.", ge=1)
    check_s: float = _chosen(0.05, "After a put the buffer is looked at so much later at the earliest.", ge=0)

    # What follows

    @property
    def groups(self) -> int:
        """Groups of a learner step."""
        return self.groups_per_step or max(1, round(self.groups_per_gpu * self.gpus))

    @property
    def slots_in_all(self) -> int:
        """Executor slots."""
        return self.slots or max(1, round(self.slots_per_gpu * self.gpus))

    @property
    def workers(self) -> int:
        """Real executor workers."""
        return math.ceil(self.slots_in_all / self.slots_per_worker)

    @property
    def groups_at_once(self) -> int:
        """Groups under way at one rollout actor."""
        return self.concurrent_groups or math.ceil(2 * self.max_sequences / self.samples_per_problem)

    @property
    def engine_speed(self) -> float:
        """Share of a GPU that an engine has."""
        return 0.5 if self.gpus == 1 and self.engines is None else 1.0

    def decode_s(self, sequences: int) -> float:
        """Seconds in which each of so many sequences gets a token."""
        return (self.engine_step_s + self.engine_sequence_s * sequences) / self.engine_speed


def with_overrides(setting: Setting, overrides: Sequence[str]) -> Setting:
    """`setting` with `name=value` strings applied. Raises UserError for a name or value that will not do."""
    values = setting.model_dump()
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or name not in Setting.model_fields:
            raise UserError(f"{text!r}: give NAME=VALUE; `simulate.py constants` lists the names")
        values[name] = None if value == "null" else value
    try:
        return Setting.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{'.'.join(map(str, first['loc']))}={first['input']!r}: {first['msg']}") from error


def sources() -> list[tuple[str, Any, str, str]]:
    """Every constant: name, default, where it comes from ("chosen": nobody measures it), meaning."""
    rows = []
    for name, field in Setting.model_fields.items():
        extra = field.json_schema_extra
        source = str(extra["source"]) if isinstance(extra, dict) else "chosen"
        rows.append((name, field.default, source, field.description or ""))
    return rows

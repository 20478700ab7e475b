"""The learner's process: groups in, a changed policy and numbers about it out.

Invariants: a step changes the weights once or, if it is aborted or fails, not at all; micro-batches add up to the loss of the whole batch because every loss
is divided by the batch's totals; the learner knows no algorithm, only the loss's two methods.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from buffer.trajectory import Group
from learner import checkpoint
from learner.batch_metrics import batch_metrics
from learner.episode_log import write_episodes
from learner.host_memory import give_back
from learner.losses.base import TokenBatch
from learner.losses.base import load as load_loss
from learner.model import Policy
from learner.packing import PackedSequence, WeightedTrajectory, pack
from learner.weights.shared_memory import SharedMemoryTransport


@dataclass(frozen=True)
class LearnerSettings:
    """Everything a learner process needs; plain values, so that it crosses processes."""

    model_path: str
    algorithm: str
    loss: dict[str, Any]
    temperature: float
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    betas: tuple[float, float]
    max_gradient_norm: float
    micro_batch_tokens: int
    autocast: str
    threads: int
    seed: int
    run_folder: str
    keep_checkpoints: int
    engine_dtype: str


class Learner:
    """One learner process (a Ray actor with two threads: a step can be aborted while it runs)."""

    def __init__(self, settings: LearnerSettings, resume: str | None = None) -> None:
        """Load the policy from `settings.model_path`, or all of the trainer's state from the checkpoint folder `resume`."""
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._folder = Path(settings.run_folder)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._policy = Policy(
            Path(resume or settings.model_path),
            autocast=None if settings.autocast == "none" else getattr(torch, settings.autocast),
            temperature=settings.temperature,
            device=self._device,
        )
        self._optimizer = torch.optim.AdamW(
            self._policy.module.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if resume is not None:
            checkpoint.load_trainer(Path(resume), self._optimizer)
        module = load_loss(settings.algorithm)
        self._loss = module.Loss(module.Settings.model_validate(settings.loss))
        self._tokenizer = AutoTokenizer.from_pretrained(settings.model_path, local_files_only=True)
        self._transport = SharedMemoryTransport()
        self._engine_dtype: torch.dtype = getattr(torch, settings.engine_dtype)
        self._abort = threading.Event()

    def ready(self) -> int:
        """Parameters of the policy; answers once the learner can step."""
        return sum(p.numel() for p in self._policy.module.parameters())

    def step(self, step: int, groups: list[Group], policy_version: int) -> dict[str, float] | None:
        """Learn from one batch. None if it was aborted: then nothing has changed.

        `step` counts from 1; `policy_version` is the version that the learner's weights will be broadcast after, for staleness.
        """
        started = time.monotonic()
        # Groups are weighed whole, since a baseline looks at all of a group; what is trained on is decided by the loss mask.
        batch = [
            (
                group,
                [
                    WeightedTrajectory(t, a)
                    for t, a in zip(group.trajectories, self._loss.advantages(group), strict=True)
                ],
            )
            for group in groups
        ]
        trained = self._trained(step, [members for _, members in batch])
        sequences = pack(trained, self._settings.micro_batch_tokens)
        members = [m for sequence in sequences for m in sequence.members]
        if not members:
            raise ValueError(f"step {step}: no token to learn from in {len(groups)} groups")
        batch_tokens = float(sum(m.trained_tokens for m in members))
        sums: dict[str, float] = defaultdict(float)
        for sequence in sequences:
            if self._abort.is_set():
                self._abort.clear()
                self._optimizer.zero_grad(set_to_none=True)
                return None
            output = self._loss.loss(self._token_batch(sequence, batch_tokens, float(len(members))))
            output.loss.backward()
            sums["loss"] += float(output.loss.detach())
            for name, value in output.metrics.items():
                sums[name] += float(value)
        rate = self._settings.learning_rate * min(1.0, step / max(1, self._settings.warmup_steps))
        for parameters in self._optimizer.param_groups:
            parameters["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self._policy.module.parameters(), self._settings.max_gradient_norm)
        if not torch.isfinite(norm):
            self._optimizer.zero_grad(set_to_none=True)
            raise ValueError(f"step {step}: the gradient is not finite; a lower learner.learning_rate may help")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._device == "cpu":
            give_back()
        write_episodes(self._folder / "trajectories" / f"step_{step:06d}.jsonl", step, batch, self._tokenizer.decode)
        metrics = batch_metrics(groups, policy_version)
        metrics |= {
            name.removesuffix("_sum"): value / batch_tokens if name.endswith("_sum") else value
            for name, value in sums.items()
        }
        metrics |= {
            "gradient_norm": float(norm),
            "learning_rate": rate,
            "learner_seconds": time.monotonic() - started,
            "trained_tokens": batch_tokens,
            "packed_tokens": float(sum(len(s) for s in sequences)),
        }
        return metrics

    def _trained(self, step: int, groups: list[list[WeightedTrajectory]]) -> list[list[WeightedTrajectory]]:
        """What this step learns from; where the batch has nothing of that kind, all that can be learnt from."""
        usable = [[m for m in members if m.trajectory.role != "greedy"] for members in groups]
        wanted = [[m for m in members if self._loss.trains(step, m.trajectory.role)] for members in usable]
        return wanted if any(wanted) else usable

    def _token_batch(self, sequence: PackedSequence, batch_tokens: float, batch_trajectories: float) -> TokenBatch:
        log_probs = self._policy.log_probs(sequence)

        def tensor(values: list) -> torch.Tensor:
            return torch.tensor(values, device=self._device)

        return TokenBatch(
            log_probs=log_probs,
            old_log_probs=log_probs.detach(),
            behaviour_log_probs=tensor(sequence.behaviour_log_probs),
            advantages=tensor(sequence.advantages),
            supervised=tensor(sequence.supervised),
            trajectory_length=tensor(sequence.trajectory_lengths),
            batch_tokens=batch_tokens,
            batch_trajectories=batch_trajectories,
        )

    def abort(self) -> None:
        """End the step under way before its next micro-batch."""
        self._abort.set()

    def publish(self, policy_version: int) -> dict[str, str]:
        """Lay the weights out for the engines; what is returned goes to `Engine.update_weights`."""
        self._abort.clear()
        return self._transport.publish(self._policy.state_for_engine(self._engine_dtype), policy_version)

    def score(self, probe: list[list[int]]) -> list[list[float]]:
        """Log-probabilities of the probe's tokens after the first, at temperature 1, under the weights as engines hold them."""
        return self._policy.score(probe, self._engine_dtype)

    def save(self, step: int, buffer_state: bytes, record: dict[str, Any]) -> str:
        """Write a checkpoint. Raises UserError if it cannot be written."""
        return str(
            checkpoint.save(
                self._folder / "checkpoints",
                step,
                module=self._policy.module,
                optimizer=self._optimizer,
                source=Path(self._settings.model_path),
                buffer_state=buffer_state,
                record=record,
                keep=self._settings.keep_checkpoints,
            )
        )

    def close(self) -> None:
        """Give shared memory back."""
        self._transport.close()

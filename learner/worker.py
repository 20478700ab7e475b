"""The learner's process: groups in, a changed policy and numbers about it out.

Invariants: a step that is aborted before its first update has changed nothing, one that is aborted later has made whole updates; micro-batches
add up to the loss of the whole update because every loss is divided by the update's totals; the learner knows no algorithm, only the
loss's methods and what it says that it needs (a reference policy, a critic).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers import AutoTokenizer

from buffer.trajectory import Group, Trajectory
from executor.stacks import place
from learner import checkpoint
from learner.batch_metrics import batch_metrics
from learner.critic import Critic
from learner.episode_log import write_episodes
from learner.estimates import Estimator, credited
from learner.host_memory import give_back
from learner.losses.base import TokenBatch
from learner.losses.base import make as make_loss
from learner.minibatches import updates
from learner.model import Policy
from learner.packing import PackedSequence, WeightedTrajectory, pack
from learner.reference import ReferencePolicy
from learner.residence import Residence
from learner.weights.transport import Transport


@dataclass(frozen=True)
class LearnerSettings:
    """Everything a learner process needs; plain values, so that it crosses processes."""

    model_path: str
    """What the run began from, and the reference policy."""
    algorithm: str
    loss: dict[str, Any]
    temperature: float
    learning_rate: float
    warmup_steps: int
    epochs: int
    minibatches: int
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
    shares_device: bool = False
    """An engine has the device in turn with the learner, which begins away from it."""


@dataclass(frozen=True)
class Totals:
    """What the losses of an update are divided by."""

    tokens: float
    trajectories: float
    values: float


class Learner:
    """One learner process (a Ray actor with three threads: a step can be aborted while it runs, and a checkpoint awaited meanwhile)."""

    def __init__(self, settings: LearnerSettings, resume: str | None = None) -> None:
        """Load the policy from `settings.model_path`, or all of the trainer's state from the checkpoint folder `resume`."""
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self._settings = settings
        self._folder = Path(settings.run_folder)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._loss = make_loss(settings.algorithm, settings.loss)
        autocast = None if settings.autocast == "none" else getattr(torch, settings.autocast)
        self._policy = Policy(
            Path(resume or settings.model_path),
            autocast=autocast,
            temperature=settings.temperature,
            device=self._device,
            away=settings.shares_device,
        )
        self._reference = ReferencePolicy(Path(settings.model_path)) if self._loss.reference_policy else None
        critic = self._loss.critic
        self._critic = critic and Critic(critic, self._policy, Path(settings.model_path), autocast)
        self._parameters = {"": (list(self._policy.module.parameters()), settings.learning_rate)}
        if critic is not None and self._critic is not None:
            self._parameters["critic_"] = (list(self._critic.parameters()), critic.learning_rate)
        self._optimizer = torch.optim.AdamW(
            [{"params": parameters, "lr": rate} for parameters, rate in self._parameters.values()],
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if resume is not None:
            checkpoint.load_trainer(Path(resume), self._optimizer, self._critic)
        self._estimate = Estimator(
            self._policy,
            self._reference,
            self._critic,
            several_updates=settings.epochs * settings.minibatches > 1,
            max_tokens=settings.micro_batch_tokens,
        )
        self._residence = Residence(self._device, self._numbers, away=settings.shares_device)
        self._tokenizer = AutoTokenizer.from_pretrained(settings.model_path, local_files_only=True)
        self._transport = Transport()
        self._engine_dtype: torch.dtype = getattr(torch, settings.engine_dtype)
        self._abort = threading.Event()
        self._writer = ThreadPoolExecutor(1, "cupel-checkpoint")
        self._writing: Future[Path] | None = None

    def ready(self) -> int:
        """Parameters of the policy; answers once the learner can step."""
        return sum(p.numel() for p in self._policy.module.parameters())

    def step(self, step: int, groups: list[Group], policy_version: int) -> dict[str, float] | None:
        """Learn from one batch. None if it was aborted: then nothing has changed.

        `step` counts from 1; `policy_version` is the version that the learner's weights will be broadcast after, for staleness.
        """
        started = time.monotonic()
        self._residence.come_back()
        chosen = self._chosen(step, groups)
        estimates = self._estimate(chosen, self._aborted)
        if estimates is None:
            return None
        # Groups are weighed whole, since a baseline looks at all of a group; what is trained on is decided by the loss mask.
        batch, metrics = credited(self._loss, groups, estimates)
        trained = {id(t) for row in chosen for t in row}
        members = [[m for m in row if id(m.trajectory) in trained] for _, row in batch]
        sums: dict[str, float] = defaultdict(float)
        cut = updates(members, self._settings.epochs, self._settings.minibatches, self._settings.seed + step)
        finished = all(self._update(step, minibatch, sums) for minibatch in cut)
        if not sums["updates"]:
            if not finished:
                return None
            raise ValueError(f"step {step}: no token to learn from in {len(groups)} groups")
        if self._device == "cpu":
            give_back()
        write_episodes(self._folder / "trajectories" / f"step_{step:06d}.jsonl", step, batch, self._tokenizer.decode)
        tokens, made = sums["trained_tokens"], sums["updates"]
        totals = {"trained_tokens", "packed_tokens", "updates"}
        metrics |= batch_metrics(groups, policy_version)
        metrics |= {
            name.removesuffix("_sum"): value if name in totals else value / (tokens if name.endswith("_sum") else made)
            for name, value in sums.items()
        }
        return metrics | {
            "learning_rate": self._settings.learning_rate * self._warm(step),
            "learner_seconds": time.monotonic() - started,
        }

    def _chosen(self, step: int, groups: list[Group]) -> list[list[Trajectory]]:
        """What this step learns from; where the batch has nothing of the kind that is its turn, all that can be learnt from."""
        usable = [[t for t in group.trajectories if t.role != "greedy"] for group in groups]
        wanted = [[t for t in row if self._loss.trains(step, t.role)] for row in usable]
        return wanted if any(wanted) else usable

    def _update(self, step: int, groups: list[list[WeightedTrajectory]], sums: dict[str, float]) -> bool:
        """One step of the optimizer, its metrics added to `sums`; False if it was aborted: then nothing has changed."""
        sequences = pack(groups, self._settings.micro_batch_tokens)
        members = [m for sequence in sequences for m in sequence.members]
        if not members:
            return True
        totals = Totals(
            tokens=float(sum(m.trained_tokens for m in members)),
            trajectories=float(len(members)),
            values=float(sum(sum(m.columns.get("value_mask", ())) for m in members)),
        )
        found: dict[str, float] = defaultdict(float)
        for sequence in sequences:
            if self._aborted():
                self._optimizer.zero_grad(set_to_none=True)
                return False
            output = self._loss.loss(self._token_batch(sequence, totals))
            output.loss.backward()
            found["loss"] += float(output.loss.detach())
            for name, value in output.metrics.items():
                found[name] += float(value)
        for (prefix, (parameters, rate)), group in zip(
            self._parameters.items(), self._optimizer.param_groups, strict=True
        ):
            group["lr"] = rate * self._warm(step)
            norm = torch.nn.utils.clip_grad_norm_(parameters, self._settings.max_gradient_norm)
            if not torch.isfinite(norm):
                self._optimizer.zero_grad(set_to_none=True)
                raise ValueError(f"step {step}: the gradient is not finite; a lower learner.learning_rate may help")
            found[f"{prefix}gradient_norm"] = float(norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        found["trained_tokens"] = totals.tokens
        found["packed_tokens"] = float(sum(len(s) for s in sequences))
        found["updates"] = 1.0
        for name, value in found.items():
            sums[name] += value
        return True

    def _warm(self, step: int) -> float:
        """The share of the learning rate that the warm-up has come to."""
        return min(1.0, step / max(1, self._settings.warmup_steps))

    def _token_batch(self, sequence: PackedSequence, totals: Totals) -> TokenBatch:
        log_probs, states = self._policy.predict(sequence)
        columns = {name: torch.tensor(values, device=self._device) for name, values in sequence.columns.items()}

        def tensor(values: list) -> Tensor:
            return torch.tensor(values, device=self._device)

        return TokenBatch(
            log_probs=log_probs,
            old_log_probs=columns.get("old_log_probs", log_probs.detach()),
            behaviour_log_probs=tensor(sequence.behaviour_log_probs),
            advantages=tensor(sequence.advantages),
            supervised=tensor(sequence.supervised),
            trajectory_length=tensor(sequence.trajectory_lengths),
            batch_tokens=totals.tokens,
            batch_trajectories=totals.trajectories,
            values=None if self._critic is None else self._critic.values(sequence, states),
            old_values=columns.get("values"),
            returns=columns.get("returns"),
            value_mask=columns.get("value_mask"),
            batch_values=totals.values,
        )

    def _aborted(self) -> bool:
        """Whether the step is to be given up; asking takes the wish away."""
        if not self._abort.is_set():
            return False
        self._abort.clear()
        return True

    def abort(self) -> None:
        """End the step under way before its next micro-batch; updates that are made stay."""
        self._abort.set()

    def publish(self, policy_version: int) -> dict[str, str]:
        """Lay the weights out for the engines; what is returned goes to `Engine.update_weights`."""
        self._abort.clear()
        return self._transport.publish(self._policy.state_for_engine(self._engine_dtype), policy_version)

    def rest(self) -> None:
        """Give the device's memory back until it has something to compute again."""
        self._residence.leave()

    def _numbers(self) -> Iterator[Tensor]:
        """Every tensor that lies on the device between two steps."""
        for module in (self._policy.module, *([self._critic] if self._critic is not None else [])):
            yield from module.parameters()
            yield from module.buffers()
        for state in self._optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    def carried_weights(self, policy_version: int) -> numpy.ndarray:
        """Published weights as bytes, for machines that do not see this one's memory; of the last two versions."""
        return self._transport.carried(policy_version)

    def place(self) -> tuple[str, int]:
        """Ray's node and the process that this is in."""
        return place()

    def score(self, probe: list[list[int]]) -> list[list[float]]:
        """Log-probabilities of the probe's tokens after the first, at temperature 1, under the weights as engines hold them."""
        self._residence.come_back()
        return self._policy.score(probe, self._engine_dtype)

    def save(self, step: int, buffer_state: bytes, record: dict[str, Any], best: int | None, copied: bool) -> None:
        """Begin to write a checkpoint; that of step `best` stays however old. `copied`: steps may follow before `written` has answered."""
        snapshot = checkpoint.capture(
            self._policy.module, self._optimizer, self._critic, buffer_state, record, copied=copied
        )
        self._writing = self._writer.submit(
            checkpoint.write,
            self._folder / "checkpoints",
            step,
            snapshot,
            source=Path(self._settings.model_path),
            keep=self._settings.keep_checkpoints,
            best=best,
        )

    def written(self) -> str:
        """The checkpoint that `save` began, once it is whole. Raises UserError if it cannot be written."""
        assert self._writing is not None, "save() has been called"
        return str(self._writing.result())

    def close(self) -> None:
        """Give shared memory back."""
        self._transport.close()

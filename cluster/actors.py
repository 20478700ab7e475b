"""The actors of a run: made here from the configuration, started, replaced and ended here.

Invariants: every actor is owned by the controller's process, so none outlives it; executor workers restart by themselves and come and go as their
membership actor says, a rollout actor is replaced by `start_rollout`, the learner and the buffer are not replaced (their state is in the checkpoint).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from actors.engine.protocol import EngineSettings, SamplingSettings
from actors.episode import Rules
from actors.feedback_turns import FeedbackSettings
from actors.rollout import RolloutSettings, RolloutWorker
from actors.worked_examples import WorkedExamples
from buffer.actor import create as create_buffer
from buffer.settings import BufferSettings
from cluster.config import Config
from cluster.nodes import living
from cluster.placement import Demand, Place, Placement, engine_threads, plan
from executor.errors import UserError
from executor.problem import Problem
from executor.worker import start_worker
from executor.worker_owner import WorkerOwner
from learner.host_memory import ENVIRONMENT as LEARNER_ENVIRONMENT
from learner.losses.base import make as make_loss
from learner.worker import Learner, LearnerSettings

ROOT = Path(__file__).resolve().parent.parent
MEMBERSHIP = "executors"  # the name of the membership actor in the run's namespace


def connect(config: Config) -> None:
    """Join the cluster that the configuration or the job names, or start one on this machine."""
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "TOKENIZERS_PARALLELISM": "false",
        # Idle threads sleep rather than spin: engine and learner share the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    common: dict[str, Any] = {
        "runtime_env": {"env_vars": environment},
        "log_to_driver": False,
        "logging_level": "ERROR",
        "configure_logging": False,
    }
    address = config.ray.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            ray.init(address=address, **common)
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=os.cpu_count(),
            include_dashboard=config.ray.dashboard,
            dashboard_port=config.ray.dashboard_port,
            object_store_memory=config.ray.object_store_mib << 20,
            **common,
        )
    except Exception as error:  # Ray has no one class for "the cluster cannot be had"
        reason = str(error).strip().splitlines() or [type(error).__name__]
        where = f"the cluster at {address} cannot be joined" if address else "Ray cannot be started on this machine"
        raise UserError(f"{where}: {reason[0][:300]}") from error


def namespace(run_folder: Path) -> str:
    """The Ray namespace of a run's named actors."""
    return f"cupel:{run_folder.resolve()}"


def buffer_settings(config: Config) -> BufferSettings:
    """What the configuration means for the buffer."""
    return BufferSettings(
        groups_per_step=config.learner.groups_per_step,
        broadcast_every=config.weights.broadcast_every,
        max_staleness=config.weights.max_staleness,
        seed=config.run.seed,
        **config.buffer.model_dump(),
    )


def rules(config: Config) -> Rules:
    """When an episode of a run ends."""
    rollout = config.rollout
    stops = feedback_settings(config).says_of_passing
    return Rules(rollout.max_turns, rollout.episode_tokens, rollout.max_response_tokens, stop_on_public=stops)


def feedback_settings(config: Config) -> FeedbackSettings:
    """What the configuration means for feedback."""
    rollout = config.rollout
    return FeedbackSettings(rollout.feedback, rollout.feedback_templates, rollout.max_feedback_tokens)


def worked_examples(config: Config) -> WorkedExamples:
    """What the configuration shows before a question. Raises UserError for templates that cannot be read."""
    rollout = config.rollout
    return WorkedExamples.told(rollout.worked_examples, rollout.worked_second_try, feedback_settings(config))


@dataclass
class House:
    """Handles of every actor of a run."""

    config: Config
    model: Path
    """What the run began from; it outlives every checkpoint, so that an actor can start from it at any time."""
    problems: list[Problem]
    run_folder: Path
    owner: WorkerOwner | None = None
    rollouts: dict[int, Any] = field(default_factory=dict)  # by number
    names: dict[int, str] = field(default_factory=dict)  # under which each rollout actor holds its tickets
    buffer: Any = None
    learner: Any = None
    placement: Placement = field(default_factory=Placement)
    _core: PlacementGroup | None = None
    _started_rollouts: int = 0

    def reserve(self) -> dict[str, Awaitable[Any]]:
        """Ask for the GPUs of learner and first engine. Returns what comes once both are there, under a name to wait for it by; nothing where they
        need none. Raises UserError where the cluster cannot hold the run.
        """
        self.placement = self._plan(self.config.rollout.actors, self.config.executor.workers)
        core = self.placement.core
        if core is None:
            return {}
        free = ray.available_resources().get("GPU", 0.0)
        self._core = placement_group(
            [dict(bundle) for bundle in core.bundles],
            strategy="PACK",
            name=f"{self.run_folder.name}: learner and first engine",
            bundle_label_selector=[dict(labels) for labels in core.labels],
        )
        return {f"{core.gpus:g} GPUs for learner and first engine ({free:g} were free)": self._core.ready()}

    def build(self, policy_version: int, resume: Path | None) -> None:
        """Create all actors, once what was asked for is reserved; they start side by side."""
        config, core = self.config, self.placement.core
        self.owner = WorkerOwner(
            self.config.executor.judging(),
            config.executor.workers,
            name=MEMBERSHIP,
            namespace=namespace(self.run_folder),
            start=partial(start_worker, **self.placement.executor.options),
            membership_options=self.placement.control.options,
        )
        self.buffer = create_buffer(
            buffer_settings(config), [problem.id for problem in self.problems], **self.placement.control.options
        )
        self.learner = (
            ray.remote(Learner)
            .options(
                **self._in_core(self.placement.learner, core and core.learner),
                max_concurrency=3,
                runtime_env=_environment(self._learner_threads(), LEARNER_ENVIRONMENT),
            )
            .remote(self._learner_settings(), str(resume) if resume else None)
        )
        self.rollouts = {i: self.start_rollout(i, policy_version) for i in range(config.rollout.actors)}

    def _in_core(self, place: Place, bundle: int | None) -> dict[str, Any]:
        """Options of an actor: in that bundle of the run's core where there is one."""
        options = place.options
        if self._core is not None and bundle is not None:
            options.pop("label_selector", None)  # the bundle has it
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._core, bundle)
        return options

    def room_for(self, rollouts: int, executors: int) -> None:
        """Raises UserError if the cluster as it is now does not suffice for so many rollout actors and executor workers."""
        self._plan(rollouts, executors)

    def _plan(self, rollouts: int, executors: int) -> Placement:
        wanted = replace(Demand.of(self.config), rollout_actors=rollouts, executor_workers=executors)
        return plan(living(ray.nodes()), wanted, self.config.ray.growing)

    @property
    def executors(self) -> dict[str, Any]:
        """The executor workers that run now, by name."""
        return self.owner.workers if self.owner is not None else {}

    def close(self) -> None:
        """End the executor workers."""
        if self.owner is not None:
            self.owner.close()

    def role_of(self, actor_id: str | None) -> str:
        """What the actor of that id is called, for people."""
        roles = {
            "learner": [self.learner],
            "buffer": [self.buffer],
            "rollout actor": list(self.rollouts.values()),
            "executor": list(self.executors.values()),
        }
        for role, handles in roles.items():
            if any(handle is not None and handle._actor_id.hex() == actor_id for handle in handles):
                return role
        return "actor"

    def start_rollout(self, index: int, policy_version: int) -> Any:
        """Create rollout actor `index`; its engine starts with its `start` method."""
        config, core = self.config, self.placement.core
        assert self.owner is not None
        self._started_rollouts += 1
        name = self.names[index] = f"rollout-{index}-{self._started_rollouts}"
        algorithm = make_loss(config.algorithm.name, config.algorithm.loss)
        settings = RolloutSettings(
            name=name,
            engine=EngineSettings(
                model_path=str(self.model),
                dtype=self._engine_dtype(),
                max_model_tokens=config.rollout.episode_tokens,
                max_sequences=config.engine.max_sequences,
                kv_cache_gib=config.engine.kv_cache_gib,
                gpu_memory_share=config.engine.gpu_memory_share,
                threads=engine_threads(self.config.engine.threads),
                # A resumed or replaced engine must not draw the same numbers again.
                seed=(config.run.seed + 7919 * policy_version + 104729 * self._started_rollouts) % 2**31,
                policy_version=policy_version,
                backend=config.engine.backend,
                tensor_parallel=config.engine.tensor_parallel,
                sleep_mode=config.engine.sleep_mode,
                metrics_name=f"{self.run_folder.name}/rollout-{index}",
            ),
            executor=self.config.executor.judging(),
            algorithm=config.algorithm.name,
            reward=config.algorithm.reward,
            samples_per_problem=config.rollout.samples_per_problem,
            sampling=SamplingSettings(
                config.rollout.temperature, config.rollout.top_p, config.rollout.max_response_tokens
            ),
            concurrent_groups=config.rollout.concurrent_groups,
            tests=config.rollout.tests,
            rules=rules(config),
            feedback=feedback_settings(config),
            max_prompt_tokens=config.rollout.max_prompt_tokens,
            worked_examples=worked_examples(config),
            with_greedy=algorithm.baseline_needs_greedy,
            with_reference=algorithm.supervised,
            reference_repairs=config.rollout.reference_repairs,
            tidy_references=config.rollout.tidy_references,
            seed=config.run.seed,
            seeded=config.rollout.seeded,
        )
        return (
            ray.remote(RolloutWorker)
            .options(
                **self._in_core(self.placement.rollout, core.rollout if core is not None and index == 0 else None),
                max_concurrency=64,
                runtime_env=_environment(engine_threads(self.config.engine.threads)),
            )
            .remote(settings, self.problems, self.buffer, self.executors, self.owner.membership)
        )

    def end_rollout(self, actor: Any) -> None:
        """End a rollout actor at once, whatever state it is in."""
        with contextlib.suppress(RayError, ValueError):  # it may have ended already
            ray.kill(actor)

    def _learner_settings(self) -> LearnerSettings:
        config = self.config
        return LearnerSettings(
            model_path=str(self.model),
            algorithm=config.algorithm.name,
            loss=config.algorithm.loss,
            temperature=config.rollout.temperature,
            learning_rate=config.learner.learning_rate,
            warmup_steps=config.learner.warmup_steps,
            epochs=config.learner.epochs,
            minibatches=config.learner.minibatches,
            weight_decay=config.learner.weight_decay,
            betas=(config.learner.beta1, config.learner.beta2),
            max_gradient_norm=config.learner.max_gradient_norm,
            micro_batch_tokens=config.learner.micro_batch_tokens,
            autocast=config.learner.autocast,
            threads=self._learner_threads(),
            seed=config.run.seed,
            run_folder=str(self.run_folder),
            keep_checkpoints=config.run.keep_checkpoints,
            engine_dtype=self._engine_dtype(),
            shares_device=config.engine.sleep_mode,
        )

    def _learner_threads(self) -> int:
        return self.config.learner.threads or os.cpu_count() or 1

    def _engine_dtype(self) -> str:
        """The type of the engines' weights, `auto` resolved for this cluster."""
        if self.config.engine.dtype != "auto":
            return self.config.engine.dtype
        return "bfloat16" if self.placement.rollout.gpus else "float32"


def _environment(threads: int, more: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Ray gives an actor one OpenMP thread unless told otherwise."""
    return {"env_vars": {"OMP_NUM_THREADS": str(threads), **(more or {})}}

"""What a run is: one model a section, every field with its bounds, checked before anything starts.

Invariants: this file imports neither Ray, torch nor vLLM, so a mistake in a configuration is told in under a second; a loaded
configuration is complete and consistent; what a run folder's `config.yaml` holds loads again to the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from actors.rewards.base import load as load_reward
from actors.rewards.base import takes_several_turns
from executor.errors import UserError
from executor.settings import ExecutorSettings
from learner.losses.base import load as load_loss
from learner.losses.base import make as make_loss


class Section(BaseModel):
    """A part of the configuration; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class RunSection(Section):
    """How long the run is and where it is kept."""

    directory: str = Field(default="runs", description="Folder in which run folders are made.")
    name: str | None = Field(
        default=None, description="Name of the run folder; made from the date and time if not given."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed of the problem order and of everything random in our hands."
    )
    steps: int = Field(default=26, ge=0, description="Learner steps.")
    checkpoint_every: int = Field(default=13, ge=1, description="Learner steps between checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="How many of the newest checkpoints to keep.")
    asynchronous_checkpoints: bool | None = Field(
        default=None,
        description="Whether a checkpoint is written while training goes on, from a copy in the machine's memory (12 bytes a parameter); null: where the learner has a GPU.",
    )
    mirror: str | None = Field(
        default=None,
        description="Where checkpoints are copied to as well while training goes on: a folder, or a URL that fsspec knows, like s3://bucket/runs; null: nowhere.",
    )
    trackers: list[Literal["wandb", "mlflow"]] = Field(
        default_factory=list,
        description="Where metrics go beside the run folder and TensorBoard: wandb (Weights & Biases), mlflow; each is an extra to install.",
    )
    max_restarts: int = Field(
        default=3,
        ge=0,
        description="How often in a row, without a new checkpoint between, a run that died is started again from its newest checkpoint; 0: never.",
    )


class ModelSection(Section):
    """The policy."""

    name: str = Field(
        default="smollm2-135m-instruct",
        description="smollm2-135m-instruct (read from an installed package), a Hugging Face folder, or a hub name.",
    )
    cache: str = Field(default="~/.cache/cupel", description="Folder in which converted models are kept.")


class ProblemsSection(Section):
    """What is trained on and what is held out."""

    train: str = Field(default="starter:train", description="Problem set or file of problems to train on.")
    held_out: str | None = Field(
        default="starter:held_out", description="Problem set or file to evaluate on; null for none."
    )
    max_difficulty: int | None = Field(
        default=1,
        ge=1,
        le=5,
        description="Train on problems up to this difficulty, and on those without one; null for all.",
    )
    limit: int | None = Field(default=None, ge=1, description="Use at most this many training problems.")
    held_out_limit: int | None = Field(default=None, ge=1, description="Use at most this many held-out problems.")
    long_prompts: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="What becomes of problems whose prompt is longer than rollout.max_prompt_tokens: the run does not start, or they are left out and named.",
    )


class AlgorithmSection(Section):
    """What a verdict is worth and what to do about it."""

    name: str = Field(
        default="rltf", description="An algorithm: a file of this name in actors/rewards and in learner/losses."
    )
    reward: dict[str, Any] = Field(default_factory=dict, description="Settings of actors/rewards/NAME.py.")
    loss: dict[str, Any] = Field(default_factory=dict, description="Settings of learner/losses/NAME.py.")

    @model_validator(mode="after")
    def _settings_fit(self) -> AlgorithmSection:
        for part, load in (("reward", load_reward), ("loss", load_loss)):
            settings = load(self.name).Settings
            try:
                settings.model_validate(getattr(self, part))
            except ValidationError as error:
                raise ValueError("; ".join(mistakes(error, f"algorithm.{part}"))) from None
        return self


class RolloutSection(Section):
    """How episodes are generated."""

    actors: int = Field(default=1, ge=1, le=1024, description="Rollout actors, each with an engine of its own.")
    samples_per_problem: int = Field(
        default=8, ge=0, le=1024, description="Episodes in a group; 0, where an algorithm learns from references alone."
    )
    max_turns: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Responses an episode may have; after each but the last come the public tests.",
    )
    feedback: Literal["tests", "random", "none"] = Field(
        default="tests",
        description="What follows a response: what the public tests say of it; what they would say of another problem's; nothing but that "
        "another try is due, and no end when they pass. The last two are for comparison.",
    )
    feedback_templates: str | None = Field(
        default=None,
        description="YAML file whose entries replace the words that feedback is made of; null for Cupel's own.",
    )
    max_feedback_tokens: int = Field(
        default=256, ge=32, description="Tokens that feedback is shortened to, the chat template's own included."
    )
    max_context_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Tokens of a whole episode: one that has no room for another response ends; null for as many as its parts may have.",
    )
    temperature: float = Field(default=1.0, gt=0, le=2, description="Sampling temperature.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Share of probability mass sampled from.")
    max_prompt_tokens: int = Field(
        default=512, ge=8, description="Longest prompt; problems.long_prompts says what becomes of a longer one."
    )
    max_response_tokens: int = Field(default=96, ge=1, description="Tokens after which a response is cut off.")
    concurrent_groups: int = Field(
        default=16, ge=1, le=4096, description="Groups one rollout actor works on at a time."
    )
    worked_examples: int = Field(
        default=2,
        ge=0,
        le=2,
        description="Solved problems shown before the question; a small model needs them, a large one does not.",
    )
    worked_second_try: bool = Field(
        default=False,
        description="Show, after these, one that was solved at the second try; for a small model whose episodes have several turns.",
    )
    seeded: bool = Field(
        default=False,
        description="Draw each response with a seed of its own, made of run.seed, group and turn, so that a run can be repeated; slower on a GPU.",
    )
    tidy_references: bool = Field(
        default=True,
        description="Write references with odd white space (tabs, blanks at line ends) anew before a model learns from them; false: as they are published.",
    )
    reference_repairs: bool = Field(
        default=False,
        description="Where an algorithm learns from references, show another one of a group behind the feedback on one of its failed answers: what a repair is like.",
    )
    tests: Literal["all", "private", "public"] = Field(
        default="all", description="Tests that the training reward counts."
    )

    @property
    def episode_tokens(self) -> int:
        """Tokens that an episode may have."""
        parts = self.max_prompt_tokens + self.max_turns * self.max_response_tokens
        parts += (self.max_turns - 1) * self.max_feedback_tokens
        return parts if self.max_context_tokens is None else min(parts, self.max_context_tokens)


class EngineSection(Section):
    """The inference engine inside a rollout actor."""

    backend: Literal["auto", "vllm", "transformers"] = Field(
        default="auto",
        description="vllm, or transformers for models that vLLM does not run (encoder-decoders, CodeGen); auto: vllm where it lists the model's architecture.",
    )
    dtype: Literal["auto", "bfloat16", "float32", "float16"] = Field(
        default="auto",
        description="Type of the engine's weights; auto: bfloat16 on a GPU, float32 on a CPU, where it costs little and keeps engine and learner equal.",
    )
    max_sequences: int = Field(default=64, ge=1, le=4096, description="Sequences generated at the same time.")
    kv_cache_gib: float = Field(default=1.0, gt=0, le=1024, description="Memory for keys and values on a CPU, in GiB.")
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="GPUs of one node that vLLM splits a model over; each rollout actor has so many.",
    )
    gpu_memory_share: float = Field(default=0.6, gt=0, le=1, description="Share of a GPU's memory the engine may take.")
    sleep_mode: bool = Field(
        default=False,
        description="Learner and engine take turns on one GPU that is too small for both at once: the engine sleeps, its requests with it, while the learner works, and the learner's numbers lie in the machine's memory while the engine generates.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads of the engine; null for half of the cores."
    )
    start_timeout_s: float = Field(default=600, gt=0, description="Seconds the engine may take to start.")

    @model_validator(mode="after")
    def _splits_with_vllm(self) -> EngineSection:
        if self.tensor_parallel > 1 and self.backend == "transformers":
            raise ValueError(
                f"engine.tensor_parallel={self.tensor_parallel}: engine.backend=transformers does not split a model; vllm does"
            )
        return self


class LearnerSection(Section):
    """How the policy is changed."""

    groups_per_step: int = Field(default=6, ge=1, le=65536, description="Groups that make one learner step.")
    epochs: int = Field(default=1, ge=1, le=64, description="Times that a step goes through its groups.")
    minibatches: int = Field(
        default=1, ge=1, le=65536, description="Updates that a step makes each time, each from a part of the groups."
    )
    learning_rate: float = Field(default=2e-5, gt=0, lt=1, description="Learning rate of AdamW after the warm-up.")
    warmup_steps: int = Field(default=2, ge=0, description="Steps over which the learning rate rises linearly.")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="Decoupled weight decay.")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first moment decay.")
    beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's second moment decay.")
    max_gradient_norm: float = Field(default=1.0, gt=0, description="The gradient is scaled down to this norm.")
    micro_batch_tokens: int = Field(
        default=1024, ge=64, description="Tokens of one forward pass; groups share their prompt."
    )
    autocast: Literal["bfloat16", "none"] = Field(
        default="bfloat16", description="Type of matrix products; weights stay float32."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads of the learner; null for every core.")
    step_timeout_s: float = Field(default=1800, gt=0, description="Seconds after which a learner step counts as hung.")


class WeightsSection(Section):
    """How new weights reach the engines."""

    broadcast_every: int = Field(
        default=1, ge=1, description="Learner steps between broadcasts; each makes a policy version."
    )
    max_staleness: int = Field(
        default=1, ge=0, le=1024, description="Policy versions that training may lag behind; 0 = synchronous."
    )
    probe_tolerance: float = Field(
        default=0.12,
        gt=0,
        description="Largest mean |difference| of log-probabilities between learner and engine after a broadcast.",
    )
    timeout_s: float = Field(default=120, gt=0, description="Seconds one broadcast may take.")


class BufferSection(Section):
    """The replay buffer."""

    kind: Literal["queue", "online"] = Field(
        default="queue", description="queue: each group once; online: RLTF's pool, drawn from again."
    )
    capacity: int = Field(default=6400, ge=1, description="Samples the online pool holds (the paper's number).")
    refresh_every: int = Field(
        default=50,
        ge=1,
        description="Learner steps between refreshes of the online pool (the paper's number); one that would starve is refreshed sooner.",
    )
    fill_first: bool = Field(
        default=True,
        description="The first step waits until the online pool is full, or until no more can be sampled before it; false: for one step's groups.",
    )
    max_attempts: int = Field(default=3, ge=1, description="Tries at a group before its place goes to another problem.")
    selection: Literal["uniform", "signal"] = Field(
        default="uniform",
        description="uniform: every problem in turn; signal: problems without mixed outcomes come less often.",
    )


class ExecutorSection(ExecutorSettings):
    """The judge."""

    workers: int = Field(default=2, ge=1, le=65536, description="Executor workers, to begin with.")
    max_workers: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="Have up to so many where programs wait for one, and fewer again after a calm; null leaves their number to people.",
    )
    min_workers: int = Field(default=1, ge=1, le=65536, description="With max_workers: never fewer.")
    queue_age_s: float = Field(
        default=2.0, gt=0, description="With max_workers: seconds that a program may wait for a worker with room."
    )

    def judging(self) -> ExecutorSettings:
        """The judge's settings without the cluster's own."""
        return ExecutorSettings(**self.model_dump(include=set(ExecutorSettings.model_fields)))

    @model_validator(mode="after")
    def _in_order(self) -> ExecutorSection:
        if self.max_workers is not None and not self.min_workers <= self.workers <= self.max_workers:
            raise ValueError(
                f"executor.workers={self.workers} is not between executor.min_workers={self.min_workers} and executor.max_workers={self.max_workers}"
            )
        return self


class EvaluationSection(Section):
    """Evaluation on the held-out problems, before and after training, and now and then between."""

    before: bool = Field(
        default=True, description="Evaluate before training as well; without it a run does not tell a difference."
    )
    every: int = Field(
        default=0,
        ge=0,
        description="Learner steps between evaluations while training goes on, a multiple of weights.broadcast_every and run.checkpoint_every: the best "
        "checkpoint is kept (best.json says which); 0: none.",
    )
    samples: int = Field(default=4, ge=1, le=10000, description="Samples a problem.")
    temperature: float = Field(default=1.0, gt=0, le=2, description="Sampling temperature.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Share of probability mass sampled from.")


class WatchdogSection(Section):
    """What is done about a part of the run that makes no progress any more."""

    after_s: float = Field(
        default=1800, ge=1, description="Seconds without progress, while there is work, after which a part is stuck."
    )
    action: Literal["warn", "restart", "stop"] = Field(
        default="restart",
        description="warn: say so; restart: end it, so that a fresh one takes its place, or the run goes on from its newest checkpoint; stop: end the run. "
        "Its stacks are written into the run folder in any case.",
    )


class RaySection(Section):
    """The Ray cluster."""

    address: str | None = Field(
        default=None, description="Address of a running cluster; null starts one on this machine."
    )
    growing: bool = Field(
        default=False,
        description="An autoscaler adds nodes to the cluster when something waits for them: what is not there yet is waited for and not refused.",
    )
    dashboard: bool = Field(default=False, description="Start Ray's dashboard with a local cluster.")
    dashboard_port: int = Field(default=8265, ge=1024, le=65535, description="Port of that dashboard.")
    object_store_mib: int = Field(default=256, ge=80, description="Object store of a local cluster, in MiB.")


class Config(Section):
    """One run."""

    run: RunSection = Field(default_factory=RunSection, description="How long the run is and where it is kept.")
    model: ModelSection = Field(default_factory=ModelSection, description="The policy.")
    problems: ProblemsSection = Field(
        default_factory=ProblemsSection, description="What is trained on and what is held out."
    )
    algorithm: AlgorithmSection = Field(default_factory=AlgorithmSection, description="What a verdict is worth.")
    rollout: RolloutSection = Field(default_factory=RolloutSection, description="How episodes are generated.")
    engine: EngineSection = Field(default_factory=EngineSection, description="The inference engine.")
    executor: ExecutorSection = Field(default_factory=ExecutorSection, description="The judge.")
    buffer: BufferSection = Field(default_factory=BufferSection, description="The replay buffer.")
    learner: LearnerSection = Field(default_factory=LearnerSection, description="How the policy is changed.")
    weights: WeightsSection = Field(default_factory=WeightsSection, description="How new weights reach the engines.")
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection, description="Evaluation before and after.")
    watchdog: WatchdogSection = Field(default_factory=WatchdogSection, description="What is done about what is stuck.")
    ray: RaySection = Field(default_factory=RaySection, description="The Ray cluster.")

    @model_validator(mode="before")
    @classmethod
    def _model_by_name(cls, data: Any) -> Any:
        """`model=NAME` is short for `model.name=NAME`."""
        if isinstance(data, dict) and isinstance(data.get("model"), str):
            data = {**data, "model": {"name": data["model"]}}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        rollout = self.rollout
        least = rollout.max_prompt_tokens + rollout.max_response_tokens
        if rollout.episode_tokens < least:
            raise ValueError(
                f"rollout.max_context_tokens={rollout.max_context_tokens} cannot hold one response: "
                f"rollout.max_prompt_tokens + rollout.max_response_tokens = {least}"
            )
        if self.learner.micro_batch_tokens < rollout.episode_tokens:
            raise ValueError(
                f"learner.micro_batch_tokens={self.learner.micro_batch_tokens} cannot hold one episode: its prompt, "
                f"{rollout.max_turns} responses and the feedback between may have {rollout.episode_tokens} tokens"
            )
        if self.engine.sleep_mode and (rollout.actors > 1 or self.engine.tensor_parallel > 1):
            raise ValueError(
                f"engine.sleep_mode=true: one engine on one GPU takes turns with the learner: rollout.actors={rollout.actors} and "
                f"engine.tensor_parallel={self.engine.tensor_parallel} must be 1"
            )
        if rollout.max_turns > 1 and not takes_several_turns(self.algorithm.name):
            raise ValueError(
                f"rollout.max_turns={rollout.max_turns}: algorithm {self.algorithm.name} learns from single turns; "
                "set 1, or algorithm.name=rlef"
            )
        if self.learner.minibatches > self.learner.groups_per_step:
            raise ValueError(
                f"learner.minibatches={self.learner.minibatches} are more than the groups of a step: "
                f"learner.groups_per_step={self.learner.groups_per_step}"
            )
        supervised = make_loss(self.algorithm.name, self.algorithm.loss).supervised
        if not (rollout.samples_per_problem or supervised):
            raise ValueError(
                "rollout.samples_per_problem=0 leaves nothing to learn from: set 1 or more, or algorithm.name=sft"
            )
        if rollout.reference_repairs and not (supervised and rollout.max_turns > 1):
            raise ValueError(
                "rollout.reference_repairs=true needs rollout.max_turns of 2 or more and an algorithm that learns from references: "
                "algorithm.loss.supervised_weight above 0"
            )
        for name, other in (
            ("weights.broadcast_every", self.weights.broadcast_every),
            ("run.checkpoint_every", self.run.checkpoint_every),
        ):
            if self.evaluation.every % other:
                raise ValueError(f"evaluation.every={self.evaluation.every} is not a multiple of {name}={other}")
        step = self.learner.groups_per_step * max(1, self.rollout.samples_per_problem)
        if self.buffer.kind == "online" and self.buffer.capacity < step:
            raise ValueError(
                f"buffer.capacity={self.buffer.capacity} is less than the samples of one step: "
                f"learner.groups_per_step * rollout.samples_per_problem = {step}"
            )
        return self


def mistakes(error: ValidationError, prefix: str = "") -> list[str]:
    """One line a mistake: the key, the value, what would do."""
    lines = []
    for item in error.errors():
        key = ".".join(part for part in (prefix, *map(str, item["loc"])) if part) or "configuration"
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key")
        elif item["type"] == "value_error":
            lines.append(
                message
                if message.startswith(tuple(f"{section}." for section in Config.model_fields))
                else f"{key}: {message}"
            )
        else:
            lines.append(f"{key}={item['input']!r}: {message}")
    return lines


def _known_keys(path: Sequence[str]) -> str:
    """The keys that would do at `path`, for an error message."""
    model: type[BaseModel] = Config
    for part in path:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    return ", ".join(model.model_fields)


def _override(data: dict[str, Any], assignment: str) -> None:
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise UserError(f"{assignment!r} is not of the form key=value, like learner.learning_rate=1e-5")
    try:
        value = yaml.safe_load(text)
        if isinstance(value, str):
            value = float(value) if _is_float(value) else value
    except yaml.YAMLError:
        raise UserError(f"{key}: {text!r} is not a YAML value") from None
    node = data
    *parents, last = key.split(".")
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            child = node[part] = {"name": child}
        node = child
    node[last] = value


def _is_float(text: str) -> bool:
    """YAML 1.1 reads 1e-5 as text; a person means the number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_yaml(what: str, path: str | Path) -> Any:
    """What a YAML file holds. Raises UserError, which calls the file `what`, if it cannot be read."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} is not YAML: {' '.join(str(error).split())}") from None


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file (none: all defaults) and apply `a.b=c` overrides.

    Raises UserError, one line a mistake, if the file cannot be read or anything in it is wrong.
    """
    data: dict[str, Any] = {}
    if path is not None:
        loaded = read_yaml("configuration", path)
        if loaded is not None and not isinstance(loaded, dict):
            raise UserError(f"configuration {path}: expected sections, found {type(loaded).__name__}")
        data = loaded or {}
        if isinstance(data.get("model"), str):
            data["model"] = {"name": data["model"]}
    for assignment in overrides:
        _override(data, assignment)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = mistakes(error)
        for index, item in enumerate(error.errors()):
            if item["type"] == "extra_forbidden":
                known = _known_keys([str(part) for part in item["loc"][:-1]])
                lines[index] += f"; known here: {known}" if known else ""
        raise UserError("\n".join(lines)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)

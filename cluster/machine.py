"""Whether this machine can hold the run, asked before anything starts."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

import psutil
from safetensors import safe_open

from cluster.config import Config
from cluster.tools import check as check_tools
from executor.errors import UserError
from learner.losses.base import make as make_loss

GIB = 1 << 30
BYTES_PER_PARAMETER = 16  # float32 weights, gradients and AdamW's two moments
COPIED_BYTES_PER_PARAMETER = 12  # of weights and moments, while a checkpoint is written beside training
LEARNER_BASE_GIB = 1.5  # libraries, and holes in its heap
REFERENCE_BYTES_PER_PARAMETER = 4  # at most: as published, float32 while it scores
REFERENCE_COPIES = 2  # at rest, and visiting
ENGINE_BYTES_PER_PARAMETER = 4  # float32 on a CPU
ENGINE_BASE_GIB = 2.0  # vLLM's two processes on a CPU without weights and cache
WEIGHTS_IN_TRANSIT = 2  # copies in shared memory
RAY_BASE_GIB = 1.5  # Ray's own processes, controller, buffer and executors


def parameters_of(model: Path) -> int:
    """How many numbers the safetensors files of a Hugging Face folder hold, by their headers."""
    total = 0
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def needed_gib(config: Config, parameters: int) -> float:
    """Memory that a run on this machine's CPU takes, roughly."""
    loss = make_loss(config.algorithm.name, config.algorithm.loss)
    trained = parameters * (2 if loss.critic is not None and loss.critic.network == "own" else 1)
    learner = LEARNER_BASE_GIB + trained * BYTES_PER_PARAMETER / GIB + config.learner.micro_batch_tokens / 1024
    if config.run.asynchronous_checkpoints:
        learner += trained * COPIED_BYTES_PER_PARAMETER / GIB
    if loss.reference_policy:
        learner += REFERENCE_COPIES * parameters * REFERENCE_BYTES_PER_PARAMETER / GIB
    weights = parameters * ENGINE_BYTES_PER_PARAMETER / GIB
    engine = ENGINE_BASE_GIB + weights + config.engine.kv_cache_gib
    ray = RAY_BASE_GIB + config.ray.object_store_mib / 1024
    return learner + engine * config.rollout.actors + WEIGHTS_IN_TRANSIT * weights + ray


def check(config: Config, model: Path) -> None:
    """Raises UserError where memory, shared memory, a port or a tool is lacking. A joined cluster is not measured from here."""
    if config.ray.address or os.environ.get("RAY_ADDRESS"):
        return
    check_tools(config)
    parameters = parameters_of(model)
    weights = parameters * ENGINE_BYTES_PER_PARAMETER
    needed = needed_gib(config, parameters)
    available = psutil.virtual_memory().available / GIB
    if available < needed:
        raise UserError(
            f"too little memory: about {needed:.1f} GiB are needed, {available:.1f} GiB are free; "
            "a smaller model, engine.kv_cache_gib or learner.micro_batch_tokens would do"
        )
    shared = psutil.disk_usage("/dev/shm").free
    if shared < 2.2 * weights + (config.ray.object_store_mib << 20):
        raise UserError(
            f"too little shared memory: /dev/shm has {shared / GIB:.1f} GiB free, two copies of the weights and "
            f"Ray's object store need {(2.2 * weights + (config.ray.object_store_mib << 20)) / GIB:.1f} GiB"
        )
    if config.ray.dashboard:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", config.ray.dashboard_port)) == 0:
                raise UserError(f"ray.dashboard_port={config.ray.dashboard_port} is in use; give another one")


def has_gpu() -> bool:
    """Whether torch can use an NVIDIA GPU here."""
    import torch

    return torch.cuda.is_available()

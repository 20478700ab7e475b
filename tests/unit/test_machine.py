"""A run that the machine cannot hold is refused before it starts."""

from __future__ import annotations

import socket
import sysconfig
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from cluster import machine
from cluster.config import Config, load_config
from executor.errors import UserError

SMALL = ("engine.kv_cache_gib=0.1", "ray.object_store_mib=80", "learner.micro_batch_tokens=608")


def config(*overrides: str) -> Config:
    return load_config(None, overrides)


def test_memory_grows_with_everything_that_takes_it() -> None:
    parameters = 135_000_000
    least = machine.needed_gib(config(), parameters)
    # float32 weights, gradients and two moments for each of the 135 million parameters, at the least
    assert 135e6 * 16 / 2**30 < least < 16
    for override in (
        "engine.kv_cache_gib=2",
        "rollout.actors=2",
        "learner.micro_batch_tokens=4096",
        "ray.object_store_mib=1024",
        "run.asynchronous_checkpoints=true",
    ):
        assert machine.needed_gib(config(override), parameters) > least, override
    assert machine.needed_gib(config(), 2 * parameters) > least


def test_a_critic_and_a_reference_take_memory_too() -> None:
    parameters = 135_000_000
    rlef = "algorithm.name=rlef"
    own, shared, neither = (
        machine.needed_gib(config(rlef, *more), parameters)
        for more in (
            (),
            ("algorithm.loss.value_network=shared",),
            ("algorithm.loss.value=group", "algorithm.loss.reference_penalty=0"),
        )
    )
    assert own - shared == pytest.approx(135e6 * 16 / 2**30)
    assert neither == machine.needed_gib(config(), parameters) < shared


def test_a_small_run_fits(model_folder: Path) -> None:
    if psutil.virtual_memory().available < 7 << 30:
        pytest.skip("less than 7 GiB of memory are free")
    machine.check(config(*SMALL), model_folder)


def test_too_little_memory_says_how_much_and_what_would_do(model_folder: Path) -> None:
    with pytest.raises(UserError, match=r"too little memory: about 10\d\d\.\d GiB are needed, .*engine\.kv_cache_gib"):
        machine.check(config("engine.kv_cache_gib=1000"), model_folder)


def test_too_little_shared_memory_is_told(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    asked: list[str] = []
    monkeypatch.setattr(psutil, "disk_usage", lambda path: asked.append(path) or usage(90 << 20))
    machine.check(config(*SMALL), model_folder)
    with pytest.raises(UserError, match=r"/dev/shm has 0\.1 GiB free"):
        machine.check(config(*SMALL, "ray.object_store_mib=100"), model_folder)
    assert asked == ["/dev/shm"] * 2


def test_a_dashboard_port_in_use_is_told(model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = config(*SMALL, "ray.dashboard=true", f"ray.dashboard_port={port}")
        with pytest.raises(UserError, match=f"ray.dashboard_port={port} is in use"):
            machine.check(taken, model_folder)
        machine.check(config(*SMALL, f"ray.dashboard_port={port}"), model_folder)  # nobody asked for a dashboard
    machine.check(taken, model_folder)


def test_a_linter_that_is_missing_is_told(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="needs ruff"):
        machine.check(config(*SMALL, "algorithm.reward.linter=true"), model_folder)


def test_a_joined_cluster_is_not_measured_from_here(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.check(config("ray.address=10.0.0.1:6379", "engine.kv_cache_gib=1000"), model_folder)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as in a submitted job
    machine.check(config("engine.kv_cache_gib=1000"), model_folder)


def test_parameters_are_counted_whatever_their_type(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    assert machine.parameters_of(tmp_path) == 22

"""A run on hosts: no loopback, no shared memory and no signal from one to another. Weights cross; a host whose network is cut while its processes live is
given up, its work done elsewhere, and its return does no harm. In this order."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray_hosts import Hosts, Network, Refused
from whole_runs import ENDLESS, rows, start, steps, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NAMES = ["learner", "engine-1", "engine-2", "executor-1", "executor-2"]
# Ten seconds of silence and a host is given up.
IMPATIENT = {
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "4",
}
SETTINGS = [*ENDLESS, "engine.backend=vllm", "executor.workers=2"]
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture(scope="module")
def model(vllm_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny one, with a tokenizer to which each small letter is a block of code, so that there is something to judge."""
    from tokenizers import Regex, Tokenizer, decoders

    folder = shutil.copytree(vllm_model_folder, tmp_path_factory.mktemp("model") / "tiny")
    told = str(folder / "tokenizer.json")
    tokenizer: Any = Tokenizer.from_file(told)
    block = "\u010a```\u010apass\u010a```\u010a"  # as bytes are written in its vocabulary
    tokenizer.decoder = decoders.Sequence([decoders.Replace(Regex("[a-z]"), block), tokenizer.decoder])
    tokenizer.save(told)
    return folder


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    try:
        network = Network(tmp_path_factory.getbasetemp())
    except Refused as refused:
        pytest.skip(f"no hosts can be had here: {refused}")
    try:
        hosts = Hosts(network, tmp_path_factory.mktemp("r"), **IMPATIENT)
        for name in NAMES:
            network.add(name)
        with ThreadPoolExecutor() as pool:  # each takes seconds
            list(pool.map(lambda name: hosts.join(name, name.partition("-")[0], cpus=2), NAMES))
        wait = [sys.executable, "-m", "cluster.nodes", "--address", hosts.address, "--seconds", "100"]
        done = hosts.command("head", *wait, "learner=1", "engine=2", "executor=2")
        assert done.returncode == 0, done.stderr
        yield hosts
        hosts.close()
    finally:
        network.close()


@dataclass
class Run:
    """Under way."""

    hosts: Hosts
    folder: Path
    process: subprocess.Popen[str]

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        wait_for(what, condition, self.process)

    def goes_on(self) -> None:
        done = len(steps(self.folder))
        self.until("three more steps", lambda: len(steps(self.folder)) >= done + 3)

    def said(self, text: str) -> bool:
        return text in (self.folder / "logs" / "controller.log").read_text()

    def metric(self, name: str) -> float:
        return rows(self.folder)[-1].get(name, 0.0)

    def hosts_of(self, kind: str) -> list[str]:
        """Where the living actors of that class are."""
        hosts = {node["node_id"]: node["node_ip"] for node in self._told("nodes")}
        living = [actor for actor in self._told("actors") if actor["state"] == "ALIVE"]
        return sorted(hosts[actor["node_id"]] for actor in living if actor["class_name"] == kind)

    def _told(self, what: str) -> list[dict[str, Any]]:
        url = f"{self.hosts.dashboard}/api/v0/{what}?limit=1000&detail=true"
        answer = self.hosts.command("head", sys.executable, "-c", FETCH, url)
        return json.loads(answer.stdout)["data"]["result"]["result"]

    def weights_on(self, name: str) -> set[tuple[str, str]]:
        """Version and checksum of each file of weights in the host's shared memory."""
        listed = self.hosts.command(name, "sh", "-c", "sha256sum /dev/shm/cupel-weights-*/*.safetensors").stdout
        return {(Path(path).stem, checksum) for checksum, path in map(str.split, listed.splitlines())}

    def outcomes(self) -> Counter[str]:
        """Of the newest step's episodes."""
        lines = (self.folder / "trajectories" / f"step_{steps(self.folder)[-1]:06d}.jsonl").read_text().splitlines()
        return Counter(json.loads(line)["outcome"] for line in lines)


@pytest.fixture(scope="module")
def run(hosts: Hosts, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Three steps on its way."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    place = [f"ray.address={hosts.address}", f"model={model}", f"run.directory={folder.parent}", "run.name=run"]
    more = ["run.checkpoint_every=100", "run.max_restarts=0"]
    run = Run(hosts, folder, start(*SETTINGS, *more, *place, inside=hosts.inside("head")))
    run.until("step 3", lambda: 3 in steps(folder))
    yield run
    run.process.kill()
    run.process.communicate()


def test_weights_travel_from_the_learners_host_to_the_engines(run: Run) -> None:
    hosts = run.hosts
    assert run.hosts_of("Learner") == [hosts.ip("learner")]
    (engine,) = {hosts.ip(name): name for name in NAMES if hosts.ip(name) in run.hosts_of("RolloutWorker")}.values()
    assert engine.startswith("engine")
    assert run.hosts_of("ExecutorWorker") == [hosts.ip("executor-1"), hosts.ip("executor-2")]
    run.until("the same weights on both", lambda: bool(run.weights_on("learner") & run.weights_on(engine)))
    assert not any(map(run.weights_on, ("head", "executor-1", "executor-2")))
    assert [row["policy_version"] for row in rows(run.folder)] == steps(run.folder)
    assert set(run.outcomes()) - {"no_code", "infrastructure"}, "programs are judged"


def test_an_executor_host_that_is_cut_off_is_replaced_and_may_return(run: Run) -> None:
    hosts = run.hosts
    hosts.network.cut("executor-1")
    run.goes_on()
    other = [hosts.ip("executor-2")] * 2
    run.until("both workers on the other host", lambda: run.hosts_of("ExecutorWorker") == other)
    run.until("both workers up", lambda: run.metric("executor_workers_up") == 2)
    hosts.network.mend("executor-1")
    run.until("the end of what was given up", lambda: hosts.ended("executor-1"))
    hosts.join("executor-1", "executor", 2)
    run.goes_on()
    hosts.network.cut("executor-2")
    run.until(
        "both workers on the host that is back", lambda: run.hosts_of("ExecutorWorker") == [hosts.ip("executor-1")] * 2
    )
    run.goes_on()
    assert run.metric("rollouts_replaced") == 0


def test_an_engine_host_that_is_cut_off_is_replaced_and_may_return(run: Run) -> None:
    hosts = run.hosts
    (lost,) = run.hosts_of("RolloutWorker")
    engines = {hosts.ip(name): name for name in NAMES if name.startswith("engine")}
    hosts.network.cut(engines[lost])
    run.until("an engine on the other host", lambda: run.metric("rollouts_replaced") == 1)
    assert run.hosts_of("RolloutWorker") == [ip for ip in engines if ip != lost]
    hosts.network.mend(engines[lost])
    run.until("the end of what was given up", lambda: hosts.ended(engines[lost]))
    run.goes_on()
    assert run.metric("rollouts_replaced") == 1


def test_a_run_that_has_seen_it_all_ends_as_others_do(run: Run) -> None:
    stop = [sys.executable, "-m", "cluster", "stop", str(run.folder), "--wait", "120"]
    done = run.hosts.command("head", *stop)
    assert done.returncode == 0, done.stderr
    output = run.process.communicate(timeout=60)[0]
    assert run.process.returncode == 130, output
    told = steps(run.folder)
    assert told == list(range(1, len(told) + 1)), "each step has its line, once"
    assert [row["policy_version"] for row in rows(run.folder)] == told

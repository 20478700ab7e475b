"""A Ray cluster of several nodes on this machine: each is a raylet of its own, started as a person would, and can be killed."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

RAY = Path(sys.executable).parent / "ray"
PATIENCE_S = 120
COMMON = [
    "--block",
    "--disable-usage-stats",
    "--object-store-memory=150000000",
    "--min-worker-port=0",
    "--max-worker-port=0",
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Nodes:
    """The head, which runs no actor that asks for a CPU, and those that join it."""

    def __init__(self, folder: Path, *head: str, port: int | None = None, **environment: str) -> None:
        """Start the head, with these further arguments of `ray start` and in this environment."""
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers = itertools.count()
        self._folder = folder
        self.head_folder = folder / "0"
        self.address = f"{self.ip('head')}:{port or free_port()}"
        self.dashboard = f"http://127.0.0.1:{free_port()}"
        self._start(
            "head",
            "--head",
            f"--port={self.address.rpartition(':')[2]}",
            f"--dashboard-port={self.dashboard.rpartition(':')[2]}",
            f"--ray-client-server-port={free_port()}",
            "--num-cpus=0",
            "--labels=cupel-role=head",
            *head,
            **environment,
        )

    def ip(self, name: str) -> str:
        """Where the others reach the node."""
        return "127.0.0.1"

    def inside(self, name: str) -> list[str]:
        """What comes before a command that is to run where the node is."""
        return []

    def _temporary(self) -> Path:
        """A folder of one node's; in one they would unpack a job's files over one another while these are read."""
        return self._folder / str(next(self._numbers))

    def join(self, name: str, role: str, cpus: int, gpus: int = 0) -> None:
        """A node of that role; the GPUs need not be there, Ray only counts them."""
        resources = [f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        self._start(name, f"--address={self.address}", *resources, f"--labels=cupel-role={role}")

    def _start(self, name: str, *arguments: str, **environment: str) -> None:
        log = (self._folder / f"{name}.log").open("wb")
        self._processes[name] = subprocess.Popen(
            [
                *self.inside(name),
                str(RAY),
                "start",
                f"--node-ip-address={self.ip(name)}",
                # Ray's default is the same for all nodes of a machine, and of two agents one would end.
                f"--dashboard-agent-listen-port={free_port()}",
                f"--temp-dir={self._temporary()}",
                *arguments,
                *COMMON,
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                # A job's `python` is looked up where its node's commands are.
                "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",
                "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
                **environment,
            },
        )
        deadline = time.monotonic() + PATIENCE_S
        while b"Ray runtime started" not in Path(log.name).read_bytes():
            assert self._processes[name].poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """The whole node at once, as when its power goes."""
        parent = self._processes.pop(name)
        with suppress(psutil.NoSuchProcess):
            everyone = [psutil.Process(parent.pid), *psutil.Process(parent.pid).children(recursive=True)]
            for one in everyone:
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
            psutil.wait_procs(everyone, timeout=20)
        parent.wait()

    def close(self) -> None:
        for name in [name for name in self._processes if name != "head"]:
            self.kill(name)
        self.kill("head")

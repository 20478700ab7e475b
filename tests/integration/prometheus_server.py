"""A real Prometheus for tests, and a node's metrics port for it to ask, written by the code that writes a real node's: Ray's own recorder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import free_port

ROOT = Path(__file__).resolve().parents[2]
NEEDED = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed (Debian's package: apt-get install prometheus)",
)
TIMEOUT_S = 120.0


def until(done: Callable[[], Any], what: str) -> Any:
    """What `done` answers, once that is something."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (answer := done()):
        assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT_S:.0f} s"
        time.sleep(0.1)
    return answer


def fetch(url: str) -> str | None:
    """The body at `url`; None where nobody answers well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def ask(server: str, query: str, at: float | None = None) -> list[dict[str, Any]]:
    """The result of an instant query, at a time of seconds since 1970 or now."""
    arguments = urllib.parse.urlencode({"query": query, **({"time": str(at)} if at is not None else {})})
    body = fetch(f"{server}/api/v1/query?{arguments}")
    assert body is not None, query
    answer = json.loads(body)
    assert answer["status"] == "success" and not answer.get("warnings"), f"{query}: {answer}"
    return answer["data"]["result"]


class Node:
    """A process that exports lines as a run does, and what Ray tells of a node."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process = process
        self.address = address

    def export(self, run: str, line: dict[str, float], settings: dict[str, Any], late_s: float = 0.0) -> None:
        """Export a line of `run`, that began with `settings`, as of `late_s` ago."""
        self._tell({"run": run, "line": line, "late_s": late_s, "settings": settings})

    def end(self, run: str) -> None:
        """End the process of `run`: what it exported is there no more."""
        self._tell({"end": run})

    def gauges(self, **values: float) -> None:
        """Set gauges of Ray's own, by their names in Prometheus."""
        self._tell({"gauges": values})

    def _tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def running_node() -> Iterator[Node]:
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("exporting_node.py")],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Node(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_prometheus(settings: Path, folder: Path) -> Iterator[str]:
    """The address of a Prometheus with these settings."""
    port = free_port()
    command = ["prometheus", f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or fetch(f"http://127.0.0.1:{port}/-/ready"), "Prometheus is ready")
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)

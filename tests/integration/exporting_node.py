"""The metrics port of a node with runs on it, without a Ray: their exporters feed the recorder by which Ray's agent of a node writes its metrics port.

Prints its address, then `done` for each message: lines of JSON on standard input (see prometheus_server.Node). As in Ray, a gauge is told anew for every report of
its process and shown once for each; here there is a report before every answer.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from unittest.mock import patch

from prometheus_client import generate_latest
from ray._private.telemetry.open_telemetry_metric_recorder import OpenTelemetryMetricRecorder

from cluster.config import Config
from cluster.exporting import Exporter

RECORDER = OpenTelemetryMetricRecorder()
LOCK = threading.Lock()
GAUGES: dict[str, dict[tuple[str, frozenset[tuple[str, str]]], float]] = {}  # by process, what it shows now
OF_A_PROCESS = {
    "Component": "core_worker",
    "SessionName": "session",
    "Version": "2",
    "WorkerId": "0f",
}  # Ray's own tags


def library(process: str) -> SimpleNamespace:
    """Gauge and Counter of ray.util.metrics in a process of that name, as far as this goes without a Ray."""
    shown = GAUGES.setdefault(process, {})

    class Gauge:
        def __init__(self, name: str, description: str = "", tag_keys: tuple[str, ...] = ()) -> None:
            self._name = name
            self._register()(name, description)

        def _register(self) -> Callable[[str, str], None]:
            return RECORDER.register_gauge_metric

        def set(self, value: float, tags: dict[str, str]) -> None:
            shown[self._name, frozenset({**tags, **OF_A_PROCESS}.items())] = value

    class Counter(Gauge):
        def _register(self) -> Callable[[str, str], None]:
            return RECORDER.register_counter_metric

        def inc(self, value: float, tags: dict[str, str]) -> None:
            RECORDER.set_metric_value(self._name, {**tags, **OF_A_PROCESS}, value)

    return SimpleNamespace(Gauge=Gauge, Counter=Counter)


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with LOCK:
            for shown in GAUGES.values():
                for (name, tags), value in shown.items():
                    RECORDER.set_metric_value(name, dict(tags), value)
            body = generate_latest()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"127.0.0.1:{server.server_port}", flush=True)
    exporters: dict[str, Exporter] = {}
    for text in sys.stdin:
        message = json.loads(text)
        with LOCK:
            if "line" in message:
                run = message["run"]
                with patch("cluster.exporting.time.time", return_value=time.time() - message["late_s"]):
                    if run not in exporters:
                        exporters[run] = Exporter(run, Config.model_validate(message["settings"]), library(run))
                        exporters[run].start()
                    exporters[run].write(message["line"])
            elif "end" in message:
                GAUGES[message["end"]].clear()
            else:
                for name, value in message["gauges"].items():
                    library("ray").Gauge(name.removeprefix("ray_")).set(value, {"ip": "10.0.0.1"})
        print("done", flush=True)


if __name__ == "__main__":
    main()

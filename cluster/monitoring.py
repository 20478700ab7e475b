"""`cupel dashboard`: Prometheus and Grafana beside a Ray that runs.

Invariants: what is not there is said with the line that mends it, and the rest is set up all the same; what is started here ends with this process,
what ran before is left alone; every wait is bounded.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cluster.dashboards import alerts, grafana
from cluster.dashboards.prometheus import (
    DASHBOARD_FILE,
    GRAFANA_URL,
    PROMETHEUS_URL,
    Monitoring,
    RayFolder,
    data_source_url,
    grafana_command,
    is_here,
    prometheus_command,
    prometheus_settings,
    ray_temporary_folder,
)
from cluster.run_folder import write_atomically
from executor.errors import UserError

STALE_S = 60.0  # Ray writes its list of nodes every 5 s
READY_S = 60.0
STOP_S = 10.0


def show_dashboard(ray_folder: Path | None, folder: Path, *, start: bool, environment: Mapping[str, str]) -> None:
    """Write what Prometheus and Grafana need, start those that are installed, and stay until an interrupt.

    Raises UserError if no Ray runs here, or what was started ends by itself.
    """
    ray = RayFolder(ray_temporary_folder(ray_folder, environment), environment)
    _check_running(ray)
    monitoring = Monitoring(folder.expanduser().absolute())
    _write(ray, monitoring)
    prometheus_url = _prometheus_url(ray)
    grafana_url = environment.get("RAY_GRAFANA_HOST", GRAFANA_URL)
    started: dict[str, subprocess.Popen[bytes]] = {}
    with ExitStack() as children:
        for name, command in (
            ("prometheus", _prometheus(monitoring, prometheus_url, start=start)),
            ("grafana", _grafana(ray, monitoring, grafana_url, start=start, environment=environment)),
        ):
            if command is not None:
                started[name] = children.enter_context(_running(command, monitoring.log(name)))
        if "prometheus" in started:
            _until_ready("prometheus", started["prometheus"], f"{prometheus_url}/-/ready", monitoring)
            print(f"Prometheus: {prometheus_url} (alerts: {prometheus_url}/alerts)")
        if "grafana" in started:
            _until_ready("grafana", started["grafana"], f"{grafana_url}/api/health", monitoring)
            print(f"Grafana: {grafana_url}/d/{grafana.UID}")
        if started:
            print("an interrupt (Ctrl-C) ends what was started here", flush=True)
            _stay(started, monitoring)


def _check_running(ray: RayFolder) -> None:
    """Raises UserError if no Ray keeps its list of nodes fresh; one without its dashboard does not."""
    advice = (
        "ray start --head, or cupel train ray.dashboard=true, starts one; --ray-folder names another's temporary folder"
    )
    try:
        age = time.time() - ray.nodes.stat().st_mtime
    except FileNotFoundError:
        raise UserError(f"{ray.nodes} is not there, so no Ray with its dashboard runs here: {advice}") from None
    except OSError as error:
        raise UserError(f"{ray.nodes}: {error.strerror or error}") from None
    if age > STALE_S:
        raise UserError(
            f"{ray.nodes} was last written {age:.0f} s ago, so no Ray with its dashboard runs here: {advice}"
        )


def _write(ray: RayFolder, monitoring: Monitoring) -> None:
    try:
        monitoring.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{monitoring.path} cannot be made: {error.strerror or error}; --folder names another"
        ) from None
    write_atomically(monitoring.rules, alerts.as_yaml())
    write_atomically(monitoring.settings, prometheus_settings(ray.nodes, monitoring.rules))
    write_atomically(monitoring.dashboard, grafana.as_json())
    print(f"Prometheus's settings: {monitoring.settings}, alert rules: {monitoring.rules}")
    if ray.dashboards.is_dir():
        write_atomically(ray.dashboards / DASHBOARD_FILE, grafana.as_json())
        print(f"Grafana's dashboard: {ray.dashboards / DASHBOARD_FILE}")
    else:
        print(f"{ray.dashboards} is not there (Ray's newest session has no dashboard): import into Grafana")
        print(f"  {monitoring.dashboard}")


def _prometheus_url(ray: RayFolder) -> str:
    """Where this Ray's Grafana looks for Prometheus: as RAY_PROMETHEUS_HOST was when Ray began."""
    try:
        told = data_source_url(ray.data_source.read_text(encoding="utf-8"))
    except OSError:
        told = None
    return (told or PROMETHEUS_URL).rstrip("/")


def _prometheus(monitoring: Monitoring, url: str, *, start: bool) -> list[str] | None:
    """The command to start Prometheus with, or None with the reason told."""
    program = shutil.which("prometheus")
    command = prometheus_command(program or "prometheus", monitoring, url)
    if _answers(f"{url}/-/healthy"):
        print(f"a Prometheus answers at {url} already: give it {monitoring.settings},")
        print("  or its scrape_configs and rule_files, and have it read them again")
    elif not is_here(url):
        print(f"Prometheus is expected at {url} (RAY_PROMETHEUS_HOST): give the one there {monitoring.settings}")
    elif program is None:
        print(
            "prometheus is not installed here: apt-get install prometheus, or a release from its site; then again, or"
        )
        print(f"  {shlex.join(command)}")
    elif not start:
        print(f"Prometheus is started with: {shlex.join(command)}")
    else:
        return command
    return None


def _grafana(
    ray: RayFolder, monitoring: Monitoring, url: str, *, start: bool, environment: Mapping[str, str]
) -> list[str] | None:
    """The command to start Grafana with, or None with the reason told."""
    if not ray.grafana_ini.is_file():
        return None  # _write has told what to do
    program = shutil.which("grafana") or shutil.which("grafana", path="/usr/share/grafana/bin")
    home = _grafana_home(program, environment)
    command = grafana_command(program or "grafana", home, ray, monitoring, url)
    if _answers(f"{url}/api/health"):
        print(f"a Grafana answers at {url} already: started with {ray.grafana_ini} it shows {url}/d/{grafana.UID};")
        print(f"  else import {monitoring.dashboard}")
    elif not is_here(url):
        print(f"Grafana is expected at {url} (RAY_GRAFANA_HOST): import {monitoring.dashboard} there")
    elif program is None:
        print("grafana is not installed here: install its package or unpack a release from its site; then again, or")
        print(f"  {shlex.join(command)}")
    elif not start:
        print(f"Grafana is started with: {shlex.join(command)}")
    else:
        return command
    return None


def _grafana_home(program: str | None, environment: Mapping[str, str]) -> Path:
    """The folder with Grafana's pages: as told, that of an unpacked release, or that of the packages."""
    if told := environment.get("GF_PATHS_HOME"):
        return Path(told)
    unpacked = Path(program).resolve().parent.parent if program else None
    return unpacked if unpacked is not None and (unpacked / "public").is_dir() else Path("/usr/share/grafana")


def _answers(url: str) -> bool:
    """Whether `url` answers well within a second or two."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when the block does; it hears no Ctrl-C of ours, so that it is ended in order."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _until_ready(name: str, process: subprocess.Popen[bytes], url: str, monitoring: Monitoring) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(url):
        _check_alive(name, process, monitoring)
        if time.monotonic() > deadline:
            raise UserError(f"{name} does not answer at {url} after {READY_S:.0f} s; its log: {monitoring.log(name)}")
        time.sleep(0.2)


def _stay(started: Mapping[str, subprocess.Popen[bytes]], monitoring: Monitoring) -> None:
    """Return at an interrupt. Raises UserError if something ends by itself."""
    try:
        while True:
            for name, process in started.items():
                _check_alive(name, process, monitoring)
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


def _check_alive(name: str, process: subprocess.Popen[bytes], monitoring: Monitoring) -> None:
    if process.poll() is None:
        return
    lines = monitoring.log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = f": {lines[-1][:500]}" if lines else ""
    raise UserError(f"{name} ended with code {process.returncode}{said}\nits log: {monitoring.log(name)}")

"""Set up `.venv` in the checkout: the command behind `make train` and `make test`, run before anything is installed.

Standard library only, and readable by any Python 3.6 or later, so that a Python too old is told so. Invariants: the
stamp in `.venv` is written last, so an install that was cut short is done again; two at a time wait for one another;
with the stamp in place nothing is started.
"""

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time

OLDEST, NEWEST = (3, 11), (3, 13)
HERE = ".".join(map(str, sys.version_info[:2]))
if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        f"cupel: Python 3.11 to 3.13 is needed and {sys.executable} is Python {HERE}.\n"
        "       Install one and name it: make PYTHON=python3.12 train"
    )

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "cupel-install.json")
# PyTorch's public index of builds for the CPU, used where no local folder of wheels has one.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# What would make a Python or pip in .venv look elsewhere.
MISLEADING = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_REQUIRE_VIRTUALENV",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
)


class InstallError(Exception):
    """Something a person can mend."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Set up .venv for this machine.")
    parser.add_argument("--dev", action="store_true", help="install what the tests and checks need as well")
    dev = parser.parse_args(arguments).dev
    try:
        device = find_device()
        wanted = fingerprint(device)
        if installed(wanted, dev):
            return 0
        with Lock():
            if not installed(wanted, dev):
                install(device, wanted, dev or dev_before())
    except InstallError as error:
        print(f"cupel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("cupel: interrupted; the next call goes on", file=sys.stderr)
        return 130
    return 0


# What is wanted ------------------------------------------------------------------------------------------------------


def find_device() -> str:
    """gpu where the driver shows an NVIDIA GPU, else cpu; CUPEL_DEVICE decides where it is set."""
    chosen = os.environ.get("CUPEL_DEVICE", "").strip().lower()
    if chosen in ("cpu", "gpu"):
        return chosen
    if chosen:
        raise InstallError(f"CUPEL_DEVICE={chosen!r}: cpu and gpu are possible")
    try:
        if os.listdir("/proc/driver/nvidia/gpus"):
            return "gpu"
    except OSError:
        pass
    program = shutil.which("nvidia-smi")
    if program is None:
        return "cpu"
    try:
        done = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    return "gpu" if done.returncode == 0 and "GPU " in done.stdout else "cpu"


def overrides(device: str) -> str:
    return os.path.join(ROOT, "cluster", "deploy", f"overrides-{device}.txt")


def fingerprint(device: str) -> str:
    """Changes whenever an install would give something else: dependencies, overrides, device, Python."""
    import tomllib

    try:
        with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
            project = tomllib.load(file)
        with open(overrides(device), "rb") as file:
            left_out = file.read()
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InstallError(str(error)) from None
    tables = {name: project.get(name) for name in ("build-system", "project")}
    parts = [json.dumps(tables, sort_keys=True), left_out.decode(), device, HERE, ROOT]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read_stamp() -> dict[str, object]:
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def installed(wanted: str, dev: bool) -> bool:
    stamp = read_stamp()
    return (
        stamp.get("fingerprint") == wanted and (not dev or stamp.get("dev") is True) and os.path.exists(venv_python())
    )


def dev_before() -> bool:
    """An install for the tests stays one when its dependencies change."""
    return read_stamp().get("dev") is True


# Installing ----------------------------------------------------------------------------------------------------------


class Lock:
    """Hold the checkout while installing; the lock ends with the process. Waits for another install, saying so."""

    def __enter__(self) -> None:
        self.descriptor = os.open(ROOT, os.O_RDONLY)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another install in this checkout to end")
            started = time.monotonic()
            while True:
                try:
                    fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() - started > 3600:
                        raise InstallError("another install in this checkout has not ended within an hour") from None
                    time.sleep(0.5)

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def install(device: str, wanted: str, dev: bool) -> None:
    started = time.monotonic()
    say(f"installing for the {device.upper()} into {VENV} (once; CUPEL_DEVICE=cpu or gpu decides otherwise)")
    if os.path.lexists(STAMP):
        os.unlink(STAMP)
    make_venv()
    settings = pip_settings()
    if not os.path.exists(os.path.join(VENV, "bin", "uv")):
        run(
            [venv_python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"],
            "installing uv failed",
        )
    run(uv_command(device, dev, settings), "the installation failed; run the same command again to go on")
    part = STAMP + ".part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump({"fingerprint": wanted, "device": device, "dev": dev}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, STAMP)
    say(f"installed in {time.monotonic() - started:.0f} s")


def make_venv() -> None:
    """Make .venv, or keep a whole one of the same Python."""
    if venv_version() == HERE:
        return
    try:
        import ensurepip
        import venv
    except ImportError:
        raise InstallError(
            f"{sys.executable} has no ensurepip, which makes virtual environments.\n"
            f"       On Debian or Ubuntu: apt install python3-venv (or python{HERE}-venv)"
        ) from None
    del ensurepip, venv
    run([sys.executable, "-m", "venv", "--clear", VENV], "making .venv failed")


def venv_version() -> str:
    """Python of .venv as major.minor; empty unless it runs and has pip."""
    if not os.path.exists(venv_python()):
        return ""
    code = "import sys, pip; print('.'.join(map(str, sys.version_info[:2])))"
    try:
        done = subprocess.run(
            [venv_python(), "-c", code], capture_output=True, text=True, timeout=60, check=False, env=environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def uv_command(device: str, dev: bool, settings: dict[str, list[str]]) -> list[str]:
    """The one command that installs everything."""
    extras = f"{device},dev" if dev else device
    command = [
        os.path.join(VENV, "bin", "uv"),
        "pip",
        "install",
        "--python",
        venv_python(),
        "--overrides",
        overrides(device),
    ]
    for place in settings["find-links"]:
        command += ["--find-links", place]
    if settings["index-url"] and not any(name in os.environ for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        command += ["--default-index", settings["index-url"][0]]
    if device == "cpu" and platform.system() == "Linux" and not has_cpu_torch(settings["find-links"]):
        command += ["--extra-index-url", CPU_INDEX, "--index-strategy", "unsafe-best-match"]
    return [*command, "-e", f"{ROOT}[{extras}]"]


def has_cpu_torch(places: list[str]) -> bool:
    """Whether one of the folders of wheels holds torch's build for the CPU, for this Python and machine."""
    tag = "cp{}{}".format(*sys.version_info[:2])
    for place in places:
        folder = place[len("file://") :] if place.startswith("file://") else place
        try:
            names = [name.replace("%2B", "+") for name in os.listdir(folder)]
        except OSError:
            continue
        for name in names:
            ours = f"-{tag}-{tag}-" in name and name.endswith(f"{platform.machine()}.whl")
            if ours and name.startswith("torch-") and "+cpu" in name:
                return True
    return False


def pip_settings() -> dict[str, list[str]]:
    """What pip is set to use as folders of wheels and as index: uv does not read pip's settings by itself."""
    found: dict[str, list[str]] = {"find-links": [], "index-url": []}
    command = [venv_python(), "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())
    for line in done.stdout.splitlines():
        name, sign, value = line.partition("=")
        key = name.rpartition(".")[2]
        if sign and key in found:
            found[key] += [
                word for word in value.strip().strip("'\"").replace("\\n", " ").split() if word not in found[key]
            ]
    return found


def run(command: list[str], failure: str) -> None:
    try:
        code = subprocess.call(command, env=environment(), cwd=ROOT)
    except OSError as error:
        raise InstallError(f"{failure}: {command[0]}: {error.strerror}") from None
    if code:
        raise InstallError(f"{failure} (exit code {code})")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in MISLEADING}


def venv_python() -> str:
    return os.path.join(VENV, "bin", "python")


def say(text: str) -> None:
    print(f"cupel: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

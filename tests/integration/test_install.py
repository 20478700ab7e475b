"""The installer in a checkout of its own: real processes, a real virtual environment, and a stand-in for uv, since tests do not download."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import install

ROOT = Path(__file__).resolve().parents[2]
# Notes how it was called, then does as the files beside the log say: waits, or fails.
UV = """#!/bin/sh
echo "$@" >> "{log}"
if [ -e "{log}.slow" ]; then sleep 3; fi
if [ -e "{log}.fails" ]; then echo "no such package" >&2; exit 1; fi
"""


class Checkout:
    """A checkout with a virtual environment whose uv is the stand-in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "uv.log"
        (path / "cluster" / "deploy").mkdir(parents=True)
        shutil.copy(ROOT / "cluster" / "install.py", path / "cluster")
        shutil.copy(ROOT / "pyproject.toml", path)
        for name in ("overrides-cpu.txt", "overrides-gpu.txt"):
            shutil.copy(ROOT / "cluster" / "deploy" / name, path / "cluster" / "deploy")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path / ".venv")], check=True)
        (packages,) = (path / ".venv" / "lib").glob("python3*/site-packages")
        (packages / "pip").mkdir()
        (packages / "pip" / "__init__.py").write_text("")
        (packages / "pip" / "__main__.py").write_text("")
        uv = path / ".venv" / "bin" / "uv"
        uv.write_text(UV.format(log=self.log))
        uv.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.path / "cluster" / "install.py"), *arguments],
            env={**os.environ, "CUPEL_DEVICE": "cpu", **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def install(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    @property
    def stamp(self) -> Path:
        return self.path / ".venv" / "cupel-install.json"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_the_second_call_does_nothing_and_is_quick(checkout: Checkout) -> None:
    code, out = checkout.install()
    assert code == 0, out
    started = time.monotonic()
    assert checkout.install() == (0, "")
    assert time.monotonic() - started < 1.0 + os.getloadavg()[0] / 2
    (call,) = checkout.calls
    assert call.endswith(f"-e {checkout.path}[cpu]")
    assert "--overrides" in call and "overrides-cpu.txt" in call


def test_tests_need_more_and_keep_it(checkout: Checkout) -> None:
    assert checkout.install()[0] == 0
    assert checkout.install("--dev")[0] == 0
    assert checkout.install()[0] == 0
    assert [call.rpartition("[")[2] for call in checkout.calls] == ["cpu]", "cpu,dev]"]


def test_a_changed_dependency_is_installed_and_a_changed_tool_setting_is_not(checkout: Checkout) -> None:
    assert checkout.install("--dev")[0] == 0
    project = checkout.path / "pyproject.toml"
    project.write_text(project.read_text().replace("line-length = 120", "line-length = 100"))
    assert checkout.install()[0] == 0
    assert len(checkout.calls) == 1
    project.write_text(project.read_text().replace("pyyaml>=6.0", "pyyaml>=6.0.1"))
    assert checkout.install()[0] == 0
    assert [call.rpartition("[")[2] for call in checkout.calls] == ["cpu,dev]", "cpu,dev]"]


def test_the_other_device_is_another_install(checkout: Checkout) -> None:
    assert checkout.install()[0] == 0
    assert checkout.install(CUPEL_DEVICE="gpu")[0] == 0
    assert checkout.calls[1].endswith("[gpu]") and "overrides-gpu.txt" in checkout.calls[1]
    assert install.CPU_INDEX not in checkout.calls[1]


def test_a_failed_install_is_told_and_done_again(checkout: Checkout) -> None:
    Path(f"{checkout.log}.fails").touch()
    code, out = checkout.install()
    assert code == 2
    assert "cupel: the installation failed" in out and "no such package" in out
    assert not checkout.stamp.exists()
    Path(f"{checkout.log}.fails").unlink()
    assert checkout.install()[0] == 0
    assert checkout.stamp.exists()


def test_a_killed_install_leaves_no_stamp_even_where_there_was_one(checkout: Checkout) -> None:
    assert checkout.install()[0] == 0
    Path(f"{checkout.log}.slow").touch()
    process = checkout.start("--dev")
    while len(checkout.calls) < 2:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not checkout.stamp.exists()
    Path(f"{checkout.log}.slow").unlink()
    assert checkout.install("--dev")[0] == 0
    assert json.loads(checkout.stamp.read_text())["dev"] is True


def test_two_at_a_time_install_once(checkout: Checkout) -> None:
    Path(f"{checkout.log}.slow").touch()
    processes = [checkout.start() for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(checkout.calls) == 1
    assert "waiting for another install" in "".join(outputs)


def test_a_python_without_ensurepip_is_told_what_to_do(checkout: Checkout) -> None:
    shutil.rmtree(checkout.path / ".venv")
    code = f"import sys, runpy; sys.modules['ensurepip'] = None; runpy.run_path({str(checkout.path / 'cluster/install.py')!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUPEL_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr and "Traceback" not in done.stderr


def test_a_virtual_environment_of_another_python_is_made_anew(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "VENV", str(checkout.path / ".venv"))
    assert install.venv_version() == install.HERE
    (checkout.path / ".venv" / "bin" / "python").unlink()
    assert install.venv_version() == ""


@pytest.mark.parametrize("version", ["3.6", "3.8", "3.10"])
def test_an_old_python_is_told_so(version: str) -> None:
    found = [shutil.which(f"python{version}"), *Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python")]
    working = [
        p for p in found if p and not subprocess.run([p, "--version"], capture_output=True, check=False).returncode
    ]
    if not working:
        pytest.skip(f"there is no Python {version} here")
    python = str(working[0])
    done = subprocess.run([python, str(ROOT / "cluster" / "install.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"is Python {version}" in done.stderr and "Traceback" not in done.stderr


def test_the_device_is_what_is_said_or_what_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUPEL_DEVICE", "GPU")
    assert install.find_device() == "gpu"
    monkeypatch.setenv("CUPEL_DEVICE", "tpu")
    with pytest.raises(install.InstallError, match="cpu and gpu are possible"):
        install.find_device()
    monkeypatch.delenv("CUPEL_DEVICE")
    if os.path.isdir("/proc/driver/nvidia/gpus"):
        assert install.find_device() == "gpu"
        return
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for script, device in (("echo 'GPU 0: H200'", "gpu"), ("echo failed; exit 9", "cpu"), ("echo No devices", "cpu")):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        assert install.find_device() == device


def test_torch_for_the_cpu_comes_from_a_folder_of_wheels_or_from_pytorchs_index(tmp_path: Path) -> None:
    without = install.uv_command("cpu", False, {"find-links": [str(tmp_path)], "index-url": []})
    assert install.CPU_INDEX in without and str(tmp_path) in without
    tag, other = f"cp3{sys.version_info.minor}", f"cp3{sys.version_info.minor + 1}"
    machine = platform.machine()
    for unfit in (f"{other}-{other}-linux_{machine}", f"{tag}-{tag}-linux_pdp11"):
        (tmp_path / f"torch-2.13.0%2Bcpu-{unfit}.whl").touch()
    assert install.CPU_INDEX in install.uv_command("cpu", False, {"find-links": [str(tmp_path)], "index-url": []})
    (tmp_path / f"torch-2.13.0%2Bcpu-{tag}-{tag}-manylinux_2_28_{machine}.whl").touch()
    assert install.CPU_INDEX not in install.uv_command("cpu", False, {"find-links": [str(tmp_path)], "index-url": []})
    assert install.CPU_INDEX not in install.uv_command("gpu", False, {"find-links": [], "index-url": []})


def test_the_makefile_hands_over_what_it_is_given() -> None:
    def dry(*arguments: str) -> str:
        command = ["make", "-n", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "-m cluster train run.steps=2" in dry("train", "ARGS=run.steps=2")
    assert "mypython cluster/install.py --dev" in dry("test", "PYTHON=mypython")
    assert dry("test").index("tests/unit") < dry("test").index("tests/integration")

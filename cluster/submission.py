"""What is submitted to a Ray cluster as a job, and what can be said against it beforehand; pure.

Invariants: nothing is installed when a job starts unless a person asks for it (the nodes have the packages); every finding is one line that
says what would do; facts of the cluster and of the folder are handed in.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config import Config
from cluster.nodes import Node
from cluster.placement import Demand, plan
from executor.errors import UserError

# What is never uploaded, whatever folder a job is submitted from; a checkout's .rayignore says the same to `ray job submit`.
EXCLUDES = (
    ".git",
    ".venv",
    "/runs",
    "__pycache__",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
    "*.egg-info",
    "*.safetensors",
    "*.gguf",
    "*.bin",
    "*.pt",
)
# Ray kills a job that is asked to stop after 3 s; a checkpoint of a large model takes minutes to write.
STOP_WAIT_S = 600
PYTHONS = ((3, 11), (3, 13))
_NAMED = 3  # largest files named
_MIB = 1 << 20


@dataclass(frozen=True)
class Finding:
    """Something to tell before a job is submitted. `stops`: the run could not work as it is."""

    text: str
    stops: bool = True


@dataclass(frozen=True)
class Versions:
    """Of Ray and of Python, as far as known."""

    ray: str
    python: str | None


@dataclass(frozen=True)
class Cluster:
    """What is known of a cluster."""

    versions: Versions
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Upload:
    """The files of the working directory that would be uploaded, with their sizes, and what Ray takes at most."""

    files: tuple[tuple[str, int], ...]
    limit: int

    @property
    def size(self) -> int:
        """In bytes; Ray packs files without compressing them."""
        return sum(size for _, size in self.files)


def entrypoint(config: Path | None, overrides: Sequence[str], resume: str | None = None) -> str:
    """The command that the cluster runs, in a copy of the working directory. `config` is relative to that, `resume` a run folder of the cluster or a copy's URL."""
    source = ["--resume", resume] if resume else [config.as_posix()] if config else []
    return shlex.join(["python", "-m", "cluster", "train", *source, *overrides])


def runtime_env(working_dir: Path, install: Sequence[str] = ()) -> dict[str, Any]:
    """Ray's runtime environment of the job. `install`: packages that each node installs first, by pip's names."""
    environment: dict[str, Any] = {
        "working_dir": str(working_dir),
        "excludes": list(EXCLUDES),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
    }
    if install:
        environment["pip"] = list(install)
    return environment


def findings(
    config: Config | None, path: Path | None, working_dir: Path, upload: Upload, cluster: Cluster, ours: Versions
) -> list[Finding]:
    """Everything to tell, what stops a submission first. `config` is None where only the cluster can read it: a run that is gone on with."""
    found = [*_versions(cluster.versions, ours), *_alive(cluster.nodes), *_size(upload)]
    if config is not None:
        found += _paths(config, path, working_dir, cluster.nodes)
    if config is not None and cluster.nodes:
        found += _room(config, cluster.nodes)
    return sorted(found, key=lambda finding: not finding.stops)


def _versions(there: Versions, ours: Versions) -> Iterable[Finding]:
    if there.ray != ours.ray:
        yield Finding(
            f"Ray {there.ray} runs on the cluster, Ray {ours.ray} is installed here: install ray=={ours.ray} on every node"
        )
    if there.python is None:
        return
    minor = _minor(there.python)
    if not PYTHONS[0] <= minor <= PYTHONS[1]:
        yield Finding(f"Python {there.python} runs on the cluster: Python 3.11 to 3.13 is needed")
    elif ours.python is not None and minor != _minor(ours.python):
        yield Finding(
            f"Python {there.python} runs on the cluster, Python {ours.python} here: programs are judged by the cluster's",
            stops=False,
        )


def _minor(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


def _alive(nodes: tuple[Node, ...]) -> Iterable[Finding]:
    if not nodes:
        yield Finding("no node of the cluster is alive: ray start --head, and ray start --address=HEAD:6379 elsewhere")


def _room(config: Config, nodes: tuple[Node, ...]) -> Iterable[Finding]:
    try:
        plan(nodes, Demand.of(config), config.ray.growing)
    except UserError as error:
        yield Finding(str(error))


def _size(upload: Upload) -> Iterable[Finding]:
    if upload.size < upload.limit:
        return
    largest = sorted(upload.files, key=lambda file: -file[1])[:_NAMED]
    named = ", ".join(f"{name} ({size / _MIB:.1f} MiB)" for name, size in largest)
    yield Finding(
        f"the working directory has {upload.size / _MIB:.0f} MiB, Ray uploads less than {upload.limit / _MIB:.0f} MiB: "
        f"name what is not needed in .rayignore; the largest: {named}"
    )


def _paths(config: Config, path: Path | None, working_dir: Path, nodes: tuple[Node, ...]) -> Iterable[Finding]:
    if path is not None and not path.resolve().is_relative_to(working_dir.resolve()):
        yield Finding(f"{path} is not in {working_dir}, which is what is uploaded: copy it there")
    if config.ray.address is not None:
        yield Finding(f"ray.address={config.ray.address}: a job uses the cluster that it is submitted to; leave it out")
    if not Path(config.run.directory).is_absolute():
        yield Finding(
            f"run.directory={config.run.directory}: it would lie in the job's copy of the working directory, which Ray removes; "
            "give a folder that all nodes share, like run.directory=/shared/runs"
        )
    if len(nodes) > 1 and config.model.cache.startswith("~"):
        yield Finding(
            f"model.cache={config.model.cache}: every node reads the model at the same place; "
            "with more than one, give a folder that all share, like model.cache=/shared/models",
            stops=False,
        )

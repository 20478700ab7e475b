"""The files of cluster/deploy say what the rest of the repository says, and what those who read them understand."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml
from kuberay_fields import ClusterSpec, ContainerSecurity, PodSecurity, RayCluster, RayJob

from cluster.cli import app
from cluster.config import load_config
from cluster.nodes import ROLE_LABEL, ROLES
from cluster.submission import STOP_WAIT_S
from executor.sandbox.level import LEVELS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "cluster" / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
RAY = next(text for text in EXTRAS["executor"] if text.startswith("ray")).partition("==")[2]
_SPEC = importlib.util.find_spec("ray")
assert _SPEC is not None and _SPEC.submodule_search_locations, "tests are run with Ray installed"
RAY_HOME = Path(_SPEC.submodule_search_locations[0])
WORKERS = set(ROLES) - {"head"}
DEADLINE_S = 60


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


def groups(spec: ClusterSpec) -> dict[str, Any]:
    return {group.labels[ROLE_LABEL]: group for group in (spec.headGroupSpec, *spec.workerGroupSpecs)}


CLUSTER = RayCluster.model_validate(read("raycluster.yaml"))
JOB = RayJob.model_validate(read("rayjob.yaml"))


# Kubernetes ----------------------------------------------------------------------------------------------------------


def test_every_role_has_a_group_of_its_own_with_its_own_bounds() -> None:
    found = groups(CLUSTER.spec)
    assert set(found) == set(ROLES) and len(CLUSTER.spec.workerGroupSpecs) == len(WORKERS)
    for group in CLUSTER.spec.workerGroupSpecs:
        assert 0 < group.minReplicas <= group.replicas <= group.maxReplicas
    assert found["executor"].maxReplicas > found["executor"].minReplicas
    assert CLUSTER.spec.autoscalerOptions.version == "v2", "the autoscaler that knows labels"


def test_a_job_has_the_cluster_of_the_other_file() -> None:
    assert read("rayjob.yaml")["spec"]["rayClusterSpec"] == read("raycluster.yaml")["spec"]


def test_only_learner_and_engines_ask_for_gpus() -> None:
    for role, group in groups(CLUSTER.spec).items():
        (container,) = group.template.spec.containers
        assert container.resources.requests == container.resources.limits, "so that no pod is thrown out for another"
        assert ("nvidia.com/gpu" in container.resources.limits) == (role in ("learner", "engine"))
        assert container.image == ("cupel:executor" if role == "executor" else "cupel:gpu")


def test_every_volume_that_is_mounted_is_there_and_programs_see_none() -> None:
    for role, group in groups(CLUSTER.spec).items():
        spec = group.template.spec
        mounted = {mount.name for container in spec.containers for mount in container.volumeMounts}
        assert mounted == {volume.name for volume in spec.volumes}
        assert bool(mounted) == (role != "executor")
        assert role == "head" or spec.automountServiceAccountToken is False


def test_what_a_job_runs_is_a_valid_run_whose_files_outlive_it() -> None:
    words = shlex.split(JOB.spec.entrypoint)
    assert words[:4] == ["python", "-m", "cluster", "train"]
    config = load_config(None, words[4:])
    mounts = JOB.spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].volumeMounts
    for folder in (config.run.directory, config.model.cache):
        assert any(Path(folder).is_relative_to(mount.mountPath) for mount in mounts)
    environment = yaml.safe_load(JOB.spec.runtimeEnvYAML)
    assert environment == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}


CONTEXTS: dict[str, Any] = read("security-contexts.yaml")


@pytest.mark.parametrize("name", CONTEXTS)
def test_each_security_context_is_one_and_says_its_levels_and_why(name: str) -> None:
    context = CONTEXTS[name]
    pod = PodSecurity.model_validate(context["pod"])
    container = ContainerSecurity.model_validate(context["container"])
    assert {context["level"], context["level_without_landlock"]} <= set(LEVELS) and context["why"]
    assert container.capabilities is not None and container.capabilities.drop == ["ALL"]
    root = pod.runAsUser == 0
    assert root != bool(pod.runAsNonRoot) and root == bool(container.capabilities.add)
    # Kubernetes refuses the one with the other.
    assert container.allowPrivilegeEscalation is ("SYS_ADMIN" in container.capabilities.add)


def test_executors_have_one_of_these_contexts_and_the_job_asks_for_its_level() -> None:
    spec = groups(CLUSTER.spec)["executor"].template.spec
    given = (spec.securityContext.model_dump(), spec.containers[0].securityContext.model_dump())
    wanted = CONTEXTS["restricted"]
    assert given == (
        PodSecurity.model_validate(wanted["pod"]).model_dump(),
        ContainerSecurity.model_validate(wanted["container"]).model_dump(),
    )
    assert load_config(None, shlex.split(JOB.spec.entrypoint)[4:]).executor.min_level == wanted["level"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give capabilities away")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
@pytest.mark.parametrize(
    "name", [name for name, context in CONTEXTS.items() if context["container"]["capabilities"].get("add")]
)
def test_the_capabilities_of_a_context_suffice_for_its_level(name: str) -> None:
    """What a container's runtime adds to or takes from that (its profiles, a masked /proc) is not shown here."""
    context = CONTEXTS[name]
    probe = (
        "import sys\n"
        "from executor import ExecutorSettings, Judge\n"
        "with Judge(ExecutorSettings(slots=1, max_level=sys.argv[1])) as judge: print(judge.level)\n"
    )
    kept = ",".join(f"+{capability.lower()}" for capability in context["container"]["capabilities"]["add"])
    privileges = ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all"]
    if not context["container"]["allowPrivilegeEscalation"]:
        privileges.append("--no-new-privs")

    def level(highest: str) -> str:
        words = [*privileges, sys.executable, "-c", probe, highest]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S * 2, check=True)
        return done.stdout.strip()

    have = subprocess.run(
        [sys.executable, "-c", probe, "L3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 2,
        check=True,
    ).stdout.strip()
    assert level("L3") == min(context["level"], have)
    assert level("L1") == context["level_without_landlock"]


# Ray's launcher ------------------------------------------------------------------------------------------------------


def test_the_launcher_file_is_one_by_rays_own_schema() -> None:
    schema = RAY_HOME / "autoscaler" / "ray-schema.json"
    jsonschema.validate(read("launcher-aws.yaml"), json.loads(schema.read_text(encoding="utf-8")))


def test_the_launcher_has_a_node_type_for_each_role() -> None:
    launcher = read("launcher-aws.yaml")
    types = launcher["available_node_types"]
    assert {kind["labels"][ROLE_LABEL] for kind in types.values()} == set(ROLES) == set(types)
    assert launcher["head_node_type"] == "head" and types["head"]["resources"] == {"CPU": 0}
    assert launcher["max_workers"] == sum(types[role]["max_workers"] for role in WORKERS)


# Images --------------------------------------------------------------------------------------------------------------


def test_images_have_one_python_that_the_project_allows() -> None:
    versions = set(re.findall(r"^FROM python:(\d+\.\d+)-", DOCKERFILE, re.M))
    assert len(versions) == 1
    minor = tuple(map(int, versions.pop().split(".")))
    oldest, newest = re.fullmatch(r">=(\d+\.\d+),<(\d+\.\d+)", PROJECT["requires-python"]).groups()  # pyright: ignore
    assert tuple(map(int, oldest.split("."))) <= minor < tuple(map(int, newest.split(".")))


def test_no_image_pins_what_pyproject_pins() -> None:
    assert not re.search(r"==\s*\d", DOCKERFILE)
    assert CLUSTER.spec.rayVersion == JOB.spec.rayClusterSpec.rayVersion == RAY


def test_every_image_that_the_files_name_is_a_target() -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))
    text = "".join(path.read_text(encoding="utf-8") for path in DEPLOY.glob("*.yaml"))
    assert {name.partition(":")[2] for name in re.findall(r"image: (\S+)", text)} <= targets


def test_what_an_image_installs_is_an_extra_and_executors_get_no_torch() -> None:
    installed = set(re.findall(r"'\.\[(\w+)\]'", DOCKERFILE)) | set(re.findall(r"CUPEL_DEVICE=(\w+)", DOCKERFILE))
    assert installed == {"executor", "cpu", "gpu"} <= set(EXTRAS)
    assert not [text for text in EXTRAS["executor"] if re.match(r"torch|vllm|transformers|cupel\[", text)]
    assert "cupel[executor,linter]" in EXTRAS["train"], "one pin of Ray for all nodes"


def test_what_an_image_copies_or_leaves_out_is_not_what_it_needs() -> None:
    left_out = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv", "runs"} <= set(left_out)
    needed = {"pyproject.toml", "README.md", "LICENSE", "actors", "buffer", "cluster", "executor", "learner"}
    assert not needed & set(left_out)


# Commands ------------------------------------------------------------------------------------------------------------

TEXTS = sorted([*DEPLOY.glob("*.yaml"), *DEPLOY.glob("*.sh"), DEPLOY / "Dockerfile", ROOT / "docs" / "cluster.md"])


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_of_ours_that_is_named_exists(path: Path) -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    text = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|[`;&] ?)cupel ([a-z]+)", text, re.M)) | set(re.findall(r"-m cluster ([a-z]+)", text))
    assert named <= commands
    for module in re.findall(r"python -m (cluster\.[\w.]+)", text):
        assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_and_option_of_ray_that_is_named_exists(path: Path) -> None:
    start = (RAY_HOME / "scripts" / "scripts.py").read_text(encoding="utf-8")
    jobs = (RAY_HOME / "dashboard" / "modules" / "job" / "cli.py").read_text(encoding="utf-8")
    text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
    known = set(re.findall(r'name="([\w-]+)"', start)) | set(re.findall(r"^def (\w+)\(", start, re.M))
    assert set(re.findall(r"\bray ([a-z-]+)(?= --| -|$|;|`)", text, re.M)) - {"job"} <= known
    for name, source in ((r"start", start), (r"job (?:submit|logs|stop|status)", jobs)):
        for line in re.findall(rf"\bray {name}( [^`;\n]*)", text):
            for option in re.findall(r" (--[a-z][a-z-]+)", line.partition(" -- ")[0]):
                assert f'"{option}"' in source or option == "--address", option
    for labels in re.findall(r"--labels[ =]\"?([\w=-]+)", text):
        role = labels.removeprefix(f"{ROLE_LABEL}=")
        assert labels.startswith(f"{ROLE_LABEL}=") and (role in ROLES or not role), labels


def test_the_ray_that_is_installed_is_the_one_that_is_pinned() -> None:
    assert importlib.metadata.version("ray") == RAY


# Slurm ---------------------------------------------------------------------------------------------------------------

SLURM = DEPLOY / "slurm.sh"


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_ones(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True, timeout=DEADLINE_S)
    assert os.access(path, os.X_OK)
    if (shellcheck := shutil.which("shellcheck")) is not None:
        done = subprocess.run([shellcheck, path], capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 0, done.stdout


class Allocation:
    """A Slurm job as the script sees it: `srun` and `ray` write down what they are asked, and `python` is what a test says."""

    def __init__(self, folder: Path, python: str, ray: str = "exit 0") -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        scripts = {
            "scontrol": 'tr "," "\\n" <<<"$3"',
            "getent": 'echo "10.0.0.1 STREAM $2"',
            "srun": f'echo "srun $*" >> {self.calls}',
            "ray": f'echo "ray $*" >> {self.calls}; {ray}',
            "python": f'echo "python $* RAY_ADDRESS=${{RAY_ADDRESS:-}}" >> {self.calls}; {python}',
        }
        for name, text in scripts.items():
            path = programs / name
            path.write_text(f"#!/bin/bash\n{text}\n")
            path.chmod(0o755)
        nodes = ("head0", "gpu0", "gpu1,gpu2,gpu3,gpu4", "cpu0,cpu1")
        self.environment = {
            "PATH": os.environ["PATH"],
            "SLURM_SUBMIT_DIR": str(folder),
            **{f"SLURM_JOB_NODELIST_HET_GROUP_{i}": names for i, names in enumerate(nodes)},
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", SLURM, *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
        process = self.start(*arguments, **environment)
        try:
            _, said = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
        return process.returncode, said, self.calls.read_text().splitlines()


def test_slurm_starts_each_role_on_its_nodes_and_the_run_when_they_are_there(tmp_path: Path) -> None:
    code, _, calls = Allocation(tmp_path, "exit 0").run("my.yaml", "run.steps=3")
    assert code == 0
    steps = [call for call in calls if call.startswith("srun")]
    assert len(steps) == len(ROLES)
    for component, role in enumerate(ROLES):
        (step,) = (step for step in steps if f"--het-group={component} " in step)
        assert f"--labels {ROLE_LABEL}={role} " in step and "--block" in step
        assert ("--head" in step) == (role == "head") and ("--address=10.0.0.1:6379" in step) == (role != "head")
    waiting, training = (call for call in calls if call.startswith("python"))
    assert "learner=1 engine=4 executor=2" in waiting and "--seconds 600" in waiting
    assert training == "python -m cluster train my.yaml run.steps=3 RAY_ADDRESS=10.0.0.1:6379"


def test_slurm_gives_up_on_a_head_that_does_not_come(tmp_path: Path) -> None:
    code, said, calls = Allocation(tmp_path, "exit 0", ray="exit 1").run(CUPEL_START_SECONDS="1")
    assert code == 2 and "gave up after 1 s waiting for Ray's head on head0" in said
    assert not [call for call in calls if call.startswith("python")]


def test_slurm_starts_no_run_when_nodes_are_lacking(tmp_path: Path) -> None:
    code, _, calls = Allocation(tmp_path, 'case "$2" in cluster.nodes) exit 1;; esac').run()
    assert code == 2 and not [call for call in calls if "cluster train" in call]


def test_slurm_ends_as_the_run_does(tmp_path: Path) -> None:
    assert Allocation(tmp_path, 'case "$2" in cluster) exit 2;; esac').run()[0] == 2


def test_slurm_hands_the_end_of_its_time_to_the_run_and_waits_for_the_checkpoint(tmp_path: Path) -> None:
    run = 'case "$2" in cluster) ;; *) exit 0;; esac; trap "touch asked; sleep 1; touch written; exit 130" TERM; touch up; while :; do sleep 0.1; done'
    allocation = Allocation(tmp_path, run)
    process = allocation.start()
    try:
        for _ in range(DEADLINE_S * 10):
            if (tmp_path / "up").exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 130
    finally:
        process.kill()
    assert (tmp_path / "asked").exists() and (tmp_path / "written").exists()

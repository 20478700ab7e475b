"""What a submission is, and what is told before one is made."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cluster.config import Config, load_config
from cluster.nodes import Node
from cluster.submission import (
    EXCLUDES,
    STOP_WAIT_S,
    Cluster,
    Finding,
    Upload,
    Versions,
    entrypoint,
    findings,
    runtime_env,
)

ROOT = Path(__file__).resolve().parents[2]
OURS = Versions("2.56.1", "3.11.7")
ROLES = tuple(
    Node(f"10.0.0.{i}", role, {"GPU": 1, "CPU": 4}) for i, role in enumerate(("learner", "engine", "executor"))
)
SMALL = Upload((("a.py", 10),), 1000)
SHARED = ["run.directory=/shared/runs", "model.cache=/shared/models"]


def told(
    config: Config | None = None,
    versions: Versions = OURS,
    nodes: tuple[Node, ...] = ROLES,
    upload: Upload = SMALL,
    path: Path | None = None,
    working_dir: Path = ROOT,
) -> list[Finding]:
    return findings(config or load_config(None, SHARED), path, working_dir, upload, Cluster(versions, nodes), OURS)


def only(found: list[Finding]) -> Finding:
    assert len(found) == 1, found
    assert "\n" not in found[0].text
    return found[0]


def test_nothing_is_said_where_all_is_well() -> None:
    assert told() == []


def test_the_command_survives_the_shell_that_runs_it() -> None:
    overrides = ["run.name=it's mine", "model=a/b", "problems.train=mbpp:/x y#test"]
    words = shlex.split(entrypoint(Path("configs/my run.yaml"), overrides))
    assert words == ["python", "-m", "cluster", "train", "configs/my run.yaml", *overrides]
    assert entrypoint(None, []) == "python -m cluster train"
    assert entrypoint(None, ["run.steps=9"], "/shared/runs/a b") == (
        "python -m cluster train --resume '/shared/runs/a b' run.steps=9"
    )


def test_a_job_installs_nothing_unless_asked_and_has_time_to_stop() -> None:
    environment = runtime_env(Path("/here"))
    assert environment["working_dir"] == "/here" and set(EXCLUDES) <= set(environment["excludes"])
    assert environment["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    assert not {"pip", "uv", "conda"} & set(environment)
    assert runtime_env(Path("/here"), ["ruff==0.14"])["pip"] == ["ruff==0.14"]


def test_the_variables_of_a_job_are_not_those_that_the_run_sets_itself() -> None:
    """Ray refuses a driver whose variables are its job's."""
    source = (ROOT / "cluster" / "actors.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' not in source for name in runtime_env(Path("/here"))["env_vars"])


@pytest.mark.parametrize(
    "versions, stops, said",
    [
        (Versions("2.55.0", "3.11.7"), True, "ray==2.56.1"),
        (Versions("2.56.1", "3.10.4"), True, "Python 3.11 to 3.13"),
        (Versions("2.56.1", "3.14.0"), True, "Python 3.11 to 3.13"),
        (Versions("2.56.1", "3.12.1"), False, "judged by the cluster's"),
    ],
)
def test_versions_that_do_not_agree(versions: Versions, stops: bool, said: str) -> None:
    finding = only(told(versions=versions))
    assert finding.stops is stops and said in finding.text


@pytest.mark.parametrize("versions", [Versions("2.56.1", None), Versions("2.56.1", "3.11.2")])
def test_versions_that_agree_or_are_not_known(versions: Versions) -> None:
    assert told(versions=versions) == []


def test_too_few_gpus_are_told_with_the_setting() -> None:
    config = load_config(None, [*SHARED, "rollout.actors=4"])
    finding = only(told(config))
    assert finding.stops and "rollout.actors=4: the nodes with cupel-role=engine have 1 GPUs" in finding.text


def test_a_cluster_without_nodes_is_told() -> None:
    assert "ray start --head" in only(told(nodes=())).text


def test_a_role_that_no_node_has_is_told_unless_an_autoscaler_may_add_one() -> None:
    finding = only(told(nodes=ROLES[:2]))
    assert finding.stops and "--labels cupel-role=executor" in finding.text
    assert told(load_config(None, [*SHARED, "ray.growing=true"]), nodes=ROLES[:2]) == []


def test_nodes_without_any_role_are_one_pool() -> None:
    assert told(nodes=(Node("10.0.0.1", None, {"GPU": 2}),)) == []


def test_a_working_directory_too_large_names_its_largest_files() -> None:
    files = (("a.py", 10), ("b/big.dat", 3 << 20), ("c.dat", 2 << 20), ("d.dat", 1 << 20))
    assert told(upload=Upload(files, 7 << 20)) == []
    finding = only(told(upload=Upload(files, sum(size for _, size in files))))
    assert finding.stops and ".rayignore" in finding.text
    assert finding.text.index("b/big.dat (3.0 MiB)") < finding.text.index("c.dat (2.0 MiB)") < finding.text.index("d.d")
    assert "a.py" not in finding.text


def test_a_configuration_beside_the_folder_is_refused(tmp_path: Path) -> None:
    inside, beside = tmp_path / "work", tmp_path / "my.yaml"
    inside.mkdir()
    assert told(path=inside / "my.yaml", working_dir=inside) == []
    assert "copy it there" in only(told(path=beside, working_dir=inside)).text
    assert "copy it there" in only(told(path=inside / ".." / "my.yaml", working_dir=inside)).text


@pytest.mark.parametrize(
    "setting, stops, said",
    [
        ("run.directory=runs", True, "run.directory=/shared/runs"),
        ("ray.address=10.0.0.1:6379", True, "leave it out"),
        ("model.cache=~/.cache/cupel", False, "model.cache=/shared/models"),
    ],
)
def test_settings_that_a_job_cannot_have(setting: str, stops: bool, said: str) -> None:
    finding = only(told(load_config(None, [*SHARED, setting])))
    assert finding.stops is stops and said in finding.text


def test_of_a_run_that_is_gone_on_with_all_is_checked_that_can_be_without_its_configuration() -> None:
    upload = Upload((("a.py", 10),), 10)
    cluster = Cluster(Versions("2.55.0", "3.11.7"), ROLES[:2])
    found = findings(None, None, ROOT, upload, cluster, OURS)
    assert [finding.stops for finding in found] == [True, True]


def test_one_machine_needs_no_shared_model() -> None:
    assert told(load_config(None, SHARED[:1]), nodes=(Node("10.0.0.1"),)) == []


def test_what_stops_comes_first() -> None:
    found = told(load_config(None, ["run.directory=runs"]), versions=Versions("2.56.1", "3.12.0"), nodes=ROLES[:1])
    assert [finding.stops for finding in found] == sorted((finding.stops for finding in found), reverse=True)
    assert {True, False} == {finding.stops for finding in found}


def test_ray_ignores_in_a_checkout_what_is_excluded_elsewhere() -> None:
    lines = (ROOT / ".rayignore").read_text(encoding="utf-8").splitlines()
    assert set(EXCLUDES) <= set(lines)
    assert not [line for line in lines if line.endswith("/")], "Ray walks through folders named with a slash"

"""A configuration is complete, consistent and told wrong in one line; what a run folder keeps loads to the same values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from cluster.config import Config, dump_config, load_config
from executor.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_what_is_written_loads_to_the_same(tmp_path: Path) -> None:
    config = load_config(None, ["run.steps=7", "learner.learning_rate=1e-5", "problems.held_out=null"])
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config
    assert config.learner.learning_rate == 1e-5 and config.problems.held_out is None


def test_overrides_beat_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("run: {steps: 3, seed: 5}\n")
    config = load_config(tmp_path / "c.yaml", ["run.steps=4"])
    assert (config.run.steps, config.run.seed) == (4, 5)


@pytest.mark.parametrize("text", ["model: owner/name\n", "model: {name: owner/name}\n"])
def test_a_model_is_named_in_one_word_or_as_a_section(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert load_config(tmp_path / "c.yaml").model.name == "owner/name"
    assert load_config(None, ["model=owner/name", "model.cache=/x"]).model.cache == "/x"


def test_every_field_says_what_it_is() -> None:
    def walk(model: type[BaseModel]) -> int:
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
        sections = [f.annotation for f in model.model_fields.values()]
        return len(sections) + sum(walk(s) for s in sections if isinstance(s, type) and issubclass(s, BaseModel))

    assert walk(Config) > 50


MISTAKES = [
    (["run.step=3"], "run.step: unknown key; known here: directory, name, seed, steps"),
    (["lerner.learning_rate=1"], "lerner: unknown key; known here: run, model"),
    (["run.steps=many"], "run.steps='many': "),
    (["run.steps=-1"], "run.steps=-1: "),
    (["run.steps=1.5"], "run.steps=1.5: "),
    (["learner.learning_rate=0"], "learner.learning_rate=0"),
    (["rollout.tests=some"], "rollout.tests='some': "),
    (["learner.micro_batch_tokens=64"], "learner.micro_batch_tokens=64 cannot hold one episode"),
    (
        ["buffer.kind=online", "buffer.capacity=2", "learner.groups_per_step=4"],
        "buffer.capacity=2 is less than the samples of one step: learner.groups_per_step * rollout.samples_per_problem = 32",
    ),
    (["executor.max_workers=1"], "executor.workers=2 is not between executor.min_workers=1 and executor.max_workers=1"),
    (
        ["evaluation.every=3", "run.checkpoint_every=2"],
        "evaluation.every=3 is not a multiple of run.checkpoint_every=2",
    ),
    (
        ["evaluation.every=3", "weights.broadcast_every=2"],
        "evaluation.every=3 is not a multiple of weights.broadcast_every=2",
    ),
    (["rollout.samples_per_problem=0"], "rollout.samples_per_problem=0 leaves nothing to learn from"),
    (["rollout.reference_repairs=true"], "rollout.reference_repairs=true needs rollout.max_turns of 2 or more"),
    (
        [
            "algorithm.name=rlef",
            "rollout.max_turns=2",
            "rollout.reference_repairs=true",
            "learner.micro_batch_tokens=2048",
        ],
        "algorithm.loss.supervised_weight above 0",
    ),
    (["algorithm.name=nothing"], "nothing"),
    (["algorithm.loss={colour: 1}"], "algorithm.loss.colour: unknown key"),
    (["run.steps"], "not of the form key=value"),
    (["=3"], "not of the form key=value"),
    (["run.name=["], "not a YAML value"),
    (["run=3"], "run"),
]


@pytest.mark.parametrize("overrides, message", MISTAKES, ids=lambda v: v[0] if isinstance(v, list) else "")
def test_a_mistake_is_one_line_with_key_and_value(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, overrides)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_two_mistakes_are_two_lines() -> None:
    with pytest.raises(UserError) as caught:
        load_config(None, ["run.steps=-1", "learner.beta1=2"])
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file"),
        (b"run: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"- 1\n- 2\n", "expected sections, found list"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_config(path)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == Config()


def test_every_shipped_configuration_loads() -> None:
    for path in sorted((ROOT / "cluster" / "configs").glob("*.yaml")):
        assert yaml.safe_load(dump_config(load_config(path)))


def test_the_rows_of_rltfs_ablation_differ_in_the_granularity_alone() -> None:
    names = ("rltf_coarse", "rltf_coarse_fine", "rltf_all")
    rows = [yaml.safe_load((ROOT / "cluster" / "configs" / f"{name}.yaml").read_text())["algorithm"] for name in names]
    rewards = [row.pop("reward") for row in rows]
    assert rows[0] == rows[1] == rows[2]
    assert [sorted(kind for kind, on in reward.items() if on) for reward in rewards] == [
        ["coarse"],
        ["coarse", "fine"],
        ["adaptive", "coarse", "fine"],
    ]


@pytest.mark.parametrize("name, option", [("rltf_linter", "linter"), ("rltf_executed_lines", "executed_lines")])
def test_what_is_beyond_the_paper_is_one_option_more_than_all_granularities(name: str, option: str) -> None:
    all_of_them, more = (load_config(ROOT / "cluster" / "configs" / f"{n}.yaml") for n in ("rltf_all", name))
    assert more.algorithm.reward == all_of_them.algorithm.reward | {option: True}
    more.algorithm.reward = all_of_them.algorithm.reward
    assert more == all_of_them


def test_configuration_imports_nothing_heavy() -> None:
    code = (
        "import sys, cluster.config; print([m for m in ('ray', 'torch', 'vllm', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

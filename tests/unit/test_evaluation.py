"""What an evaluation is made with, and which problems a model has room for, on a real tokenizer and a real tiny model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from actors.engine.protocol import SamplingSettings
from cluster.config import Config
from cluster.evaluated_model import fingerprint
from cluster.evaluation import Plan, fitting_prompts
from cluster.evaluation_samples import differences
from executor.problem import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ROOM = 512  # max_position_embeddings of the tiny model


def problem(name: str, statement: str) -> Problem:
    return Problem.model_validate(
        {"id": name, "prompt": statement, "kind": "stdio", "private_tests": [{"input": "", "output": ""}]}
    )


def plan(folder: Path, max_tokens: int = 8) -> Plan:
    config = Config()
    config.rollout.worked_examples = 0
    problems = [problem("short", "Add."), problem("long", "Add. " * 400)]
    return Plan(folder, config, problems, SamplingSettings(1.0, 1.0, max_tokens), seed=0)


def test_a_problem_that_the_model_has_no_room_for_gets_a_reason(
    model_folder: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    reasons: dict[str, str] = {}
    prompts = fitting_prompts(plan(model_folder), tokenizer, reasons)
    assert list(prompts) == ["short"] and list(reasons) == ["long"]
    assert f"8 of response are more than the model's {ROOM}" in reasons["long"]
    length = len(prompts["short"])
    assert fitting_prompts(plan(model_folder, ROOM - length), tokenizer, {}) == prompts
    assert fitting_prompts(plan(model_folder, ROOM - length + 1), tokenizer, {}) == {}


def test_all_that_samples_depend_on_is_told_by_its_name(model_folder: Path) -> None:
    first = plan(model_folder)
    made = first.made_with()
    assert differences(made, plan(model_folder).made_with()) == ""
    hotter = replace(first.sampling, temperature=1.2, top_p=0.95)
    assert differences(made, replace(first, sampling=hotter).made_with()) == (
        "temperature (1.0, now 1.2), top_p (1.0, now 0.95)"
    )
    other = [first.problems[0], problem("long", "Subtract.")]
    assert differences(made, replace(first, problems=other, seed=3).made_with()) == "problems, seed (0, now 3)"


def test_a_model_is_the_same_wherever_it_lies_and_another_once_it_is_trained(
    model_folder: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(model_folder, tmp_path / "copy")
    assert fingerprint(copy) == fingerprint(model_folder)
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint(copy) != fingerprint(model_folder)

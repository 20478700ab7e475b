"""The configuration as a page of Markdown: `python -m cluster.config_reference > docs/configuration.md`.

Invariants: every key that a configuration may hold is in the page, and nothing else; the page depends on the models alone, not on the
machine or the user that makes it.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from actors.rewards.base import load as load_reward
from actors.rewards.base import names as reward_names
from cluster.config import Config
from learner.losses.base import load as load_loss

_HEAD = """\
# Configuration

Made by `python -m cluster.config_reference > docs/configuration.md`; a test holds the two together.

A configuration is a YAML file of the sections below. Everything has a default, so a file says only what differs, and
`cupel train FILE.yaml section.key=value` overrides it once more. `model=NAME` is short for `model.name=NAME`. An unknown key or
a value out of its range is refused before anything starts; `cupel train ... --dry-run` prints what a run would use.
"""

_NAMES = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "null", dict: "settings"}
_SIGNS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, section in _sections():
        parts.append(f"## {name}\n{_first_line(section)}\n\n{_table(name, section)}")
    for name in reward_names():
        reward, loss = load_reward(name).Settings, load_loss(name).Settings
        parts.append(
            f"## algorithm.name={name}\n"
            f"What its reward is made of (`actors/rewards/{name}.py`):\n\n{_table('algorithm.reward', reward)}\n"
            f"What its loss is made of (`learner/losses/{name}.py`):\n\n{_table('algorithm.loss', loss)}"
        )
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Config.model_fields.items():
        section = field.annotation
        assert isinstance(section, type) and issubclass(section, BaseModel), f"{name} is no section"
        yield name, section


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _table(prefix: str, model: type[BaseModel]) -> str:
    rows = ["| key | value | default | what it is |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        cells = (f"`{prefix}.{name}`", _value(field), _default(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _value(field: FieldInfo) -> str:
    """What may stand there: type and bounds."""
    bounds = [
        f"{sign} {_plain(getattr(constraint, attribute))}"
        for constraint in field.metadata
        for attribute, sign in _SIGNS
        if getattr(constraint, attribute, None) is not None
    ]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " / ".join(_code(argument) for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    return _NAMES[origin or annotation]


def _default(field: FieldInfo) -> str:
    if field.default_factory is dict:
        return _code({})
    return "described" if field.default_factory is not None else _code(field.default)


def _code(value: Any) -> str:
    """A value as YAML takes it."""
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


if __name__ == "__main__":
    print(reference(), end="")

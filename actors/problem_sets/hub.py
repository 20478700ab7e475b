"""Rows through the `datasets` library: data sets of the hub by name, and local data files and folders of them.

Invariants: the library is imported only when such a set is read; no code of a data set runs here; whatever the library
raises becomes one UserError that names the set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from actors.problem_sets.rows import Row, split_of
from executor.errors import UserError

_LONGEST_REASON = 300
# Where the hub keeps a data set that is published as a script in files instead, in a folder for each configuration.
_CONVERTED = "refs/convert/parquet"


def hub_rows(name: str) -> Iterator[Row]:
    """Rows of the hub's data set `OWNER/NAME` or `OWNER/NAME/CONFIG`, all splits. Raises UserError."""
    owner, repository, *configuration = name.split("/")
    data_set = f"{owner}/{repository}"
    config = configuration[0] if configuration else None
    try:
        loaded = _loaded(data_set, config)
    except Exception as error:  # the library's own, the client's, the network's: they have no base in common
        if "scripts are no longer supported" not in str(error):
            raise _refusal(
                name, error, "no such file or folder here, and not to be had as a data set of the hub"
            ) from None
        loaded = _without_script(name, data_set, config)
    return _rows(name, loaded)


def _without_script(name: str, data_set: str, config: str | None) -> Mapping[str, Any]:
    """A data set that is published as a script, from the files the hub makes of it, else from the JSONL beside the script."""
    try:
        return _loaded(data_set, data_dir=config, revision=_CONVERTED)
    except Exception as error:
        if config is not None:  # what a configuration means, the script alone says
            raise _refusal(name, error, "published as a script, and not to be had as files") from None
    try:
        return _loaded("json", data_files=f"hf://datasets/{data_set}/*.jsonl")
    except Exception as error:
        raise _refusal(name, error, "published as a script, and not to be had as files") from None


def folder_rows(path: Path) -> Iterator[Row]:
    """Rows of a folder of data files, all splits. Raises UserError."""
    try:
        loaded = _loaded(str(path.absolute()))  # a bare name like json is something else to the library
    except Exception as error:
        raise _refusal(str(path), error, "not a folder of data files") from None
    return _rows(str(path), loaded)


def file_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet or JSON file, in the split that its name says, if it does. Raises UserError."""
    try:
        loaded = _loaded(path.suffix.removeprefix("."), data_files=str(path))
    except Exception as error:
        raise _refusal(str(path), error, "cannot be read") from None
    split = split_of(path.name)
    return (Row(f"{path}:{n}", dict(columns), split) for n, columns in enumerate(loaded["train"], 1))


def _loaded(data_set: str, config: str | None = None, **options: Any) -> Mapping[str, Any]:
    """The splits, each an iterable of rows."""
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    loaded: Any = datasets.load_dataset(data_set, config, **options)
    return loaded


def _rows(name: str, loaded: Mapping[str, Any]) -> Iterator[Row]:
    for split, table in loaded.items():
        for number, columns in enumerate(table, 1):
            yield Row(f"{name}#{split}:{number}", dict(columns), str(split))


def _refusal(name: str, error: Exception, meaning: str) -> UserError:
    if isinstance(error, ModuleNotFoundError) and error.name == "datasets":
        return UserError(
            f"{name}: only JSONL is read without the package datasets: make install, or install cupel[cpu] or cupel[gpu]"
        )
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    reason = " ".join(f"{type(cause).__name__}: {cause}".split())
    return UserError(f"{name}: {meaning}:\n{reason[:_LONGEST_REASON]}")

"""Rows of foreign data sets: where they come from, and what becomes of those that are broken.

A row comes from a JSONL file, or through the `datasets` library (hub.py) from another data file, a folder of them or
the hub. Invariants: a broken row never ends a set: it is left out, and how many are, and the first few with place and
reason, is told as a warning; a set of which no row is right is a UserError, and so is a source that cannot be read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from executor.errors import UserError
from executor.problem import Problem

SOURCES = "a file (.jsonl, .jsonl.gz, .json, .parquet), a folder of such files, or a hub data set OWNER/NAME[/CONFIG]"
SPLITS = ("train", "validation", "valid", "test")
_TOLD = 3
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(/[\w-][\w.-]*)?\Z")
_DATA_FILE = re.compile(r"\.(jsonl?|parquet)(\.gz)?\Z")

log = logging.getLogger("cupel")


class BrokenRow(Exception):
    """What is wrong with a row; whoever reads the rows knows its place."""


@dataclass(frozen=True)
class Row:
    """One row of a data set."""

    place: str
    """For messages: `file:line`, a folder, or `source#split:number`."""
    columns: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    """The part of the data set that the row is in, where its source says so."""
    broken: str = ""
    """Why the row could not be read; its columns are empty then."""


def named(kind: str, form: str, rest: str) -> tuple[str, list[str]]:
    """Source and words of `SOURCE#WORD,WORD`. Raises UserError where there is no source."""
    source, sign, words = rest.partition("#")
    if not source:
        raise UserError(f"problem set '{kind}:': it needs a source of rows: {form}; SOURCE is {SOURCES}")
    return source, [word.strip() for word in words.split(",")] if sign else []


def rows(source: str) -> Iterator[Row]:
    """The rows of a file, a folder of data files or a data set of the hub. Raises UserError."""
    from actors.problem_sets import hub

    path = Path(source).expanduser()
    if path.is_dir():
        return hub.folder_rows(path)
    if path.suffix in (".parquet", ".json") and path.exists():
        return hub.file_rows(path)
    if path.exists() or source == "-":
        return _jsonl_rows(path)
    if _HUB_NAME.match(source) and not _DATA_FILE.search(source):
        return hub.hub_rows(source)
    raise UserError(f"{source}: no such file or folder; a set is {SOURCES}")


def of_split(source: str, rows: Iterable[Row], words: list[str]) -> Iterator[Row]:
    """The rows of the split that `words` name, all rows where they name none. Raises UserError for a split that is
    not there.
    """
    if len(words) > 1:
        raise UserError(f"{source}#{','.join(words)}: one split at a time")
    seen: dict[str, None] = {}
    for row in rows:
        seen[row.split] = None
        if not words or row.split == words[0]:
            yield row
    if words and words[0] not in seen:
        known = ", ".join(filter(None, seen)) or "not divided"
        raise UserError(f"{source}#{words[0]}: no such split; there: {known}")


def good(name: str, rows: Iterable[Row], read: Callable[[Row], Problem | None]) -> list[Problem]:
    """The problems that `read` makes of the rows; None is a row that is right and not wanted. What is left out is told.

    `read` raises BrokenRow. Raises UserError if all rows are broken.
    """
    problems: list[Problem] = []
    broken: list[str] = []
    places: dict[str, str] = {}
    total = 0
    for row in rows:
        total += 1
        try:
            if row.broken:
                raise BrokenRow(row.broken)
            problem = read(row)
            if problem is None:
                continue
            if problem.id in places:
                raise BrokenRow(f"problem {problem.id!r} is already at {places[problem.id]}")
        except BrokenRow as reason:
            broken.append(f"{row.place}: {reason}")
        else:
            places[problem.id] = row.place
            problems.append(problem)
    if broken and len(broken) == total:
        raise UserError(f"{name}: none of {total} rows can be used; the first:\n{broken[0]}")
    if broken:
        more = [f"and {len(broken) - _TOLD} more"] if len(broken) > _TOLD else []
        told = "\n  ".join([*broken[:_TOLD], *more])
        log.warning("%s: %d of %d rows are left out:\n  %s", name, len(broken), total, told)
    return problems


def make_problem(**fields: Any) -> Problem:
    """A problem of what a row says. Raises BrokenRow."""
    try:
        return Problem(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise BrokenRow(f"{key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}") from None


def parse(text: str) -> Any:
    """The value of some JSON. Raises BrokenRow."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BrokenRow(f"not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise BrokenRow("JSON nested too deep") from None
    except ValueError as error:  # an int of too many digits
        raise BrokenRow(str(error).partition(";")[0]) from None


def parse_column(columns: dict[str, Any], name: str) -> Any:
    """A column that holds JSON as text; other copies of the data set hold the value itself. Raises BrokenRow."""
    value = columns.get(name)
    if not isinstance(value, str) or not value.strip():
        return value or None
    try:
        return parse(value)
    except BrokenRow as reason:
        raise BrokenRow(f"{name}: {reason}") from None


def split_of(name: str) -> str:
    """The split that a file or folder of this name holds, as far as the name says it."""
    stem = name.partition(".")[0]
    return stem if stem in SPLITS else ""


def _jsonl_rows(path: Path) -> Iterator[Row]:
    from executor.files import read_lines

    split = split_of(path.name)
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        try:
            columns = parse(line.strip())
        except BrokenRow as reason:
            yield Row(place, split=split, broken=str(reason))
            continue
        if isinstance(columns, dict):
            yield Row(place, columns, split)
        else:
            yield Row(place, split=split, broken="not an object")

"""CodeContests, in the columns of the hub's data set.

Private and generated tests are private here; `private` after `#` leaves the generated ones out. As in the RLEF paper, a
problem without public or without private tests is left out, and a program may take the problem's own time and memory, or
10 s and 1 GB where it states none. Answers are compared by tokens: whether a problem takes several answers, its data do not
say. The Python 3 solutions are the references. Programs here read standard input and write standard output, so a problem
that names a file for either is left out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from actors.problem_sets.public_tests import distinct
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, of_split, rows
from executor.problem import Problem

FORM = "code_contests:SOURCE[#WORD,...]: CodeContests; words: one split, private (no generated tests)"
SITES = ("unknown_source", "codechef", "codeforces", "hackerearth", "codejam", "atcoder", "aizu")
LANGUAGES = ("unknown_language", "python", "cpp", "python3", "java")
DIFFICULTIES = ("unknown_difficulty", "easy", "medium", "hard", "harder", "hardest")
RATINGS = (1200, 1600, 2000, 2400)
"""Codeforces' ratings at which difficulty 2, 3, 4 and 5 begin."""
TIME_LIMIT_S = 10.0
MEMORY_LIMIT_MB = 1024
_LONGEST_S = 600.0
_LEAST_MB, _MOST_MB = 16, 65536  # below the least no Python starts: such a number is no limit on memory


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#WORD,...`. Raises UserError."""
    source, words = named("code_contests", FORM, rest)
    splits = ["valid" if word == "validation" else word for word in words if word != "private"]
    generated = "private" not in words
    return good(source, of_split(source, _one_name(rows(source)), splits), lambda row: _problem(row, generated))


def _one_name(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows; what the hub calls valid is called validation where a folder's files are read."""
    return (replace(row, split="valid") if row.split == "validation" else row for row in rows)


def _problem(row: Row, generated: bool) -> Problem:
    columns = row.columns
    name, statement = columns.get("name"), columns.get("description")
    if not (isinstance(name, str) and isinstance(statement, str) and "public_tests" in columns):
        raise BrokenRow("not a row of CodeContests (it needs name, description and public_tests)")
    for column in ("input_file", "output_file"):
        if columns.get(column):
            raise BrokenRow(f"it has {column} {columns[column]!r:.40}, and programs here use standard input and output")
    public = _tests(columns, "public_tests")
    private = _tests(columns, "private_tests") + (_tests(columns, "generated_tests") if generated else [])
    if not public or not private:
        raise BrokenRow(f"no {'private' if public else 'public'} tests")
    site = _code(columns.get("source"), SITES)
    problem = make_problem(
        id="/".join(filter(None, ("code_contests", SITES[site] if site else "", name))),
        prompt=statement.strip(),
        kind="stdio",
        public_tests=public,
        private_tests=private,
        time_limit_s=_seconds(columns.get("time_limit")),
        memory_limit_mb=_megabytes(columns.get("memory_limit_bytes")),
        references=_references(columns.get("solutions")),
        checker={"type": "tokens"},
        difficulty=_difficulty(columns),
        topics=[tag for tag in _list(columns.get("cf_tags")) if isinstance(tag, str) and tag],
    )
    problem = distinct(problem)
    if not problem.private_tests:
        raise BrokenRow("no private tests but those that are public")
    return problem


def _tests(columns: dict[str, Any], name: str) -> list[dict[str, str]]:
    inputs, outputs = _paired(columns.get(name), name, "input", "output")
    if not all(isinstance(text, str) for text in (*inputs, *outputs)):
        raise BrokenRow(f"{name}: inputs and outputs are texts")
    lines = ([text.replace("\r\n", "\n") for text in texts] for texts in (inputs, outputs))
    return [{"input": given, "output": answer} for given, answer in zip(*lines, strict=True)]


def _references(solutions: Any) -> list[str]:
    languages, programs = _paired(solutions, "solutions", "language", "solution")
    found = zip(languages, programs, strict=True)
    return [p for code, p in found if LANGUAGES[_code(code, LANGUAGES)] == "python3" and isinstance(p, str)]


def _paired(column: Any, name: str, first: str, second: str) -> tuple[list[Any], list[Any]]:
    """Two lists of the same length; other copies of the data set have a list of pairs in their place."""
    if isinstance(column, list) and all(isinstance(item, dict) for item in column):
        column = {part: [item.get(part) for item in column] for part in (first, second)}
    if not isinstance(column, dict | None):
        raise BrokenRow(f"{name} is not an object with {first} and {second}")
    lists = _list((column or {}).get(first)), _list((column or {}).get(second))
    if len(lists[0]) != len(lists[1]):
        raise BrokenRow(f"{name}: {len(lists[0])} of {first} and {len(lists[1])} of {second}")
    return lists


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _code(value: Any, names: Sequence[str]) -> int:
    """A number of a list of names, given as a number or as a name; 0, the unknown one, for anything else."""
    if isinstance(value, str) and value.lower() in names:
        return names.index(value.lower())
    return value if type(value) is int and 0 <= value < len(names) else 0


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) and 0 < value < 1e18 else 0.0


def _seconds(limit: Any) -> float:
    parts = limit if isinstance(limit, dict) else {}
    seconds = _number(parts.get("seconds")) + _number(parts.get("nanos")) / 1e9
    return min(seconds, _LONGEST_S) or TIME_LIMIT_S


def _megabytes(limit: Any) -> int:
    megabytes = math.ceil(_number(limit) / 2**20)
    return min(megabytes, _MOST_MB) if megabytes >= _LEAST_MB else MEMORY_LIMIT_MB


def _difficulty(columns: dict[str, Any]) -> int | None:
    """By the rating, else by the site's own word where it is one of five; letters say a place in a contest only."""
    if rating := _number(columns.get("cf_rating")):
        return bisect_right(RATINGS, rating) + 1
    return _code(columns.get("difficulty"), DIFFICULTIES) or None

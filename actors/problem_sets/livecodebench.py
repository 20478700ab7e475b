"""LiveCodeBench, in the columns of the hub's data set of code generation.

A task is a program on standard streams, compared by tokens, or a method of `Solution`: each line of a test's input is one
argument in JSON. Words after `#`: a window of contest dates `FROM..TO`, both ends inside, either left out or as short as a
year. Private tests are JSON, or JSON packed as base64 of zlib of a pickle of one text; that text is read out of the pickle
without running it, and anything else in there makes the row broken.
"""

from __future__ import annotations

import base64
import binascii
import pickletools
import re
import zlib
from dataclasses import dataclass
from datetime import date
from typing import Any

from actors.problem_sets.apps import entry_point, typing_import
from actors.problem_sets.public_tests import derive, distinct
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, parse, parse_column, rows
from executor.errors import UserError
from executor.problem import Problem

FORM = "livecodebench:SOURCE[#FROM..TO]: LiveCodeBench, from one contest date to another (2024, 2024-05 or 2024-05-31)"
DIFFICULTY = {"easy": 1, "medium": 3, "hard": 5}
TIME_LIMIT_S = 6.0
"""LiveCodeBench's own limit of a test."""
MEMORY_LIMIT_MB = 1024
_DATE = r"(?:\d{4}(?:-\d\d(?:-\d\d)?)?)?"
_WINDOW = re.compile(rf"({_DATE})\.\.({_DATE})\Z")
_MOST_BYTES = 1 << 30
# All that a pickle of one text needs.
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_AROUND = {"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"}


@dataclass(frozen=True)
class _Window:
    """Dates as texts: where one is shorter, so much of the other is compared."""

    first: str = ""
    last: str = ""

    def holds(self, day: str) -> bool:
        first, last = day[: len(self.first)], day[: len(self.last)]
        return self.first <= first and last <= self.last


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#FROM..TO`. Raises UserError."""
    source, words = named("livecodebench", FORM, rest)
    window = _window(rest, words)
    return good(source, rows(source), lambda row: _problem(row, window))


def _window(rest: str, words: list[str]) -> _Window:
    if not words:
        return _Window()
    match = _WINDOW.match(words[0]) if len(words) == 1 else None
    if match is None:
        raise UserError(
            f"problem set 'livecodebench:{rest}': after # is a window of dates, like 2024-05..2024-10 or 2024-08-15.."
        )
    return _Window(match.group(1), match.group(2))


def _problem(row: Row, window: _Window) -> Problem | None:
    columns = row.columns
    content, number = columns.get("question_content"), columns.get("question_id")
    if not isinstance(content, str) or type(number) not in (int, str) or "public_test_cases" not in columns:
        raise BrokenRow("not a row of LiveCodeBench (it needs question_content, question_id and public_test_cases)")
    if window != _Window() and not window.holds(_day(columns.get("contest_date"))):
        return None
    columns = {**columns, "private_test_cases": _unpacked(columns.get("private_test_cases"))}
    public, private = _tests(columns, "public_test_cases"), _tests(columns, "private_test_cases")
    kinds = {test.get("testtype") for test in public + private}
    if kinds not in ({"stdin"}, {"functional"}):
        written = ", ".join(sorted(str(kind) for kind in kinds))
        raise BrokenRow(f"its tests are of type {written}, not stdin or functional" if kinds else "no tests")
    calls = kinds == {"functional"}
    starter = columns.get("starter_code") or ""
    name = _function(columns) if calls else None
    if not isinstance(starter, str) or (calls and not name):
        raise BrokenRow("its tests are calls, and starter_code and func_name in metadata do not say of what")
    read = _call if calls else _streams
    forms = [[read(test) for test in tests] for tests in (public, private)]
    problem = make_problem(
        id=f"livecodebench/{number}",
        prompt=content.strip(),
        kind="function" if calls else "stdio",
        entry_point=entry_point(starter, name) if name else None,
        starter_code=(typing_import(starter) + starter).rstrip() or None,
        public_tests=forms[0],
        private_tests=forms[1],
        time_limit_s=TIME_LIMIT_S,
        memory_limit_mb=MEMORY_LIMIT_MB,
        checker=_checker([test["expected"] for tests in forms for test in tests]) if calls else {"type": "tokens"},
        difficulty=DIFFICULTY.get(str(columns.get("difficulty"))),
        topics=[platform] if isinstance(platform := columns.get("platform"), str) and platform else [],
    )
    return derive(distinct(problem))


def _day(value: Any) -> str:
    """The day of a contest as `2024-05-31`. Raises BrokenRow."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        return date.fromisoformat(text[:10]).isoformat()
    except ValueError:
        raise BrokenRow(f"contest_date {text!r:.40} is no date") from None


def _tests(columns: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tests = parse_column(columns, name) or []
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise BrokenRow(f"{name} is not a list of tests")
    for test in tests:
        if not isinstance(test.get("input"), str) or not isinstance(test.get("output"), str):
            raise BrokenRow(f"{name}: a test without texts in input and output")
    return tests


def _unpacked(value: Any) -> Any:
    """Private tests as they are, or out of their packing, which starts as no JSON of a list does."""
    if not isinstance(value, str) or not value.strip() or value.lstrip().startswith("["):
        return value
    try:
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(base64.b64decode(value, validate=True), _MOST_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise BrokenRow(f"private_test_cases: neither JSON nor packed JSON: {error}") from None
    if not unpacking.eof:
        raise BrokenRow(f"private_test_cases: cut off, or more than {_MOST_BYTES >> 20} MiB")
    return _pickled_text(data)


def _pickled_text(data: bytes) -> str:
    """The one text that a pickle is. Raises BrokenRow for a pickle of anything else."""
    texts: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(data):
            if operation.name in _TEXTS:
                texts.append(str(argument))
            elif operation.name not in _AROUND:
                raise BrokenRow(f"private_test_cases: a pickle of more than a text ({operation.name})")
    except ValueError as error:
        raise BrokenRow(f"private_test_cases: not a pickle: {' '.join(str(error).split())}") from None
    if len(texts) != 1:
        raise BrokenRow(f"private_test_cases: a pickle of {len(texts)} texts")
    return texts[0]


def _function(columns: dict[str, Any]) -> str | None:
    found = parse_column(columns, "metadata")
    name = found.get("func_name") if isinstance(found, dict) else None
    return name if isinstance(name, str) and name.isidentifier() else None


def _streams(test: dict[str, Any]) -> dict[str, Any]:
    return {"input": test["input"].replace("\r\n", "\n"), "output": test["output"].replace("\r\n", "\n")}


def _call(test: dict[str, Any]) -> dict[str, Any]:
    try:
        return {
            "args": [parse(line) for line in test["input"].split("\n") if line.strip()],
            "expected": parse(test["output"]),
        }
    except BrokenRow as reason:
        raise BrokenRow(f"a call's argument or answer: {reason}") from None


def _checker(expected: list[Any]) -> dict[str, Any]:
    """Equal values; where answers are fractions, 2 is 2.0, with no tolerance, as in LiveCodeBench's own judging."""
    return {"type": "float", "abs": 0, "rel": 0} if _has_fraction(expected) else {"type": "exact"}


def _has_fraction(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, float) or any(map(_has_fraction, items))

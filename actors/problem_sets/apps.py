"""APPS, as its folders (question.txt, input_output.json, solutions.json, metadata.json, starter_code.py) or in the
columns of the hub's data set.

APPS has no public tests: the first one is made public where there are more. Answers on standard output are compared by
tokens, as APPS does. In tasks with a function, answers from Codewars are wrapped in a list of one, which is taken off,
and names of `typing` are imported. Problems of both splits are numbered from 0: an id names the split where it is known
(`apps/test/7`), so that nothing of one is taken for the other's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.problem_sets import rows as sources
from actors.problem_sets.rows import BrokenRow, Row, good, make_problem, named, of_split, parse, parse_column, split_of
from executor.problem import Problem

FORM = "apps:SOURCE[#SPLIT]: APPS; SOURCE may be a folder of its folders too"
DIFFICULTY = {"introductory": 2, "interview": 3, "competition": 5}
_CLASS = re.compile(r"^class\s+(\w+)", re.MULTILINE)
_TYPING = re.compile(r"\b(Any|Deque|Dict|List|Optional|Set|Tuple|Union)\b")


def load(rest: str) -> list[Problem]:
    """The problems of `SOURCE` or `SOURCE#SPLIT`. Raises UserError."""
    source, words = named("apps", FORM, rest)
    path = Path(source).expanduser()
    own = path.is_dir() and next(path.rglob("question.txt"), None) is not None
    return good(source, of_split(source, _folders(path) if own else sources.rows(source), words), _problem)


def _folders(path: Path) -> Iterator[Row]:
    """Rows with the hub's columns from folders of problems at any depth, in the order of their names."""
    for question in sorted(path.rglob("question.txt")):
        folder = question.parent
        split = split_of(folder.parent.name)
        try:
            metadata = parse(_text(folder / "metadata.json") or "{}")
            columns = {
                "problem_id": int(folder.name) if re.fullmatch("[0-9]{1,9}", folder.name) else folder.name,
                "question": _text(question),
                "input_output": _text(folder / "input_output.json"),
                "solutions": _text(folder / "solutions.json"),
                "starter_code": _text(folder / "starter_code.py"),
                **(metadata if isinstance(metadata, dict) else {}),
            }
        except BrokenRow as reason:
            yield Row(str(folder), split=split, broken=str(reason))
        else:
            yield Row(str(folder), columns, split)


def _text(path: Path) -> str:
    """A file of a problem's folder, empty if it is not there. Raises BrokenRow."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BrokenRow(f"{path.name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise BrokenRow(f"{path.name}: not UTF-8 text") from None


def _problem(row: Row) -> Problem:
    columns = row.columns
    question, number = columns.get("question"), columns.get("problem_id")
    if not isinstance(question, str) or "input_output" not in columns or not isinstance(number, int | str):
        raise BrokenRow("not a row of APPS (it needs problem_id, question and input_output)")
    tests = parse_column(columns, "input_output") or {}
    if not isinstance(tests, dict):
        raise BrokenRow("input_output is not an object with inputs and outputs")
    inputs, outputs = _listed(tests.get("inputs")), _listed(tests.get("outputs"))
    if len(inputs) != len(outputs):
        raise BrokenRow(f"{len(inputs)} inputs and {len(outputs)} outputs")
    if not inputs:
        raise BrokenRow("no tests")
    references = [solution for solution in _listed(parse_column(columns, "solutions")) if isinstance(solution, str)]
    starter, name = columns.get("starter_code") or "", tests.get("fn_name")
    if not isinstance(starter, str) or not isinstance(name, str | None):
        raise BrokenRow("starter_code and fn_name are texts, where they are given")
    if name:
        header = typing_import(starter)
        starter, references = header + starter, [header + reference for reference in references]
        name = entry_point(starter, name)
        forms = _function_tests(name, inputs, outputs, str(columns.get("url") or ""))
    else:
        forms = [{"input": _stream(i), "output": _stream(o)} for i, o in zip(inputs, outputs, strict=True)]
    public = 1 if len(forms) > 1 else 0
    return make_problem(
        id="/".join(filter(None, ("apps", row.split, str(number)))),
        prompt=question.strip(),
        kind="function" if name else "stdio",
        entry_point=name or None,
        starter_code=starter.rstrip() or None,
        public_tests=forms[:public],
        private_tests=forms[public:],
        references=references,
        checker={"type": "exact" if name else "tokens"},
        difficulty=DIFFICULTY.get(str(columns.get("difficulty"))),
    )


def _listed(value: Any) -> list[Any]:
    """Some rows hold a single thing in place of a list of one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def entry_point(starter: str, name: str) -> str:
    """How a test calls the function `name`: as a method, where the code to start from is a class."""
    holder = _CLASS.search(starter)
    return f"{holder.group(1)}().{name}" if holder else name


def typing_import(starter: str) -> str:
    """Signatures of LeetCode's tasks take names of `typing` for granted."""
    names = sorted(set(_TYPING.findall(starter)))
    return f"from typing import {', '.join(names)}\n\n" if names else ""


def _function_tests(name: str, inputs: list[Any], outputs: list[Any], url: str) -> list[dict[str, Any]]:
    """Calls. LeetCode's answers are as they are; elsewhere, if every answer is in a list of one, the list is no part of it."""
    wrapped = "leetcode" not in url and all(isinstance(o, list) and len(o) == 1 for o in outputs)
    answers = [o[0] if wrapped else o for o in outputs]
    return [_function_test(name, _listed(i), answer) for i, answer in zip(inputs, answers, strict=True)]


def _function_test(name: str, args: list[Any], expected: Any) -> dict[str, Any]:
    """A call; as an assert where it holds dictionaries with whole numbers for keys, which our own form cannot hold either."""
    numbered = [_whole_keys(arg) for arg in args], _whole_keys(expected)
    if numbered == (args, expected):
        return {"args": args, "expected": expected}
    written = ", ".join(map(repr, numbered[0]))
    return {"code": f"assert {name}({written}) == {numbered[1]!r}"}


def _whole_keys(value: Any) -> Any:
    """JSON has made texts of whole numbers that are keys. They are numbers again, as in APPS's own judging."""
    if isinstance(value, list):
        return [_whole_keys(item) if isinstance(item, dict) else item for item in value]
    if isinstance(value, dict) and value and all(re.fullmatch(r"-?[0-9]{1,18}", key) for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def _stream(value: Any) -> str:
    """Text of a standard stream. Some rows hold a list of lines, a list of a list of them, or numbers."""
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], list):
            return _stream(value[0])
        return "\n".join(_line(item) for item in value)
    return value if isinstance(value, str) else _line(value)


def _line(value: Any) -> str:
    if isinstance(value, str):
        return value.removesuffix("\n")
    if isinstance(value, list):
        return " ".join(_line(item) for item in value)
    if isinstance(value, bool | int | float):
        return str(value)
    raise BrokenRow(f"a test on standard streams holds {type(value).__name__}, which is no text")

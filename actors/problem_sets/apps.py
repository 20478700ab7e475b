"""APPS, as its folders (question.txt, input_output.json, solutions.json, metadata.json, starter_code.py) or in the
columns of the hub's data set.

APPS has no public tests: the first one is made public where there are more. Answers on standard output are compared by
tokens, as APPS does. In tasks with a function, answers from Codewars are wrapped in a list of one, which is taken off,
and names of `typing` are imported. A problem without tests, of which APPS has some, is left out and counted in the log.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.problem_sets.base import make_problem, read_rows
from executor.errors import UserError
from executor.problem import Problem

FORM = "apps:FOLDER, apps:FILE.jsonl: APPS as folders or in the hub's columns"
DIFFICULTY = {"introductory": 2, "interview": 3, "competition": 5}
_METHOD = re.compile(r"^class\s+(\w+)", re.MULTILINE)
_TYPING = re.compile(r"\b(Any|Deque|Dict|List|Optional|Set|Tuple|Union)\b")

log = logging.getLogger("cupel")


def load(rest: str) -> list[Problem]:
    """The problems of a folder of problems, or of a JSONL file. Raises UserError."""
    if not rest:
        raise UserError(f"problem set 'apps:': give a folder or a file: {FORM}")
    path = Path(rest).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    rows = _folders(path) if path.is_dir() else read_rows(path)
    problems, without = [], 0
    for where, row in rows:
        problem = _problem(where, row)
        if problem is None:
            without += 1
        else:
            problems.append(problem)
    if without:
        log.warning("%s: %d problems without tests are left out", path, without)
    return problems


def _folders(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with the hub's columns from folders of problems at any depth, in the order of their names."""
    for question in sorted(path.rglob("question.txt")):
        folder = question.parent
        metadata = _json(f"{folder / 'metadata.json'}", _text(folder / "metadata.json") or "{}")
        yield (
            str(folder),
            {
                "problem_id": int(folder.name) if folder.name.isdecimal() else folder.name,
                "question": _text(question),
                "input_output": _text(folder / "input_output.json"),
                "solutions": _text(folder / "solutions.json"),
                "starter_code": _text(folder / "starter_code.py"),
                "difficulty": metadata.get("difficulty") if isinstance(metadata, dict) else None,
                "url": metadata.get("url") if isinstance(metadata, dict) else None,
            },
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON: {error}") from None


def _problem(where: str, row: dict[str, Any]) -> Problem | None:
    """The problem of a row; None if it has no tests."""
    if not isinstance(row.get("question"), str) or "input_output" not in row:
        raise UserError(f"{where}: not a row of APPS (it needs question and input_output)")
    tests = _json(f"{where}: input_output", row["input_output"]) if row["input_output"] else {}
    inputs, outputs = tests.get("inputs") or [], tests.get("outputs") or []
    if len(inputs) != len(outputs):
        raise UserError(f"{where}: {len(inputs)} inputs and {len(outputs)} outputs")
    if not inputs:
        return None
    starter, name = row.get("starter_code") or "", tests.get("fn_name")
    references = _json(f"{where}: solutions", row["solutions"]) if row.get("solutions") else []
    if name:
        header = _typing_import(starter)
        starter, references = header + starter, [header + reference for reference in references]
        forms = _function_tests(inputs, outputs, str(row.get("url") or ""))
        holder = _METHOD.search(starter)
        name = f"{holder.group(1)}().{name}" if holder else name
    else:
        forms = [{"input": _lines(i), "output": _lines(o)} for i, o in zip(inputs, outputs, strict=True)]
    public = 1 if len(forms) > 1 else 0
    return make_problem(
        where,
        id=f"apps/{row.get('problem_id')}",
        prompt=row["question"].strip(),
        kind="function" if name else "stdio",
        entry_point=name,
        starter_code=starter.rstrip() or None,
        public_tests=forms[:public],
        private_tests=forms[public:],
        references=references,
        checker={"type": "exact" if name else "tokens"},
        difficulty=DIFFICULTY.get(str(row.get("difficulty"))),
    )


def _typing_import(starter: str) -> str:
    """Signatures of LeetCode's tasks take names of `typing` for granted."""
    names = sorted(set(_TYPING.findall(starter)))
    return f"from typing import {', '.join(names)}\n\n" if names else ""


def _function_tests(inputs: list[Any], outputs: list[Any], url: str) -> list[dict[str, Any]]:
    wrapped = "leetcode" not in url and all(isinstance(o, list) and len(o) == 1 for o in outputs)
    return [{"args": i, "expected": o[0] if wrapped else o} for i, o in zip(inputs, outputs, strict=True)]


def _lines(text: Any) -> str:
    """Some rows hold a list of lines in place of the text."""
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)

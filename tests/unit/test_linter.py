"""Ruff reads programs that are not to be trusted: real processes, real findings; what it cannot read costs nothing but the finding."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from asynchronous import asynchronous

from actors.findings import Finding, character_range
from actors.linter import SYNTAX, Linter, findings_in
from actors.rewards import rltf
from cluster.config import load_config
from cluster.dry_run import dry_run
from executor.errors import UserError

RULES = tuple(rltf.Settings().linter_rules)


@pytest.fixture(scope="module")
def linter() -> Iterator[Linter]:
    linter = Linter(RULES)
    yield linter
    linter.close()


def said(linter: Linter, program: str) -> list[tuple[str, str]]:
    """Each finding's code and what it is about."""
    found = []
    for finding in asyncio.run(linter.check(program)):
        place = character_range(program, finding)
        found.append((finding.code, program[slice(*place)] if place else ""))
    return found


@pytest.mark.parametrize(
    "program, expected",
    [
        ("x = 1\nprint(x)\n", []),
        ("", []),
        ("if 0:\n    print(yy)\n", [("F821", "yy")]),
        ("x = '😀é' + yy\r\nif x:\r\n\tprint(zz)\r\n", [("F821", "yy"), ("F821", "zz")]),
        ("x = 1\rprint(yy)", [("F821", "yy")]),
        ("\ufeffprint(yy)", [("F821", "yy")]),
        ("x = '\u2028' + yy\n\x0cprint(zz)", [("F821", "yy"), ("F821", "zz")]),
        ("x = f'{yy}'", [("F821", "yy")]),
        ("x = 1\nreturn x", [("F706", "return x")]),
        ("x = 'a'\nif x is 'a': pass", [("F632", "x is 'a'")]),
        ("assert (1, 'no')", [("F631", "assert (1, 'no')")]),
        ("__all__ = ['yy']", [("F822", "'yy'")]),
        ("x = 1\n    y = 2", [(SYNTAX, "=")]),
        ("print((1\n", [(SYNTAX, "1")]),
        ("import os, sys\nl = 1", []),  # style is nobody's error
        ("from math import *\nprint(sqrt(2))", []),
    ],
)
def test_findings_are_exact(linter: Linter, program: str, expected: list[tuple[str, str]]) -> None:
    found = said(linter, program)
    if expected and expected[0][0] == SYNTAX:  # which place a parser names is its own affair
        assert [code for code, _ in found] == [SYNTAX] and found[0][1].strip()
    else:
        assert found == expected


@pytest.mark.parametrize(
    "comment", ["# noqa", "# noqa: F821", "# type: ignore", "# ruff: noqa", "# flake8: noqa", "# ruff: disable[F821]"]
)
def test_a_program_cannot_silence_it(linter: Linter, comment: str) -> None:
    assert said(linter, f"{comment}\nprint(yy)  {comment}\n") == [("F821", "yy")]


@pytest.mark.parametrize("program", ["\0", "print('\ud800')", "(" * 20_000, "[" * 20_000 + "]" * 20_000])
def test_a_hostile_program_raises_nothing(linter: Linter, program: str) -> None:
    said(linter, program)


def test_half_of_a_surrogate_pair_moves_no_column(linter: Linter) -> None:
    assert said(linter, "x = '\ud800' + yy") == [("F821", "yy")]


def test_a_program_that_ruff_dies_of_is_counted() -> None:
    linter = Linter(RULES)
    assert said(linter, "x = " + "-" * 200_000 + "1") == []
    assert linter.failures == 1
    assert said(linter, "print(yy)") == [("F821", "yy")]
    linter.close()


def fake(folder: Path, body: str) -> None:
    """A `ruff` of our own: right about the empty program, then as `body` says."""
    (folder / "ruff").write_text(f"#!{sys.executable}\nimport sys\nif not sys.stdin.read(): sys.exit(0)\n{body}\n")
    (folder / "ruff").chmod(stat.S_IRWXU)


@asynchronous
async def test_the_loop_goes_on_and_a_deadline_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "pid"
    fake(tmp_path, f"import os, time\nopen({str(told)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    linter = Linter(RULES, deadline_s=1.0)
    turns = 0
    checking = asyncio.create_task(linter.check("x"))
    while not checking.done():
        turns += 1
        await asyncio.sleep(0.01)
    assert checking.result() == [] and linter.failures == 1
    assert turns > 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    linter.close()


@pytest.mark.parametrize("output", ["", "{}", "[1]", '[{"code": "F821"}]', "[", '[{"location": null}]'])
def test_output_that_cannot_be_read_is_a_failure(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, f"print({output!r}); sys.exit(1)")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    linter = Linter(RULES)
    assert asyncio.run(linter.check("x")) == [] and linter.failures == 1
    linter.close()


def test_few_processes_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    linter, lock = Linter(RULES), threading.Lock()
    start, running, most = linter._start, 0, 0

    def counted(program: str) -> object:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return start(program)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(linter, "_start", counted)

    async def many() -> list[list[Finding]]:
        return await asyncio.gather(*(linter.check(f"print(y{i})") for i in range(24)))

    found = asyncio.run(many())
    assert [[f.message for f in one] for one in found] == [[f"Undefined name `y{i}`"] for i in range(24)]
    assert 1 <= most <= 2
    linter.close()


def test_of_several_syntax_errors_the_first_counts() -> None:
    def row(code: str | None, line: int) -> str:
        place = f'{{"row": {line}, "column": 1}}'
        name = "null" if code is None else f'"{code}"'
        return f'{{"code": {name}, "location": {place}, "end_location": {place}, "message": "m"}}'

    rows = [row("F821", 1), row(None, 2), row(None, 2), row(SYNTAX, 3), row("F821", 4)]
    found = findings_in(f"[{', '.join(rows)}]".encode())
    assert [(f.code, f.line) for f in found] == [("F821", 1), (SYNTAX, 2), ("F821", 4)]


def test_a_linter_that_is_not_there_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, ["algorithm.reward.linter=true"])
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^algorithm\.reward\.linter=true needs ruff.*install cupel\[linter\]$"):
        dry_run(config)
    dry_run(load_config(None, []))  # nobody asked for it


def test_a_rule_that_it_does_not_have_is_told_before_anything_starts() -> None:
    config = load_config(None, ["algorithm.reward.linter=true", "algorithm.reward.linter_rules=[F82, QQQ123]"])
    with pytest.raises(UserError, match=r"^algorithm\.reward\.linter_rules=.*QQQ123"):
        dry_run(config)


@pytest.mark.parametrize("rules", ["[]", "[F821 --fix]", "[--fix]", "['']", "F821", "[ALL, 'E9,F']"])
def test_what_is_no_rule_is_refused(rules: str) -> None:
    with pytest.raises(UserError, match=r"algorithm\.reward\.linter_rules"):
        load_config(None, [f"algorithm.reward.linter_rules={rules}"])

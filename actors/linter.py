"""What ruff says of programs that are not to be trusted: static analysis for a reward.

Invariants: a program is only ever parsed, by a process of its own that a deadline ends, with an empty environment and no configuration but the
rules; the caller's event loop never waits; a program that the linter fails on has no findings, and is counted; nothing that a
program says (`# noqa`) silences it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.findings import Finding
from executor.errors import UserError

DEADLINE_S = 10.0
AT_A_TIME = 2  # processes: a program takes a few milliseconds
SYNTAX = "invalid-syntax"  # what ruff calls a program that does not parse; it is told whatever the rules


class Linter:
    """Reads programs by some rules."""

    def __init__(self, rules: Sequence[str], deadline_s: float = DEADLINE_S) -> None:
        """Find the linter and try the rules. Raises UserError where one of them is missing."""
        self._deadline_s = deadline_s
        self.failures = 0
        self._command = [
            _binary(),
            "check",
            "--isolated",
            "--no-cache",
            "--ignore-noqa",
            "--quiet",
            "--output-format=json",
            "--stdin-filename=program.py",
            f"--target-version=py{sys.version_info.major}{sys.version_info.minor}",  # the one that programs are run by
            f"--select={','.join(rules)}",
            "-",
        ]
        try:
            tried = self._start("")
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"algorithm.reward.linter=true: ruff cannot be run: {error}") from None
        if tried.returncode:
            said = " ".join(tried.stderr.decode("utf-8", "replace").split())
            raise UserError(f"algorithm.reward.linter_rules={list(rules)}: {said[:300]}")
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="cupel-linter")

    async def check(self, program: str) -> list[Finding]:
        """What there is to say of the program, in its order."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._check, program)

    def _check(self, program: str) -> list[Finding]:
        try:
            done = self._start(program)
            if done.returncode in (0, 1):
                return findings_in(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            pass
        self.failures += 1
        return []

    def _start(self, program: str) -> subprocess.CompletedProcess[bytes]:
        # Half of a surrogate pair has no UTF-8; a question mark in its place keeps the columns.
        given = program.encode("utf-8", "replace")
        return subprocess.run(
            self._command, input=given, capture_output=True, timeout=self._deadline_s, env={}, cwd="/", check=False
        )

    def close(self) -> None:
        """Take no more programs."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _binary() -> str:
    places = os.pathsep.join(filter(None, [sysconfig.get_path("scripts"), os.environ.get("PATH")]))
    found = shutil.which("ruff", path=places)
    if found is None:
        raise UserError(
            "algorithm.reward.linter=true needs ruff, which is not installed: make install, or install cupel[linter]"
        )
    return found


def findings_in(output: bytes) -> list[Finding]:
    """Ruff's JSON as findings. Of several syntax errors the first: the others are what its parser makes of the rest. Raises ValueError."""
    rows = json.loads(output)
    if not isinstance(rows, list):
        raise ValueError("ruff's output is no list")
    found = [_finding(row) for row in rows]
    syntax = [finding for finding in found if finding.code == SYNTAX]
    return [finding for finding in found if finding.code != SYNTAX or finding is syntax[0]]


def _finding(row: Any) -> Finding:
    try:
        start, end = row["location"], row["end_location"]
        places = (start["row"], start["column"], end["row"], end["column"])
        return Finding(*map(int, places), code=str(row["code"] or SYNTAX), message=str(row["message"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a finding of ruff cannot be read: {error}") from None

"""Our own corpus, tests/adversaries, at every level that can be had here: verdicts, and the host as it was after each.

A line of expected.jsonl says what a program tries (`note`), which outcomes are right (`since`: which are from a version of Python on), and the lowest
level of isolation at which they hold; below that one the program is not run. Programs that attack the host look first whether
they are shut in, and do nothing where they are not.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from executor.errors import UserError
from executor.files import load_problems
from executor.judging import Judge, JudgeRequest
from executor.problem import Sample
from executor.sandbox.level import LEVELS, LevelName, at_least
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, jsonable

CORPUS = Path(__file__).resolve().parents[1] / "adversaries"
PROBLEMS = {problem.id: problem for problem in load_problems(CORPUS / "problems.jsonl")}
SAMPLES = [Sample.model_validate_json(line) for line in (CORPUS / "samples.jsonl").read_text().splitlines()]
EXPECTED: list[dict[str, Any]] = [json.loads(line) for line in (CORPUS / "expected.jsonl").read_text().splitlines()]
OPEN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue")
RUNS = [(level, expected) for level in LEVELS for expected in EXPECTED if at_least(level, expected["level"])]


class Host:
    """A judge at one level, and what its programs could leave on the machine that runs it."""

    def __init__(self, level: LevelName, scratch: Path) -> None:
        settings = ExecutorSettings(
            min_level=level, max_level=level, scratch_dir=str(scratch), wall_factor=1.5, wall_extra_s=0.5
        )
        self.judge = Judge(settings)
        self.scratch = scratch
        held = [slot._isolation.users for slot in self.judge._slots]
        self.users = {user for users in held if users is not None for user in (users.program, users.tester)}
        self.judge.judge(JudgeRequest(PROBLEMS["sum"], "print(5)"))  # from here on everything is warm
        self.before = self.state()

    def state(self) -> dict[str, Any]:
        """All that must be the same after every program; names tell what changed."""
        return {
            "infrastructure failures": self.judge.infrastructure_failures,
            "descendants": {process.pid for process in psutil.Process().children(recursive=True)},
            "processes of the users": {
                process.pid for process in psutil.process_iter() if self.users & set(_uids(process))
            },
            "descriptors": len(os.listdir("/proc/self/fd")),
            "open folders": {path for folder in OPEN_FOLDERS for path in self._left_in(Path(folder))},
            # An empty folder may be kept for the next program.
            "scratch": sorted(str(path) for path in self.scratch.rglob("*") if path.name != "scratch"),
            "System V": [line for kind in ("shm", "sem", "msg") for line in self._ipc(Path("/proc/sysvipc", kind))],
        }

    def _left_in(self, folder: Path) -> Iterator[str]:
        for entry in os.scandir(folder) if folder.is_dir() else ():
            try:
                if entry.name.startswith("cupel-adversary") or entry.stat(follow_symlinks=False).st_uid in self.users:
                    yield entry.path
            except FileNotFoundError:
                continue  # somebody else's, gone meanwhile

    def _ipc(self, table: Path) -> Iterator[str]:
        header, *lines = table.read_text().splitlines() if table.exists() else [""]
        owners = [i for i, name in enumerate(header.split()) if name in ("uid", "cuid")]
        for line in lines:
            if self.users & {int(line.split()[i]) for i in owners}:
                yield line


def _uids(process: psutil.Process) -> tuple[int, ...]:
    try:
        return tuple(process.uids())
    except psutil.NoSuchProcess:
        return ()


class Hosts:
    """One host at a time: a judge is kept as long as its level is asked for."""

    def __init__(self) -> None:
        self.level: LevelName | None = None
        self.host: Host | None = None
        self.open = ExitStack()

    def at(self, level: LevelName) -> Host:
        if level != self.level:
            self.open.close()
            self.level, self.host = level, None
            folder = self.open.enter_context(tempfile.TemporaryDirectory())
            os.chmod(folder, 0o711)
            try:
                self.host = Host(level, Path(folder))
            except UserError as error:
                pytest.skip(str(error))
            self.open.callback(lambda: _must_be_empty(folder))
            self.open.enter_context(self.host.judge)
        if self.host is None:
            pytest.skip(f"{level} cannot be had here")
        return self.host


def _must_be_empty(folder: str) -> None:
    assert os.listdir(folder) == []


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    with hosts.open:
        yield hosts


def right(expected: dict[str, Any]) -> list[str]:
    """The outcomes that are right for the Python that runs this."""
    outcomes = expected["outcomes"]
    for version, others in sorted(expected.get("since", {}).items()):
        if sys.version_info >= tuple(map(int, version.split("."))):
            outcomes = others
    return outcomes


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("level", "expected"), RUNS, ids=[f"{level}-{e['name']}" for level, e in RUNS])
def test_the_verdict_is_right_and_the_host_as_it_was(hosts: Hosts, level: LevelName, expected: dict[str, Any]) -> None:
    host, sample = hosts.at(level), SAMPLES[expected["index"]]
    verdict = host.judge.judge(JudgeRequest(PROBLEMS[sample.problem_id], sample.program))
    assert verdict.outcome.value in right(expected), f"{expected['note']}: {verdict}"
    json.dumps(jsonable(verdict), ensure_ascii=False).encode()
    assert host.state() == host.before


def test_the_corpus_is_whole() -> None:
    assert [expected["index"] for expected in EXPECTED] == list(range(len(SAMPLES)))
    assert len({expected["name"] for expected in EXPECTED}) == len(EXPECTED)
    assert {sample.problem_id for sample in SAMPLES} == set(PROBLEMS)
    for expected in EXPECTED:
        assert expected["category"] in ("honest", "adversarial") and expected["level"] in LEVELS and expected["note"]
        outcomes = {Outcome(outcome) for outcome in expected["outcomes"]}
        assert outcomes == {Outcome.PASS} if expected["category"] == "honest" else Outcome.PASS not in outcomes

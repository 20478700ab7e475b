"""What is asked of a run that goes on, by way of its folder: answered once, kept in its configuration, refused in one line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asynchronous import asynchronous

from cluster.config import dump_config, load_config
from cluster.run_folder import RunFolder
from cluster.scaling import REQUEST, Answer, Scaler, Wanted, read_wanted, request
from executor.errors import UserError


class Membership:
    """The executors' membership actor, as far as it is asked."""

    def __init__(self, up: int) -> None:
        self.states = {f"executor-{i}": "up" for i in range(up)}
        self.states["executor-old"] = "draining"
        self.members = SimpleNamespace(remote=self._members)
        self.add = SimpleNamespace(remote=self._add)
        self.drain = SimpleNamespace(remote=self._drain)
        self.calls: list[tuple[str, int]] = []

    async def _members(self) -> dict[str, str]:
        return self.states

    async def _add(self, number: int) -> None:
        self.calls.append(("add", number))

    async def _drain(self, number: int) -> None:
        if number > 3:
            raise UserError("draining that many leaves no executor worker")
        self.calls.append(("drain", number))


class Rollouts:
    """As much of RolloutActors as is asked."""

    def __init__(self) -> None:
        self.staying = 2

    def scale(self, wanted: int) -> None:
        self.staying = wanted


class Run:
    """A run folder and who follows its requests."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.config = load_config(None, ["rollout.actors=2", "executor.workers=4", *settings])
        self.folder = RunFolder.create(folder, "run")
        self.folder.write_text("config.yaml", dump_config(self.config))
        self.rollouts, self.membership, self.said = Rollouts(), Membership(4), list[str]()
        self.scaler = Scaler(
            self.config, self.folder, self.rollouts, lambda: self.membership, self._room, self.said.append
        )

    def _room(self, rollouts: int, executors: int) -> None:
        if rollouts > 8:
            raise UserError(f"rollout.actors={rollouts}: 8 GPUs")

    async def ask(self, **wanted: Any) -> Answer:
        following = asyncio.create_task(self.scaler.follow())
        try:
            return await asyncio.to_thread(request, self.folder.path, Wanted(**wanted), 10.0)
        finally:
            following.cancel()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.scaling.POLL_S", 0.01)


@asynchronous
async def test_more_and_fewer_are_had_and_kept_for_whoever_resumes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    answer = await run.ask(executors=7, rollouts=3)
    assert answer.mistake is None
    assert answer.said == ["rollout actors: 2 to 3", "executor workers: 4 to 7"]
    assert run.said == answer.said
    assert (run.rollouts.staying, run.membership.calls) == (3, [("add", 3)])
    kept = load_config(run.folder.path / "config.yaml", [])
    assert (kept.rollout.actors, kept.executor.workers) == (3, 7)
    assert not (run.folder.path / REQUEST).exists()
    answer = await run.ask(executors=2)
    assert answer.said == ["executor workers: 4 to 2; those that leave end what they have"]
    assert run.membership.calls[-1] == ("drain", 2)
    assert (await run.ask(executors=4)).said == ["executor workers: 4, as before"]


@asynchronous
async def test_what_cannot_be_is_said_and_nothing_is_changed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    answer = await run.ask(executors=5, rollouts=9)
    assert answer.mistake == "rollout.actors=9: 8 GPUs" and answer.said == []
    assert (run.rollouts.staying, run.membership.calls) == (2, [])
    assert load_config(run.folder.path / "config.yaml", []) == run.config
    run.membership.states |= {f"executor-{i}": "up" for i in range(4, 9)}
    assert (await run.ask(executors=1)).mistake == "draining that many leaves no executor worker"


@asynchronous
async def test_a_run_that_sizes_its_executors_is_not_told_how_many(tmp_path: Path) -> None:
    run = Run(tmp_path, "executor.max_workers=8")
    answer = await run.ask(executors=5)
    assert answer.mistake is not None and "sizes its executors by itself" in answer.mistake
    assert (await run.ask(rollouts=3)).said == ["rollout actors: 2 to 3"]


@asynchronous
async def test_a_request_that_cannot_be_read_is_told_and_taken_away(tmp_path: Path) -> None:
    run = Run(tmp_path)
    following = asyncio.create_task(run.scaler.follow())
    for number, text in enumerate(("{", '{"id": "1", "wanted": {"executors": 0}}', '"executors"'), 1):
        (run.folder.path / REQUEST).write_text(text)
        async with asyncio.timeout(5):
            while (run.folder.path / REQUEST).exists() or len(run.said) < number:
                await asyncio.sleep(0.01)
        assert "came to nothing" in run.said[-1]
    following.cancel()
    assert (await run.ask(rollouts=2)).said == ["rollout actors: 2, as before"]


def test_a_run_that_does_not_answer_is_not_waited_for_longer(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(UserError, match="has not answered within 0 s"):
        request(run.folder.path, Wanted(executors=2), 0.3)
    assert not (run.folder.path / REQUEST).exists(), "nobody wants it any longer"


def test_what_was_asked_of_the_last_process_is_not_asked_of_the_next(tmp_path: Path) -> None:
    run = Run(tmp_path)
    (run.folder.path / REQUEST).write_text("{}")
    Scaler(run.config, run.folder, run.rollouts, lambda: run.membership, run._room, run.said.append)
    assert not (run.folder.path / REQUEST).exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing to scale"),
        (["executors"], "'executors': give executors=NUMBER"),
        (["learners=2"], "'learners=2': give executors=NUMBER"),
        (["executors=0"], "executors='0'"),
        (["executors=many"], "executors='many'"),
        (["rollouts=2000"], "rollouts='2000'"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_wanted(arguments)


def test_a_command_says_how_many() -> None:
    assert read_wanted(["executors=8"]) == Wanted(executors=8)
    assert read_wanted(["rollouts=2", "executors=1"]) == Wanted(executors=1, rollouts=2)

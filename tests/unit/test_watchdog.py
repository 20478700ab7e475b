"""The watchdog: what counts as stuck, what is said of it, what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asynchronous import asynchronous
from hypothesis import given
from hypothesis import strategies as st

from cluster import watchdog
from cluster.config import WatchdogSection
from cluster.watchdog import Part, Sight, Watch, Watchdog
from executor.errors import RunLost, UserError


def test_a_part_is_stuck_once_it_has_work_and_no_progress_for_long_enough() -> None:
    watch = Watch(10)
    assert watch.see({"a": Sight(1)}, 0) == {}
    assert watch.see({"a": Sight(1)}, 9) == {}
    assert watch.see({"a": Sight(1)}, 10) == {"a": 10}
    assert watch.see({"a": Sight(1)}, 50) == {}, "it is told once"
    assert watch.see({"a": Sight(2)}, 51) == {}
    assert watch.see({"a": Sight(2)}, 61) == {"a": 10}, "and again once it is stuck again"


def test_a_part_that_does_not_answer_makes_no_progress() -> None:
    watch = Watch(10)
    watch.see({"a": Sight(1, busy=False)}, 0)
    assert watch.see({"a": None}, 9) == {}
    assert watch.see({"a": None}, 11) == {"a": 11}
    watch.see({"b": None}, 20)
    assert watch.see({"b": None}, 30) == {"b": 10}, "even one that never has"


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.floats(0.1, 8)), max_size=60))
def test_who_is_idle_or_moves_is_never_stuck(history: list[tuple[int, bool, float]]) -> None:
    watch, now, last_good, before = Watch(10), 0.0, 0.0, None
    for mark, busy, seconds in history:
        now += seconds
        if before is None or not busy or mark != before:
            last_good = now
        before = mark
        stuck = watch.see({"a": Sight(mark, busy)}, now)
        if stuck:
            assert stuck["a"] == pytest.approx(now - last_good) and stuck["a"] >= 10


class Actor:
    """As much of a handle as is asked."""

    def __init__(self) -> None:
        self.place = SimpleNamespace(remote=self._place)

    async def _place(self) -> tuple[str, int]:
        return "node", 7


def part(look: Callable[[], Any], **more: Any) -> Part:
    return Part(Actor(), look, **more)


async def steady() -> Sight:
    return Sight(1)


async def silent() -> Sight:
    await asyncio.sleep(3600)
    raise AssertionError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stacks(node: str, pid: int) -> str:
        return f"stacks of {pid} on {node}"

    monkeypatch.setattr(watchdog, "ASK_S", 0.05)
    monkeypatch.setattr(watchdog, "_stacks", stacks)


def dog(folder: Path, action: str, said: list[str], **parts: Part) -> Watchdog:
    return Watchdog(WatchdogSection.model_construct(after_s=0.2, action=action), lambda: parts, folder, said.append)


@asynchronous
async def test_a_part_that_can_be_is_begun_anew_and_its_stacks_are_kept(tmp_path: Path) -> None:
    ended, said = asyncio.Event(), list[str]()

    async def groups() -> str:
        return "groups 3, 4"

    stuck = part(steady, works_on=groups, restart=ended.set)
    following = asyncio.create_task(dog(tmp_path / "stacks", "restart", said, rollout=stuck).follow())
    async with asyncio.timeout(10):
        await ended.wait()
    following.cancel()
    (file,) = (tmp_path / "stacks").iterdir()
    assert file.read_text() == "stacks of 7 on node"
    assert said[0].startswith("rollout has made no progress for 0 s (groups 3, 4); where it is says")
    assert str(file) in said[0] and said[0].endswith("a fresh one takes its place")


@pytest.mark.parametrize(("action", "kind"), [("restart", RunLost), ("stop", UserError)])
@asynchronous
async def test_what_cannot_be_done_without_ends_the_run(tmp_path: Path, action: str, kind: type[Exception]) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(kind, match="the learner has made no progress") as caught:
            await dog(tmp_path / "stacks", action, [], **{"the learner": part(silent)}).follow()
    assert isinstance(caught.value, RunLost) == (action == "restart")


@asynchronous
async def test_a_warning_is_a_warning(tmp_path: Path) -> None:
    said: list[str] = []
    following = asyncio.create_task(dog(tmp_path / "stacks", "warn", said, one=part(steady), two=part(silent)).follow())
    async with asyncio.timeout(10):
        while len(said) < 2:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    assert not following.done() and len(said) == 2
    following.cancel()

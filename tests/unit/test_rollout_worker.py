"""What a rollout actor puts into a trajectory: spans that its reward asks for, and references; a real judge and linter, a scripted engine."""

from __future__ import annotations

import asyncio
import dataclasses
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from asynchronous import asynchronous
from trajectories import dialogue

from actors.engine.protocol import Completion, EngineSettings, SamplingSettings
from actors.episode import Rules
from actors.feedback_turns import FeedbackSettings
from actors.prompts import reference_response
from actors.rollout import RolloutSettings, RolloutWorker
from actors.worked_examples import WorkedExamples
from buffer.replay import Ticket
from buffer.trajectory import Group, Trajectory
from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.problem import Problem, StdioTest
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict

PROGRAM = "n = int(input())\nif n > 9:\n    print(missing)\nprint(n)"
PROBLEM = Problem(id="p", prompt="?", kind="stdio", public_tests=[StdioTest(input="2\n", output="5\n")])
SINGLE = Rules(max_turns=1, max_tokens=512, max_response_tokens=200)
SAMPLING = SamplingSettings(temperature=1.0, top_p=1.0, max_tokens=200)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(ExecutorSettings()) as judge:
        yield judge


class Pool:
    """Judges in a thread, and keeps what it was asked."""

    def __init__(self, judge: Judge) -> None:
        self.judge_, self.asked = judge, list[JudgeRequest]()

    async def judge(self, request: JudgeRequest) -> Verdict:
        self.asked.append(request)
        return await asyncio.to_thread(self.judge_.judge, request)

    async def close(self) -> None:
        pass

    def gauges(self) -> dict[str, float]:
        return {}


class Engine:
    """Says PROGRAM."""

    policy_version = 0

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        return Completion(self.ids, [-1.0] * len(self.ids), [0] * len(self.ids), "stop")

    def gauges(self) -> dict[str, float]:
        return {}

    async def shutdown(self) -> None:
        pass


def worker(
    model_folder: Path, judge: Judge, name: str, reward: dict[str, Any], rules: Rules = SINGLE
) -> tuple[RolloutWorker, Pool]:
    settings = RolloutSettings(
        name="r",
        engine=EngineSettings(str(model_folder), "float32", 512, 1, 0.1, 0.1, 1, 0),
        executor=ExecutorSettings(),
        algorithm=name,
        reward=reward,
        samples_per_problem=1,
        sampling=SAMPLING,
        concurrent_groups=1,
        tests="all",
        rules=rules,
        feedback=FeedbackSettings("tests", None, 600),
        max_prompt_tokens=312,
        worked_examples=WorkedExamples(),
        with_greedy=False,
        with_reference=False,
        reference_repairs=False,
        tidy_references=True,
        seed=0,
        seeded=False,
    )
    made, pool = RolloutWorker(settings, [PROBLEM], None, {}), Pool(judge)
    made._pool = pool  # type: ignore[assignment]
    made._engine = Engine(  # type: ignore[assignment]
        made._tokenizer.encode(reference_response(PROBLEM, PROGRAM), add_special_tokens=False)
    )
    return made, pool


async def episode(made: RolloutWorker) -> Trajectory:
    trajectory = await made._episode(PROBLEM, [0, 1], "sampled", made._player(SAMPLING, "group 0", 0))
    assert trajectory is not None and trajectory.turns[0].verdict is not None
    assert trajectory.turns[0].verdict.outcome is Outcome.FAILURE
    return trajectory


def said(made: RolloutWorker, trajectory: Trajectory) -> dict[str, str]:
    """The text of the tokens of each span, by its reason."""
    spans = trajectory.turns[0].spans
    return {s.reason: made._tokenizer.decode(trajectory.token_ids[s.start : s.end]) for s in spans}


@asynchronous
async def test_nothing_is_asked_for_that_is_not_needed(model_folder: Path, judge: Judge) -> None:
    for name in ("rltf", "grpo"):
        made, pool = worker(model_folder, judge, name, {})
        assert (await episode(made)).turns[0].spans == []
        assert [request.executed_lines for request in pool.asked] == [False]
        assert made._linter is None and "linter_failures" not in await made.gauges()
        await made.stop()


@asynchronous
async def test_what_the_linter_finds_is_on_the_trajectory(model_folder: Path, judge: Judge) -> None:
    made, pool = worker(model_folder, judge, "rltf", {"linter": True})
    found = said(made, await episode(made))
    assert list(found) == ["F821 in line 3"] and "missing" in found["F821 in line 3"]
    assert not pool.asked[0].executed_lines
    assert (await made.gauges())["linter_failures"] == 0
    await made.stop()


def test_an_actor_without_its_linter_does_not_start(
    model_folder: Path, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    worker(model_folder, judge, "rltf", {})
    with pytest.raises(UserError, match="needs ruff"):
        worker(model_folder, judge, "rltf", {"linter": True})


@asynchronous
async def test_what_did_not_run_is_on_the_trajectory(model_folder: Path, judge: Judge) -> None:
    made, pool = worker(model_folder, judge, "rltf", {"executed_lines": True})
    trajectory = await episode(made)
    found = said(made, trajectory)
    assert list(found) == ["lines 3 to 3 did not run"] and "print(missing)" in found["lines 3 to 3 did not run"]
    assert {s.kind for s in trajectory.turns[0].spans} == {"mask"}
    assert pool.asked == [dataclasses.replace(pool.asked[0], executed_lines=True)]
    await made.evaluate([PROBLEM], 1, SAMPLING)
    assert not pool.asked[-1].executed_lines, "an evaluation has no use for it"
    await made.stop()


def test_a_reference_is_one_that_fits_and_is_written_tidily_unless_asked_otherwise(
    model_folder: Path, judge: Judge
) -> None:
    odd, long = "def f(n):\n\treturn n", "x = 1\n" * 300
    problem = PROBLEM.model_copy(update={"references": [long, odd, "y = 2"]})
    made, _ = worker(model_folder, judge, "rltf", {})
    assert made._references(problem, [0, 1], [], "group 0") == [], "nobody asked for one"
    made._settings = dataclasses.replace(made._settings, with_reference=True)

    def drawn() -> set[str]:
        found = [t for group in range(40) for t in made._references(problem, [0, 1], [], f"group {group}")]
        return {made._tokenizer.decode(t.token_ids[2:], skip_special_tokens=True) for t in found}

    tidy = "```python\ndef f(n):\n    return n\n```"
    assert drawn() == {tidy, "```python\ny = 2\n```"}
    made._settings = dataclasses.replace(made._settings, tidy_references=False)
    assert drawn() == {f"```python\n{odd}\n```", "```python\ny = 2\n```"}
    assert made._references(problem.model_copy(update={"references": [long]}), [0, 1], [], "group 0") == []
    made._settings = dataclasses.replace(made._settings, seed=1)
    assert made._references(problem, [0, 1], [], "group 0") == made._references(problem, [0, 1], [], "group 0")


def test_a_reference_may_answer_the_feedback_on_an_answer_that_failed(model_folder: Path, judge: Judge) -> None:
    made, _ = worker(model_folder, judge, "rlef", {}, Rules(max_turns=3, max_tokens=512, max_response_tokens=60))
    made._settings = dataclasses.replace(made._settings, with_reference=True, reference_repairs=True)
    problem = PROBLEM.model_copy(update={"references": ["y = 2"]})
    prompt, feedback = [5, 6], [8, 9]
    failed = dialogue(prompt, [([], [1, 2]), (feedback, [3]), (feedback, [4])], [0.0, 0.0, -1.0])
    at_once = dialogue(prompt, [([], [7])], [1.0])
    [only] = made._references(problem, prompt, [at_once], "group 0")
    answer = only.token_ids[2:]
    contexts = set()
    for number in range(20):
        first, repair = made._references(problem, prompt, [at_once, failed], f"group {number}")
        assert first == only, "an answer to the problem is always among them"
        length = len(repair.token_ids) - len(answer)
        assert repair.role == "reference" and repair.token_ids[length:] == answer
        assert repair.loss_mask == [0] * length + [1] * len(answer), "the failed answer itself is not learnt"
        contexts.add(tuple(repair.token_ids[:length]))
    assert contexts == {(5, 6, 1, 2, 8, 9), (5, 6, 1, 2, 8, 9, 3, 8, 9)}


class Buffer:
    """Hands out tickets for ever, and counts what comes back."""

    def __init__(self) -> None:
        self.given, self.groups = 0, list[Group]()
        self.acquire, self.put = SimpleNamespace(remote=self._acquire), SimpleNamespace(remote=self._put)

    async def _acquire(self, limit: int, holder: str, timeout_s: float) -> list[Ticket]:
        self.given += 1
        return [Ticket(self.given, PROBLEM.id, 0, attempt=1, visit=0)]

    async def _put(self, group: Group) -> None:
        self.groups.append(group)


@asynchronous
async def test_a_drained_actor_ends_what_it_has_and_takes_no_more(model_folder: Path, judge: Judge) -> None:
    made, pool = worker(model_folder, judge, "rltf", {})
    made._buffer = buffer = Buffer()
    held, judged = asyncio.Event(), pool.judge

    async def slow(request: JudgeRequest) -> Verdict:
        await held.wait()
        return await judged(request)

    pool.judge = slow  # type: ignore[method-assign]
    working = asyncio.create_task(made.run())
    async with asyncio.timeout(10):
        while not buffer.given:
            await asyncio.sleep(0.01)
        await made.drain()
        await asyncio.sleep(0.05)
        assert not working.done(), "its group is not done"
        held.set()
        await working
    assert (buffer.given, len(buffer.groups)) == (1, 1)
    await made.stop()


class Updated(Engine):
    """Keeps what the files of its updates held."""

    def __init__(self) -> None:
        super().__init__([])
        self.held: list[tuple[int, bytes]] = []

    async def update_weights(self, source: dict[str, str], policy_version: int) -> float:
        self.held.append((policy_version, Path(source["path"]).read_bytes()))
        return 0.0


@asynchronous
async def test_weights_of_another_machine_land_in_files_of_this_one(
    model_folder: Path, judge: Judge, tmp_path: Path
) -> None:
    async def reference(content: bytes) -> numpy.ndarray:
        return numpy.frombuffer(content, dtype=numpy.uint8)

    made, _ = worker(model_folder, judge, "rltf", {})
    made._engine = engine = Updated()  # type: ignore[assignment]
    here = tmp_path / "here"
    here.write_bytes(b"here")
    await made.update_weights({"path": str(here)}, 1)

    def landed() -> Any:
        return made._landed

    assert landed() is None, "a file of this machine is read where it is"
    for version in (2, 3, 4):
        await made.update_weights({"path": "/of/another/machine"}, version, [reference(b"%d" % version)])
    assert engine.held == [(1, b"here"), (2, b"2"), (3, b"3"), (4, b"4")]
    folder = landed().path(4).parent
    assert sorted(path.name for path in folder.iterdir()) == ["3.safetensors", "4.safetensors"]
    await made.stop()
    assert not folder.exists()


class Replies(Engine):
    """Says one thing after the other, and keeps what it was asked."""

    def __init__(self, replies: list[list[int]]) -> None:
        self.replies, self.asked = replies, list[list[int]]()

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        ids = self.replies[len(self.asked)]
        self.asked.append(prompt_ids)
        return Completion(ids, [-1.0] * len(ids), [0] * len(ids), "stop")


@asynchronous
async def test_an_episode_of_several_turns_is_played_judged_and_paid(model_folder: Path, judge: Judge) -> None:
    problem = Problem(
        id="twice",
        prompt="Print twice the number.",
        kind="stdio",
        public_tests=[StdioTest(input="2\n", output="4\n")],
        private_tests=[StdioTest(input="7\n", output="14\n")],
    )
    rules = Rules(max_turns=3, max_tokens=3000, max_response_tokens=60)
    made, pool = worker(model_folder, judge, "rlef", {}, rules)
    tokenizer = made._tokenizer
    says = ["I do not know.", "```python\nprint(int(input()) + 1)\n```", "```python\nprint(2 * int(input()))\n```"]
    engine = Replies([[*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id] for text in says])
    made._engine = engine  # type: ignore[assignment]
    trajectory = await made._episode(problem, [0, 1], "sampled", made._player(SAMPLING, "group 0", 0))
    assert trajectory is not None and trajectory.passed and trajectory.ending == "turns"
    assert [turn.reward for turn in trajectory.turns] == [-0.2, 0.0, 1.0]
    assert [request.tests for request in pool.asked] == ["public", "all"], "what holds no program runs nowhere"
    told = [
        tokenizer.decode(after[len(before) :]) for before, after in zip(engine.asked, engine.asked[1:], strict=False)
    ]
    assert "no program" in told[0].lower() or "no code" in told[0].lower() or "code block" in told[0].lower()
    assert "2" in told[1] and "4" in told[1] and "3" in told[1] and "14" not in told[1], (
        "input, expected and got of the public test"
    )
    replies = [t for ids in engine.replies for t in ids]
    trained = [t for t, m in zip(trajectory.token_ids, trajectory.loss_mask, strict=True) if m]
    assert trained == replies
    await made.stop()


@asynchronous
async def test_an_episode_that_the_executors_lost_is_left_out_whole(model_folder: Path, judge: Judge) -> None:
    made, pool = worker(model_folder, judge, "rlef", {}, Rules(max_turns=2, max_tokens=900, max_response_tokens=60))

    async def lost(request: JudgeRequest) -> Verdict:
        return Verdict(problem_id="p", outcome=Outcome.INFRASTRUCTURE if request.tests == "all" else Outcome.FAILURE)

    pool.judge = lost  # type: ignore[method-assign]
    assert await made._episode(PROBLEM, [0, 1], "sampled", made._player(SAMPLING, "group 0", 0)) is None
    assert (made._counts["infrastructure"], made._counts["episodes"]) == (1, 0)
    await made.stop()


class Asked(Engine):
    """Keeps the seeds that it was asked with."""

    def __init__(self, ids: list[int]) -> None:
        super().__init__(ids)
        self.seeds: list[int | None] = []

    async def generate(self, prompt_ids: list[int], sampling: SamplingSettings) -> Completion:
        self.seeds.append(sampling.seed)
        return await super().generate(prompt_ids, sampling)


@asynchronous
async def test_a_response_has_a_seed_made_of_run_group_and_turn_if_that_is_asked_for(
    model_folder: Path, judge: Judge
) -> None:
    rules = Rules(max_turns=3, max_tokens=3000, max_response_tokens=60)

    async def seeds(run: int, group: int, seeded: bool = True) -> list[int | None]:
        made, _ = worker(model_folder, judge, "rlef", {}, rules)
        made._settings = dataclasses.replace(made._settings, seed=run, seeded=seeded)
        engine = Asked(made._tokenizer.encode("no program", add_special_tokens=False))
        made._engine = engine  # type: ignore[assignment]
        for index in range(2):
            player = made._player(SAMPLING, f"group {group}", index)
            assert await made._episode(PROBLEM, [0, 1], "sampled", player) is not None
        await made.stop()
        return engine.seeds

    asked = await seeds(0, 7)
    assert asked == await seeds(0, 7), "whoever plays it again draws the same"
    every = [*asked, *await seeds(0, 8), *await seeds(1, 7)]
    turns = 3 if PROBLEM.public_tests else 1
    assert len(set(every)) == len(every) == 3 * 2 * turns
    assert set(await seeds(0, 7, seeded=False)) == {None}

"""The rollout actor: takes tickets from the buffer, generates episodes, has them judged, and puts scored groups back.

Invariants: a ticket ends in exactly one put or fail; a sample whose judging failed for reasons of ours is left out, never scored; a broken engine
ends the actor, so that a fresh one takes its place.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import AutoTokenizer

from actors.engine.choose import start as start_engine
from actors.engine.protocol import Completion, Engine, EngineSettings, SamplingSettings
from actors.episode import Episode, Rules, reference_trajectory
from actors.evaluation import Evaluation, evaluate
from actors.feedback_turns import FeedbackSettings, FeedbackTurns
from actors.findings import Finding
from actors.linter import Linter
from actors.loop_lag import LoopLag
from actors.play import Player, Tests, play
from actors.prompts import Program, extract_program, prompt_ids, reference_response
from actors.references import tidy
from actors.rewards.base import TurnContext
from actors.rewards.base import make as make_reward
from actors.rewards.base import needs as reward_needs
from actors.seeds import seed_of
from actors.token_offsets import token_offsets
from actors.worked_examples import WorkedExamples
from buffer.replay import Ticket
from buffer.trajectory import Group, Trajectory
from buffer.weights_files import WeightsFiles
from executor.errors import UserError
from executor.judging import JudgeRequest
from executor.pool import ExecutorPool
from executor.problem import Problem
from executor.settings import ExecutorSettings
from executor.stacks import place
from executor.verdict import Verdict, no_code

ACQUIRE_TIMEOUT_S = 5.0
MIN_TRAJECTORIES = 2  # fewer left after infrastructure failures and the group says nothing by comparison


@dataclass(frozen=True)
class RolloutSettings:
    """Everything a rollout actor needs; plain values, so that it crosses processes."""

    name: str
    engine: EngineSettings
    executor: ExecutorSettings
    algorithm: str
    reward: dict[str, Any]
    samples_per_problem: int
    sampling: SamplingSettings
    concurrent_groups: int
    tests: Tests
    rules: Rules
    feedback: FeedbackSettings
    max_prompt_tokens: int
    worked_examples: WorkedExamples
    with_greedy: bool
    with_reference: bool
    reference_repairs: bool
    tidy_references: bool
    seed: int
    """Of the run."""
    seeded: bool
    """Each response is drawn with a seed of its own."""


class RolloutWorker:
    """A Ray actor with one event loop; `run` lasts until the buffer is closed."""

    def __init__(
        self,
        settings: RolloutSettings,
        problems: list[Problem],
        buffer: Any,
        executors: Mapping[str, Any],
        membership: Any = None,
    ) -> None:
        self._settings = settings
        self._problems = {problem.id: problem for problem in problems}
        self._buffer = buffer
        self._executors, self._membership = executors, membership
        self._pool: ExecutorPool | None = None
        self._reward = make_reward(settings.algorithm, settings.reward)
        self._needs = reward_needs(self._reward)
        self._linter = Linter(self._needs.linter_rules) if self._needs.linter_rules else None
        self._tokenizer = AutoTokenizer.from_pretrained(settings.engine.model_path, local_files_only=True)
        self._feedback = FeedbackTurns(settings.feedback, self._tokenizer, problems)
        self._engine: Engine | None = None
        self._counts: Counter[str] = Counter()
        self._generating = 0
        self._judging = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._landed: WeightsFiles | None = None  # weights that came from another machine
        self._lag = LoopLag()

    def __repr__(self) -> str:
        """What Ray's dashboard and logs call it."""
        return self._settings.name

    async def check_prompts(self, held_out: list[Problem]) -> int:
        """The length of the longest prompt. Raises UserError if it is over the limit, which the engine would refuse much later, or if the model's
        chat template or `rollout.max_feedback_tokens` have no room for feedback where episodes have turns.
        """
        if self._settings.rules.max_turns > 1:
            problem = next(iter(self._problems.values()))
            self._feedback.ids(problem, None, no_code(problem.id, 1), None, seed=0)
        lengths = {p.id: len(self._prompt(p)) for p in [*self._problems.values(), *held_out]}
        longest = max(lengths, key=lambda name: lengths[name])
        limit = self._settings.max_prompt_tokens
        if lengths[longest] > limit:
            raise UserError(
                f"problem {longest!r} has a prompt of {lengths[longest]} tokens: rollout.max_prompt_tokens={limit} is less"
            )
        return lengths[longest]

    async def start(self) -> int:
        """Start the engine; returns its policy version. Raises EngineError or UserError if it does not start."""
        self._lag.start()
        self._pool = ExecutorPool(self._executors, self._settings.executor, self._membership)
        self._engine = await start_engine(self._settings.engine)
        return self._engine.policy_version

    @property
    def engine(self) -> Engine:
        """The running engine."""
        if self._engine is None:
            raise RuntimeError("start() has not been called")
        return self._engine

    async def run(self) -> None:
        """Work on tickets until the buffer says that there are no more, or `drain` that it should take none. Raises what broke a group
        beyond repair.
        """
        try:
            while self._tasks or not self._draining:
                free = self._settings.concurrent_groups - len(self._tasks)
                if free > 0 and not self._draining:
                    tickets = await self._buffer.acquire.remote(free, self._settings.name, ACQUIRE_TIMEOUT_S)
                    if tickets is None:
                        return
                    for ticket in tickets:
                        self._tasks.add(asyncio.create_task(self._answer(ticket)))
                elif self._tasks:
                    await asyncio.wait(self._tasks, timeout=ACQUIRE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
                for task in [t for t in self._tasks if t.done()]:
                    self._tasks.discard(task)
                    task.result()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks.clear()

    async def drain(self) -> None:
        """Take no more tickets: `run` ends with the groups that are under way."""
        self._draining = True

    async def _answer(self, ticket: Ticket) -> None:
        problem = self._problems[ticket.problem_id]
        started = time.monotonic()
        prompt = self._prompt(problem)
        sampling, count = self._settings.sampling, self._settings.samples_per_problem
        visit = f"group {ticket.group_id}"
        episodes = [self._episode(problem, prompt, "sampled", self._player(sampling, visit, i)) for i in range(count)]
        if self._settings.with_greedy:
            greedy = SamplingSettings(temperature=0.0, top_p=1.0, max_tokens=sampling.max_tokens)
            episodes.append(self._episode(problem, prompt, "greedy", self._player(greedy, visit, count)))
        trajectories = [t for t in await asyncio.gather(*episodes) if t is not None]
        if sum(t.role == "sampled" for t in trajectories) < min(MIN_TRAJECTORIES, self._settings.samples_per_problem):
            await self._buffer.fail.remote(ticket.group_id, "the executors failed on too many of its samples")
            return
        trajectories += self._references(problem, prompt, trajectories, visit)
        if not trajectories:
            await self._buffer.fail.remote(ticket.group_id, "it has no reference that fits")
            return
        self._counts["groups"] += 1
        group = Group(
            group_id=ticket.group_id,
            problem_id=problem.id,
            issued_version=ticket.issued_version,
            trajectories=trajectories,
            seconds={"total": time.monotonic() - started},
        )
        await self._buffer.put.remote(group)

    def _references(
        self, problem: Problem, prompt: list[int], trajectories: list[Trajectory], visit: str
    ) -> list[Trajectory]:
        """What supervision adds to a group: an answer to the problem and, where asked for, one to the feedback on an answer that failed."""
        if not self._settings.with_reference:
            return []
        chance = random.Random(seed_of(self._settings.seed, f"reference of {visit}", 0, 0))
        asked = [prompt]
        if self._settings.reference_repairs:
            followed = [t.token_ids[: turn.start] for t in trajectories if t.role == "sampled" for turn in t.turns[1:]]
            asked += chance.sample(followed, min(1, len(followed)))
        answers = [self._reference(problem, question, chance) for question in asked]
        return [answer for answer in answers if answer is not None]

    def _reference(self, problem: Problem, prompt: list[int], chance: random.Random) -> Trajectory | None:
        """One of the problem's references, chosen at random among those that fit behind the prompt, which may be a dialogue."""
        room = self._settings.rules.max_tokens - len(prompt)
        for program in chance.sample(problem.references, len(problem.references)):
            text = reference_response(problem, tidy(program) if self._settings.tidy_references else program)
            ids = [*self._tokenizer.encode(text, add_special_tokens=False), self._tokenizer.eos_token_id]
            if len(ids) <= room:
                return reference_trajectory(problem.id, prompt, ids)
        return None

    def _prompt(self, problem: Problem) -> list[int]:
        return prompt_ids(self._tokenizer, problem, self._settings.worked_examples.before(problem))

    async def _episode(self, problem: Problem, prompt: list[int], role: str, player: Player) -> Trajectory | None:
        """One episode, or None where the executors failed us."""
        episode = await play(problem, prompt, self._settings.rules, player, self._settings.tests)
        if isinstance(episode, Verdict):
            self._counts["infrastructure"] += 1
            return None
        self._counts["episodes"] += 1
        self._counts["context_full"] += episode.ending == "context"
        for number in range(len(episode.turns)):
            score = self._reward.score(await self._context(problem, episode, number))
            episode.score(number, score.reward, score.components, score.spans)
        return episode.trajectory(role)

    def _player(self, sampling: SamplingSettings, name: str, index: int, evaluating: bool = False) -> Player:
        """For episode `index` of what `name` names; all its chance comes from these and the run's seed, as far as seeds are asked for."""
        executed_lines = self._needs.executed_lines and not evaluating
        seed, turn = 0, 0

        async def generate(token_ids: list[int]) -> Completion:
            nonlocal seed, turn
            seed, turn = seed_of(self._settings.seed, name, index, turn), turn + 1
            return await self._generate(token_ids, replace(sampling, seed=seed) if self._settings.seeded else sampling)

        async def judge(problem: Problem, program: str | None, tests: Tests) -> Verdict:
            return await self._judge(problem, program, tests, index, executed_lines and tests != "public")

        return Player(
            generate=generate,
            decode=lambda token_ids: self._tokenizer.decode(token_ids, skip_special_tokens=True),
            judge=judge,
            feedback_ids=lambda *said: self._feedback.ids(*said, seed=seed),
        )

    async def _context(self, problem: Problem, episode: Episode, number: int) -> TurnContext:
        """What the reward is told of a turn of a finished episode."""
        turn, token_ids = episode.turns[number], episode.token_ids
        program = extract_program(turn.response, problem.language)
        assert turn.verdict is not None, "a finished episode is judged"
        response_ids = token_ids[turn.start : turn.end]
        return TurnContext(
            problem=problem,
            verdict=turn.verdict,
            response=turn.response,
            token_ids=response_ids,
            token_offsets=token_offsets(self._tokenizer, response_ids) if self._needs.token_offsets else [],
            token_start=turn.start,
            program_start=program.start if program else None,
            program_end=program.end if program else None,
            truncated=turn.finish_reason == "length",
            turn=number,
            final=number == len(episode.turns) - 1,
            findings=await self._lint(problem, program),
        )

    async def _generate(self, token_ids: list[int], sampling: SamplingSettings) -> Completion:
        self._generating += 1
        try:
            return await self.engine.generate(token_ids, sampling)
        finally:
            self._generating -= 1

    async def _lint(self, problem: Problem, program: Program | None) -> list[Finding]:
        if self._linter is None or program is None or problem.language != "python":
            return []
        return await self._linter.check(program.text)

    async def _judge(
        self, problem: Problem, program: str | None, tests: Tests, index: int, executed_lines: bool
    ) -> Verdict:
        if program is None:
            return no_code(problem.id, len(_tests(problem, tests)), index)
        if self._pool is None:
            raise RuntimeError("start() has not been called")
        self._judging += 1
        try:
            return await self._pool.judge(
                JudgeRequest(problem, program, tests=tests, index=index, executed_lines=executed_lines)
            )
        finally:
            self._judging -= 1

    async def evaluate(self, problems: list[Problem], samples: int, sampling: SamplingSettings) -> Evaluation:
        """Sample every problem `samples` times and count passes. Raises RuntimeError if the weights change meanwhile."""
        version = self.engine.policy_version
        prompts = {problem.id: self._prompt(problem) for problem in problems}

        async def attempt(problem: Problem, index: int) -> Episode | Verdict:
            player = self._player(sampling, f"evaluation of {problem.id}", index, evaluating=True)
            return await play(problem, prompts[problem.id], self._settings.rules, player)

        # Twice what the engine takes, so that it is full while others are judged.
        evaluation = await evaluate(problems, samples, attempt, version, 2 * self._settings.engine.max_sequences)
        if self.engine.policy_version != version:
            raise RuntimeError("the weights changed during an evaluation")
        return evaluation

    async def update_weights(self, source: dict[str, str], policy_version: int, carried: Sequence[Any] = ()) -> float:
        """Hand new weights to the engine; returns the seconds it stood still.

        `carried`: where the source lies on another machine, a reference to its bytes.
        """
        for reference in carried:
            self._landed = self._landed or WeightsFiles()
            path = await asyncio.to_thread(self._landed.add, policy_version, (await reference).tofile)
            source = {"path": str(path)}
        return await self.engine.update_weights(source, policy_version)

    async def sleep(self) -> None:
        """Have the engine give its memory back until `wake` or new weights."""
        await self.engine.sleep()

    async def wake(self) -> None:
        """Have the engine go on."""
        await self.engine.wake()

    async def place(self) -> tuple[str, int]:
        """Ray's node and the process that this is in."""
        return place()

    async def score(self, probe: list[list[int]]) -> list[list[float]]:
        """Log-probabilities of the probe's tokens after the first under the engine's weights."""
        return list(await asyncio.gather(*(self.engine.score(token_ids) for token_ids in probe)))

    async def probe(self, problems: list[str], max_tokens: int) -> list[list[int]]:
        """Token sequences to compare learner and engine on: bare prompts with the engine's own greedy answers."""
        sampling = SamplingSettings(temperature=0.0, top_p=1.0, max_tokens=max_tokens)
        prompts = [prompt_ids(self._tokenizer, self._problems[name]) for name in problems]
        completions = await asyncio.gather(*(self._generate(prompt, sampling) for prompt in prompts))
        return [prompt + completion.token_ids for prompt, completion in zip(prompts, completions, strict=True)]

    async def gauges(self) -> dict[str, float]:
        """Counters and levels for the metrics, and what the actor is waiting for."""
        return {
            **self.engine.gauges(),
            **(self._pool.gauges() if self._pool is not None else {}),
            "groups": float(self._counts["groups"]),
            "episodes": float(self._counts["episodes"]),
            "context_full": float(self._counts["context_full"]),
            "infrastructure": float(self._counts["infrastructure"]),
            **({"linter_failures": float(self._linter.failures)} if self._linter is not None else {}),
            "groups_under_way": float(len(self._tasks)),
            "generating": float(self._generating),
            "judging": float(self._judging),
            "loop_lag_seconds": self._lag.worst(),
            "policy_version": float(self.engine.policy_version),
        }

    async def stop(self) -> None:
        """End the engine's processes; the actor is of no use afterwards."""
        self._lag.stop()
        if self._linter is not None:
            self._linter.close()
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
        if self._engine is not None:
            await self._engine.shutdown()
            self._engine = None
        if self._landed is not None:
            self._landed.close()


def _tests(problem: Problem, which: Tests) -> list[Any]:
    chosen = {"public": problem.public_tests, "private": problem.private_tests}
    return chosen.get(which, [*problem.public_tests, *problem.private_tests])

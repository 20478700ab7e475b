"""New weights from the learner to every engine, and the proof that they arrived.

Invariants: whatever the learner hands out is scored by it on the probe at that moment, and by every engine afterwards; an engine that does not hold the
learner's weights ends the run; a lost rollout actor is replaced meanwhile, which the waits allow for.
"""

from __future__ import annotations

from cluster.actors import House
from cluster.probe import ProbeResult, compare
from cluster.rollouts import RolloutActors
from cluster.turns import Turns
from cluster.waiting import Waiting, bounded
from executor.errors import UserError

PROBE_PROBLEMS = 2
PROBE_TOKENS = 32
PROBE_S = 300.0

Scores = list[list[float]]


class Broadcast:
    """From the learner of `house` to the engines of its rollout actors."""

    def __init__(self, house: House, rollouts: RolloutActors, turns: Turns, waiting: Waiting) -> None:
        self._house = house
        self._rollouts = rollouts
        self._turns = turns
        self._waiting = waiting
        self._timeout_s = house.config.weights.timeout_s
        self._engines_s = self._timeout_s + house.config.engine.start_timeout_s
        self._probe: list[list[int]] = []
        self._learner: Scores = []
        self._proven: tuple[Scores, dict[int, Scores]] | None = None

    @property
    def proven(self) -> bool:
        """Whether engines have ever been seen to hold the learner's weights: the start is over."""
        return self._proven is not None

    async def hand_out(self, policy_version: int) -> None:
        """The learner's weights for every engine."""
        source = await bounded(
            self._house.learner.publish.remote(policy_version), "the learner's weights", self._timeout_s
        )
        await self._score()
        await self._turns.engines()
        sending = self._rollouts.send(source, policy_version)
        await self._waiting.all(sending, self._engines_s, stoppable=False)

    async def keep(self) -> None:
        """No new weights: engines that slept go on with those that they have."""
        if self._turns.shared:
            await self._turns.engines()
            await self._waiting.all(self._rollouts.wake(), self._engines_s, stoppable=False)

    async def prove_first(self, policy_version: int) -> None:
        """Choose what the probe scores, and score it for the first time. Raises as `prove` does."""
        ids = [problem.id for problem in self._house.problems[:PROBE_PROBLEMS]]
        probe = self._rollouts.ask_first(lambda actor: actor.probe.remote(ids, PROBE_TOKENS))
        self._probe = await self._waiting.one(probe, "a probe batch", PROBE_S)
        await self._score()
        await self.keep()
        await self.prove(policy_version)

    async def _score(self) -> None:
        if self._probe:
            await self._turns.learner()
            score = self._house.learner.score.remote(self._probe)
            self._learner = await bounded(score, "the learner's probe", self._timeout_s)

    async def prove(self, policy_version: int) -> ProbeResult:
        """Compare the learner and the engines on the probe. Raises UserError if an engine does not hold the learner's weights."""
        numbers = self._rollouts.numbers
        asked = self._rollouts.ask("the probe of rollout actor", lambda _, actor: actor.score.remote(self._probe))
        answers = await self._waiting.all(asked, self._engines_s, stoppable=False)
        before, learner, engines = self._proven, self._learner, dict(zip(numbers, answers, strict=True))
        results = []
        for number, engine in engines.items():
            earlier = before[1].get(number) if before else None
            results.append(compare(learner, engine, before[0] if before and earlier else None, earlier))
            if complaint := results[-1].complaint(self._house.config.weights.probe_tolerance):
                raise UserError(
                    f"rollout actor {number} does not hold the learner's weights (policy version {policy_version}): {complaint}"
                )
        self._proven = (learner, engines)
        return max(results, key=lambda result: result.mean_difference)

"""The held-out problems of a run: evaluated before training, now and then while it goes on, and after; what two evaluations say about training.

Invariants: an evaluation begins and ends under the same weights, so a broadcast waits for it; what is in a file of the run folder is not done
again by a run that is resumed; the best step is the one of the highest pass rate, the latest of equals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from actors.engine.protocol import SamplingSettings
from actors.evaluation import Evaluation
from cluster.config import Config
from cluster.rollouts import RolloutActors
from cluster.run_folder import RunFolder
from cluster.statistics import paired_difference
from cluster.waiting import Waiting
from executor.problem import Problem

BEST = "best.json"
LONGEST_S = 3600.0


def summarise(before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Pass@1 before and after and the 95 % interval of their paired difference, over the problems that both have samples of: the form of
    summary.json's `held_out`.
    """
    shared = sorted(set(before.samples) & set(after.samples))
    first = [(before.passed[p], before.samples[p]) for p in shared]
    second = [(after.passed[p], after.samples[p]) for p in shared]
    difference, low, high = paired_difference(first, second)
    return {
        "before": sum(passed / samples for passed, samples in first) / len(shared),
        "after": sum(passed / samples for passed, samples in second) / len(shared),
        "difference": difference,
        "low": low,
        "high": high,
        "problems": len(shared),
        "samples": min(samples for _, samples in [*first, *second]),
    }


class HeldOut:
    """One evaluation at a time, beside the training or instead of it."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        problems: list[Problem],
        rollouts: RolloutActors,
        waiting: Waiting,
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self.problems = problems
        self._rollouts = rollouts
        self._waiting = waiting
        self._say = say
        self._running: asyncio.Task[None] | None = None
        self._news: dict[str, float] = {}
        self.before: Evaluation | None = None

    def begin(self, step: int) -> None:
        """Evaluate the policy of `step`, as far as that is asked for and not done; training goes on meanwhile."""
        settings = self._config.evaluation
        wanted = settings.before if step == 0 else settings.every > 0 and step % settings.every == 0
        if self.problems and wanted and step < max(1, self._config.run.steps):
            self._running = asyncio.create_task(self._evaluate_while_training(step))

    def read_before(self) -> None:
        """Take up the evaluation before training of a run that is resumed after it."""
        saved = self._folder.read_json("evaluation_before.json")
        if saved is not None:
            self.before = Evaluation(**saved)
        elif self.problems and self._config.evaluation.before:
            self._say("the run was stopped before its first evaluation ended: there will be nothing to compare with")

    async def settle(self) -> None:
        """Wait until no evaluation is under way; raises what broke it."""
        if self._running is not None:
            await self._running
            self._running = None

    def cancel(self) -> list[asyncio.Task[None]]:
        """Give up; what is cancelled."""
        if self._running is None:
            return []
        self._running.cancel()
        return [self._running]

    def news(self) -> dict[str, float]:
        """Metrics of what was evaluated since the last call."""
        news, self._news = self._news, {}
        return news

    @property
    def best_step(self) -> int | None:
        """The step whose policy passed most; None if none was evaluated."""
        best = self._folder.read_json(BEST)
        return best["step"] if isinstance(best, dict) else None

    async def _evaluate_while_training(self, step: int) -> None:
        name = "before" if step == 0 else f"step_{step}"
        if (saved := self._folder.read_json(f"evaluation_{name}.json")) is not None:
            evaluation = Evaluation(**saved)
        else:
            evaluation = await self.evaluate(name, "before training" if step == 0 else f"at step {step}")
        if step == 0:
            self.before = evaluation
        else:
            self._rank(step, evaluation)
        metrics = {"held_out_pass_rate": evaluation.pass_rate, "held_out_step": float(step)}
        self._news = metrics

    def _rank(self, step: int, evaluation: Evaluation) -> None:
        best = self._folder.read_json(BEST)
        if not isinstance(best, dict) or evaluation.pass_rate >= best["pass_rate"]:
            self._folder.write_json(BEST, {"step": step, "pass_rate": evaluation.pass_rate})

    async def evaluate(self, name: str, when: str) -> Evaluation:
        """Sample all of them now; the result is in `evaluation_NAME.json`."""
        settings = self._config.evaluation
        sampling = SamplingSettings(settings.temperature, settings.top_p, self._config.rollout.max_response_tokens)
        numbers = self._rollouts.numbers
        shares = {number: self.problems[i :: len(numbers)] for i, number in enumerate(numbers)}
        asked = self._rollouts.ask(
            f"evaluation {when}, rollout actor",
            lambda number, actor: actor.evaluate.remote(shares[number], settings.samples, sampling),
        )
        whole, *parts = await self._waiting.all(asked, LONGEST_S)
        for part in parts:
            whole.merge(part)
        self._folder.write_json(f"evaluation_{name}.json", vars(whole))
        self._say(
            f"held-out pass@1 {when}: {whole.pass_rate:.3f} ({len(whole.samples)} problems, {whole.seconds:.0f} s)"
        )
        return whole

    async def after(self, step: int) -> Evaluation | None:
        """The last one."""
        if not self.problems:
            return None
        evaluation = await self.evaluate("after", "after training")
        self._rank(step, evaluation)
        return evaluation

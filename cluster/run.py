"""The controller: one loop from problems to a better policy.

Synchronous training is this loop with `weights.max_staleness` 0; nothing here knows the difference, because the buffer bounds staleness by the work it hands
out. Invariants: every wait is bounded and says what it waits for; an engine that does not hold the learner's weights stops the run; a stop, asked for
or forced by an error that a person can mend, leaves a checkpoint to resume from; metrics have one line a step, resumed or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.engine.protocol import SamplingSettings
from actors.evaluation import Evaluation
from cluster import machine
from cluster.actors import House, connect
from cluster.chosen_problems import chosen_problems
from cluster.config import Config, dump_config
from cluster.dashboards.terminal import View
from cluster.held_out import summarise
from cluster.metrics import MetricsWriter
from cluster.model_source import resolve as resolve_model
from cluster.probe import ProbeResult, compare
from cluster.report.page import write_report
from cluster.run_folder import RunFolder
from executor.errors import UserError
from executor.problem import Problem
from learner import checkpoint

log = logging.getLogger("cupel")

HEARTBEAT_S = 2.0
WAIT_S = 5.0
STOP_S = 25.0
PROBE_PROBLEMS = 2
PROBE_TOKENS = 32
ROLLOUT_RESTARTS = 3

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked the run to end."""


def train(config: Config, resume: Path | None = None) -> int:
    """Run `config` to its end, or go on with the run in `resume`. Returns the exit code. Raises UserError for a person's mistake."""
    problems, held_out = chosen_problems(config)
    model = resolve_model(config.model.name, config.model.cache)
    machine.check(config, model)
    folder = RunFolder.open(resume) if resume else RunFolder.create(config.run.directory, config.run.name)
    with folder.locked():
        # Overrides given on resume are kept too; a summary of an earlier stop is no longer true.
        folder.write_text("config.yaml", dump_config(config))
        (folder.path / "summary.json").unlink(missing_ok=True)
        folder.log_to_file()
        return asyncio.run(Controller(config, folder, model, problems, held_out, resumed=resume is not None).run())


class Controller:
    """One run."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        model: Path,
        problems: list[Problem],
        held_out: list[Problem],
        *,
        resumed: bool,
    ) -> None:
        self._config = config
        self._folder = folder
        self._held_out = held_out
        self._checkpoint = folder.latest_checkpoint() if resumed else None
        self._record: dict[str, Any] = {}
        self._buffer_state: bytes | None = None
        if self._checkpoint is not None:
            self._record, self._buffer_state = checkpoint.load_record(self._checkpoint)
        self._step = int(self._record.get("step", 0))
        # A stop between a step and its broadcast leaves the record one version behind what the steps amount to.
        self._version = max(int(self._record.get("policy_version", 0)), self._step // config.weights.broadcast_every)
        self._seconds_before = float(self._record.get("seconds", 0.0))
        self._before: Evaluation | None = None
        self._started = time.monotonic()
        self._house = House(config, self._checkpoint or model, problems, folder.path)
        self._metrics = MetricsWriter(folder.path, resume_step=self._step if resumed else None)
        self._view = View(config.run.steps)
        self._stop = asyncio.Event()
        self._runs: dict[asyncio.Task[None], int] = {}
        self._evaluating: asyncio.Task[None] | None = None
        self._restarts = 0
        self._source: dict[str, str] | None = None
        self._probe: list[list[int]] = []
        self._probe_scores: tuple[list[list[float]], list[list[list[float]]]] | None = None
        self._last_counts: dict[str, float] = {}
        self._last_time = time.monotonic()

    # The whole of a run ---------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start everything, train, evaluate, end everything."""
        self._view.start()
        status = "failed"
        try:
            self._say(f"run folder {self._folder.path}")
            # In this thread, and before our own signal handlers, which Ray's would replace.
            connect(self._config)
            loop = asyncio.get_running_loop()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(name, self._ask_to_stop)
            try:
                await self._start()
                await self._start_rollouts()
                self._evaluating = asyncio.create_task(self._evaluate_before())
                while self._step < self._config.run.steps:
                    await self._train_step()
                await self._evaluating
                if self._step % self._config.weights.broadcast_every:
                    await self._broadcast()
                await self._house.buffer.close.remote()
                await self._end_rollouts()
                after = await self._evaluate("after")
                if self._record.get("checkpoint_step") != self._step:
                    await self._save()
                status = "finished"
            except Stopped:
                after = None
                await self._stop_cleanly()
                status = "stopped"
            self._finish(status, after)
            return 0 if status == "finished" else 130
        except (RayActorError, RayTaskError) as error:
            raise UserError(self._explain(error)) from error
        finally:
            if status == "failed":
                with contextlib.suppress(OSError):
                    self._folder.write_json(
                        "summary.json", {"status": "failed", "steps": self._step, "seconds": self._seconds()}
                    )
            self._view.close()
            self._metrics.close()
            await self._shutdown()

    def _ask_to_stop(self) -> None:
        if self._stop.is_set():
            return
        self._view.say("stopping after a checkpoint")
        self._stop.set()

    async def _start(self) -> None:
        self._house.build(self._version, self._checkpoint)
        await self._wait(self._house.rollouts[0].check_prompts.remote(self._held_out), "the lengths of prompts", 300)
        starting = {
            f"rollout actor {i} (starting vLLM)": actor.start.remote() for i, actor in enumerate(self._house.rollouts)
        }
        starting["learner"] = self._house.learner.ready.remote()
        starting["buffer"] = self._house.buffer.gauges.remote()
        starting |= {f"executor {i}": actor.ping.remote() for i, actor in enumerate(self._house.executors)}
        await self._all(starting, self._config.engine.start_timeout_s)
        if self._buffer_state is not None:
            await self._house.buffer.load.remote(self._buffer_state)
            await self._house.buffer.advance.remote(self._version)
        ids = [problem.id for problem in self._house.problems[:PROBE_PROBLEMS]]
        self._probe = await self._wait(self._house.rollouts[0].probe.remote(ids, PROBE_TOKENS), "a probe batch", 300)
        await self._check_weights()
        self._say(f"ready after {time.monotonic() - self._started:.0f} s")

    # Training -------------------------------------------------------------------------------------------------------

    async def _train_step(self) -> None:
        started = time.monotonic()
        while not await self._wait(self._house.buffer.wait_ready.remote(WAIT_S), "groups from the buffer", WAIT_S + 60):
            self._view.update({"learner": f"waits for groups: {await self._house.buffer.waiting_for.remote()}"})
        waited = time.monotonic() - started
        step = self._step + 1
        metrics = await self._learn(step)
        try:
            if step % self._config.weights.broadcast_every == 0:
                metrics |= await self._broadcast()
        finally:
            # A step that is done has its line, also where a stop comes before its weights are out.
            metrics |= await self._rates()
            metrics |= {
                "step": step,
                "policy_version": self._version,
                "wait_seconds": waited,
                "seconds": self._seconds(),
            }
            self._metrics.write(metrics)
            self._view.step(metrics)
        if step % self._config.run.checkpoint_every == 0 or step == self._config.run.steps:
            await self._save()

    async def _learn(self, step: int) -> dict[str, float]:
        """One learner step. A stop gives it up and puts its batch back, unless it is too far to be given up: then it counts."""
        batch = self._house.buffer.take.remote()
        future = _future(self._house.learner.step.remote(step, batch, self._version))
        try:
            metrics = await self._wait(future, f"learner step {step}", self._config.learner.step_timeout_s)
        except Stopped:
            await self._house.learner.abort.remote()
            metrics = await self._bounded(future, f"the end of learner step {step}", STOP_S)
        if metrics is None:
            await self._house.buffer.untake.remote()
            raise Stopped
        await self._house.buffer.commit.remote()
        self._step = step
        return metrics

    async def _broadcast(self) -> dict[str, float]:
        """Give every engine the learner's weights as a new policy version and prove that they arrived."""
        if self._evaluating is not None:
            await self._evaluating  # it must end under the weights that it began with
        version = self._version + 1
        started = time.monotonic()
        self._source = await self._bounded(
            self._house.learner.publish.remote(version), "the learner's weights", self._config.weights.timeout_s
        )
        await self._all(
            {
                f"weights on rollout actor {i}": a.update_weights.remote(self._source, version)
                for i, a in enumerate(self._house.rollouts)
            },
            self._config.weights.timeout_s,
            stoppable=False,
        )
        self._version = version
        await self._house.buffer.advance.remote(version)
        seconds = time.monotonic() - started
        result = await self._check_weights()
        metrics = {"broadcast_seconds": seconds, "probe_seconds": time.monotonic() - started - seconds}
        metrics["probe_difference"] = result.mean_difference
        if result.slope is not None:
            metrics["probe_slope"] = result.slope
        return metrics

    async def _check_weights(self) -> ProbeResult:
        """Compare learner and engines on the probe. Raises UserError if an engine does not hold the learner's weights."""
        learner, *engines = await self._all(
            {
                "the learner's probe": self._house.learner.score.remote(self._probe),
                **{
                    f"the probe of rollout actor {i}": a.score.remote(self._probe)
                    for i, a in enumerate(self._house.rollouts)
                },
            },
            self._config.weights.timeout_s,
            stoppable=False,
        )
        worst: ProbeResult | None = None
        for index, engine in enumerate(engines):
            before = self._probe_scores
            known = before is not None and index < len(before[1])
            result = compare(learner, engine, before[0] if known else None, before[1][index] if known else None)  # type: ignore[index]
            complaint = result.complaint(self._config.weights.probe_tolerance)
            if complaint:
                raise UserError(
                    f"rollout actor {index} does not hold the learner's weights (policy version {self._version}): {complaint}"
                )
            if worst is None or result.mean_difference > worst.mean_difference:
                worst = result
        self._probe_scores = (learner, engines)
        assert worst is not None
        return worst

    async def _save(self) -> None:
        state = await self._house.buffer.state.remote()
        record = {
            "step": self._step,
            "policy_version": self._version,
            "seconds": self._seconds(),
            "checkpoint_step": self._step,
        }
        path = await self._bounded(self._house.learner.save.remote(self._step, state, record), "checkpoint", 600)
        self._record = record
        self._say(f"checkpoint {path}")

    async def _stop_cleanly(self) -> None:
        """Leave a checkpoint of what is done; before the start is over there is nothing new to keep."""
        if not self._probe:
            return
        self._view.update({"controller": "writing a checkpoint"})
        if self._record.get("checkpoint_step") != self._step:
            await self._save()

    # Rollout actors -------------------------------------------------------------------------------------------------

    async def _start_rollouts(self) -> None:
        """Let all of them work, and see that they have begun: the evaluation's many requests queue up behind the first groups."""
        for index, actor in enumerate(self._house.rollouts):
            self._watch(index, actor)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and self._step < self._config.run.steps:
            if all(
                gauges["groups_under_way"]
                for gauges in await self._gather([a.gauges.remote() for a in self._house.rollouts])
            ):
                return
            await asyncio.sleep(0.1)

    def _watch(self, index: int, actor: Any) -> None:
        async def run() -> None:
            await actor.run.remote()

        self._runs[asyncio.create_task(run())] = index

    async def _replace_lost(self) -> None:
        """Put a fresh actor in the place of one that ended with an error; its work goes back to the buffer."""
        for task in [t for t in self._runs if t.done()]:
            index = self._runs.pop(task)
            error = task.exception()
            if error is None:
                continue
            self._restarts += 1
            if self._restarts > ROLLOUT_RESTARTS:
                raise error
            self._say(f"rollout actor {index} was lost ({self._explain(error)}); a fresh one takes its place")
            with contextlib.suppress(Exception):
                ray.kill(self._house.rollouts[index])
            await self._house.buffer.release.remote(self._house.names[index])
            actor = self._house.rollouts[index] = self._house.start_rollout(index, self._version)
            self._probe_scores = None
            await self._bounded(
                actor.start.remote(), f"rollout actor {index} (starting vLLM)", self._config.engine.start_timeout_s
            )
            if self._source is not None:
                await self._bounded(
                    actor.update_weights.remote(self._source, self._version),
                    "its weights",
                    self._config.weights.timeout_s,
                )
            self._watch(index, actor)

    async def _end_rollouts(self) -> None:
        if self._runs:
            await asyncio.wait(self._runs, timeout=60)
        self._runs.clear()

    # Evaluation -----------------------------------------------------------------------------------------------------

    async def _evaluate_before(self) -> None:
        if not self._held_out:
            return
        saved = self._folder.read_json("evaluation_before.json")
        if saved is not None:
            self._before = Evaluation(**saved)
        elif self._step == 0:
            self._before = await self._evaluate("before")

    async def _evaluate(self, label: str) -> Evaluation | None:
        if not self._held_out:
            return None
        settings = self._config.evaluation
        sampling = SamplingSettings(settings.temperature, settings.top_p, self._config.rollout.max_response_tokens)
        count = len(self._house.rollouts)
        parts = await self._all(
            {
                f"evaluation {label}, rollout actor {i}": actor.evaluate.remote(
                    self._held_out[i::count], settings.samples, sampling
                )
                for i, actor in enumerate(self._house.rollouts)
            },
            3600,
        )
        whole: Evaluation = parts[0]
        for part in parts[1:]:
            whole.merge(part)
        self._folder.write_json(f"evaluation_{label}.json", vars(whole))
        self._say(
            f"held-out pass@1 {label} training: {whole.pass_rate:.3f} ({len(whole.samples)} problems, {whole.seconds:.0f} s)"
        )
        return whole

    # Waiting --------------------------------------------------------------------------------------------------------

    async def _wait(self, awaitable: Awaitable[T], what: str, timeout_s: float) -> T:
        """Await one answer, with heartbeats, replacing lost rollout actors. Raises Stopped, or UserError after `timeout_s`."""
        (result,) = await self._all({what: awaitable}, timeout_s)
        return result

    async def _bounded(self, awaitable: Awaitable[T], what: str, timeout_s: float) -> T:
        """Await one answer that even a stop waits for."""
        try:
            return await asyncio.wait_for(_future(awaitable), timeout_s)
        except TimeoutError:
            raise UserError(f"gave up waiting for {what} after {timeout_s:.0f} s") from None

    async def _all(
        self, awaitables: dict[str, Awaitable[Any]], timeout_s: float, *, stoppable: bool = True
    ) -> list[Any]:
        futures = {_future(awaitable): what for what, awaitable in awaitables.items()}
        started = time.monotonic()
        pending = set(futures)
        stop = {asyncio.ensure_future(self._stop.wait())} if stoppable else set()
        try:
            while pending:
                done, _ = await asyncio.wait(
                    {*pending, *stop}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
                )
                if done & stop:
                    raise Stopped
                for future in done:
                    future.result()
                pending -= done
                replacing = time.monotonic()
                await self._replace_lost()
                started += time.monotonic() - replacing  # the others could not be looked at meanwhile
                waiting = ", ".join(futures[future] for future in pending)
                self._heartbeat(waiting, started)
                if pending and time.monotonic() - started > timeout_s:
                    raise UserError(f"gave up after {timeout_s:.0f} s waiting for: {waiting}")
        finally:
            for future in stop:
                future.cancel()
        return [future.result() for future in futures]

    def _heartbeat(self, what: str, started: float) -> None:
        if not what:
            return
        waiting = f"{what} ({time.monotonic() - started:.0f} s)"
        state: dict[str, Any] = {"controller": waiting, "step": self._step, "policy_version": self._version}
        self._view.update(state)
        self._folder.heartbeat({**state, "steps": self._config.run.steps, "seconds": self._seconds()})

    # Numbers --------------------------------------------------------------------------------------------------------

    async def _rates(self) -> dict[str, float]:
        """Tokens and executions a second since the last step, over all actors."""
        rollouts = await self._gather([a.gauges.remote() for a in self._house.rollouts])
        executors = await self._gather([a.gauges.remote() for a in self._house.executors])
        counts = {
            "tokens": sum(g.get("generated_tokens", 0.0) for g in rollouts),
            "executions": sum(g.get("executions", 0.0) for g in executors),
            "infrastructure": sum(g.get("infrastructure", 0.0) for g in rollouts),
        }
        now = time.monotonic()
        elapsed = max(now - self._last_time, 1e-9)
        rates = {
            f"{name}_per_second": max(0.0, counts[name] - self._last_counts.get(name, 0.0)) / elapsed
            for name in ("tokens", "executions")
        }
        self._last_counts, self._last_time = counts, now
        buffer = await self._house.buffer.gauges.remote()
        self._view.update(
            {
                "rollout": f"{sum(g.get('generating', 0) for g in rollouts):.0f} generating",
                "executor": f"{sum(g.get('judging', 0) for g in rollouts):.0f} being judged",
                "buffer": f"{buffer.get('ready', 0):.0f} groups ready, {buffer.get('outstanding', 0):.0f} under way",
            }
        )
        return {
            **rates,
            "infrastructure": counts["infrastructure"],
            "buffer_ready": float(buffer.get("ready", 0.0)),
            "buffer_outstanding": float(buffer.get("outstanding", 0.0)),
        }

    async def _gather(self, references: list[Any]) -> list[dict[str, float]]:
        """Answers of the actors that live; a metric is no reason to end a run."""
        answers = await asyncio.gather(*(asyncio.wait_for(_future(r), 10) for r in references), return_exceptions=True)
        return [answer for answer in answers if isinstance(answer, dict)]

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    # The end --------------------------------------------------------------------------------------------------------

    def _finish(self, status: str, after: Evaluation | None) -> None:
        summary: dict[str, Any] = {"status": status, "steps": self._step, "seconds": round(self._seconds(), 1)}
        if self._before is not None and after is not None:
            summary["held_out"] = summarise(self._before, after)
        self._folder.write_json("summary.json", summary)
        write_report(self._folder.path)
        if "held_out" in summary:
            h = summary["held_out"]
            self._say(
                f"held-out pass@1 before {h['before']:.3f}, after {h['after']:.3f} ({h['problems']} problems x {h['samples']} samples)"
            )
            self._say(f"difference {h['difference']:+.3f}, 95 % interval [{h['low']:+.3f}, {h['high']:+.3f}]")
        if status == "stopped":
            self._say(f"stopped at step {self._step}; go on with: cupel train --resume {self._folder.path}")
        else:
            self._say(
                f"finished {self._step} steps in {self._seconds():.0f} s; open {self._folder.path / 'report.html'}"
            )

    async def _shutdown(self) -> None:
        """End every process of the run, politely where there is time."""
        house = self._house
        if not ray.is_initialized():
            return
        endings = [actor.stop.remote() for actor in house.rollouts]
        if house.learner is not None:
            endings.append(house.learner.close.remote())
        futures = [_future(e) for e in endings]
        if futures:
            await asyncio.wait(futures, timeout=10)
        tasks = [*self._runs, *([self._evaluating] if self._evaluating else [])]
        for task in tasks:
            task.cancel()
        for future in [*futures, *tasks]:
            if future.done() and not future.cancelled():
                future.exception()
        ray.shutdown()

    def _say(self, text: str) -> None:
        log.info(text)
        self._view.say(text)

    @staticmethod
    def _explain(error: BaseException) -> str:
        """One line on what broke."""
        cause = (
            error.cause
            if isinstance(error, RayTaskError) and isinstance(getattr(error, "cause", None), Exception)
            else error
        )
        lines = [line for line in str(cause).strip().splitlines() if line.strip()]
        message = lines[-1].strip() if lines else "no message"
        return message if isinstance(cause, UserError) else f"{type(cause).__name__}: {message}"[:400]


def _future(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    async def wait() -> T:
        return await awaitable

    return asyncio.ensure_future(wait())

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
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from actors.evaluation import Evaluation
from cluster import machine
from cluster.actors import House, connect
from cluster.attendants import Attendants
from cluster.broadcast import Broadcast
from cluster.checkpoints import Checkpoints
from cluster.chosen_problems import chosen_problems, with_fitting_prompts
from cluster.config import Config, dump_config
from cluster.dashboards.terminal import View
from cluster.exporting import Exporter
from cluster.held_out import HeldOut, summarise
from cluster.metrics import MetricsWriter
from cluster.mirror import check as check_mirror
from cluster.model_fit import check as check_model
from cluster.model_source import resolve as resolve_model
from cluster.rates import Rates, gauges
from cluster.report.page import write_report
from cluster.rollouts import RolloutActors
from cluster.run_folder import RunFolder
from cluster.supervision import restarted, tell_run_folder
from cluster.trackers.base import check as check_trackers
from cluster.turns import Turns
from cluster.waiting import GaveUp, Stopped, Waiting, as_future, bounded, explain, first
from executor.errors import RunLost, UserError
from executor.problem import Problem
from learner import checkpoint

log = logging.getLogger("cupel")

POLL_S = 5.0
BUFFER_TIMEOUT_S = 60.0
STOP_S = 25.0


def train(config: Config, resume: Path | None = None) -> int:
    """Run `config` to its end, or go on with the run in `resume`. Returns the exit code. Raises UserError for a person's mistake."""
    problems, held_out = chosen_problems(config)
    model = resolve_model(config.model.name, config.model.cache)
    problems, held_out = with_fitting_prompts(config, model, problems, held_out)
    check_model(config, model)  # what cannot be is told here, not by an actor minutes later
    machine.check(config, model)
    check_trackers(config.run.trackers)
    check_mirror(config.run.mirror)
    folder = RunFolder.open(resume) if resume else RunFolder.create(config.run.directory, config.run.name)
    tell_run_folder(folder.path)
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
        self._checkpoint = folder.latest_checkpoint() if resumed else None
        record: dict[str, Any] = {}
        self._buffer_state: bytes | None = None
        if self._checkpoint is not None:
            record, self._buffer_state = checkpoint.load_record(self._checkpoint)
        self._step = int(record.get("step", 0))
        # A stop between a step and its broadcast leaves the record one version behind what the steps amount to.
        self._version = max(int(record.get("policy_version", 0)), self._step // config.weights.broadcast_every)
        self._seconds_before = float(record.get("seconds", 0.0))
        self._started = time.monotonic()
        self._waiting = Waiting(self._beat)
        self._house = House(config, model, problems, folder.path)
        self._rollouts = RolloutActors(self._house, self._say)
        self._attendants = Attendants(
            config, folder, self._house, self._rollouts, lambda: self._learning, self._ask_to_stop, self._say
        )
        self._held_out = HeldOut(config, folder, held_out, self._rollouts, self._waiting, self._say)
        self._turns = Turns(self._house, self._rollouts)
        self._weights = Broadcast(self._house, self._rollouts, self._turns, self._waiting)
        self._checkpoints = Checkpoints(self._house, record, self._say)
        self._rates = Rates(self._house)
        self._metrics = MetricsWriter(
            folder.path,
            resume_step=self._step if resumed else None,
            trackers=["tensorboard", *config.run.trackers],
            config=config.model_dump(mode="json"),
        )
        self._exporter = Exporter(folder.path.name, config)
        self._view = View(config.run.steps)
        self._learning: int | None = None  # the step that the learner works on

    # The whole of a run ---------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Start everything, train, evaluate, end everything."""
        self._view.start()
        status = "failed"
        try:
            self._say(f"run folder {self._folder.path}")
            # In this thread, and before our own signal handlers, which Ray's would replace.
            connect(self._config)
            self._exporter.start()
            loop = asyncio.get_running_loop()
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(name, self._ask_to_stop)
            try:
                await self._start()
                await self._start_rollouts()
                self._attendants.start()
                if self._step:
                    self._held_out.read_before()
                self._held_out.begin(self._step)
                while self._step < self._config.run.steps:
                    await self._train_step()
                await self._held_out.settle()
                if self._step % self._config.weights.broadcast_every:
                    await self._broadcast()
                await self._ask_buffer("close")
                if not await self._rollouts.served(BUFFER_TIMEOUT_S):
                    log.warning("rollout actors still work on groups that nobody waits for")
                after = await self._held_out.after(self._step)
                await self._save()
                await self._checkpoints.settle()
                status = "finished"
            except Stopped:
                after = None
                await self._stop_cleanly()
                status = "stopped"
            self._finish(status, after)
            await self._checkpoints.copied()
            return 0 if status == "finished" else 130
        except RayActorError as error:
            raise self._lost(error) from error
        except OutOfMemoryError as error:
            raise RunLost(
                "Ray ended processes of the run because this machine's memory was nearly full (theirs, or that of others); "
                f"a smaller learner.micro_batch_tokens or engine.kv_cache_gib would do{self._going_on()}"
            ) from error
        except RayTaskError as error:
            raise UserError(explain(error)) from error
        except RayError as error:
            raise RunLost(f"Ray itself failed: {explain(error)}{self._going_on()}") from error
        except GaveUp as error:
            if not self._weights.proven:  # what does not start would not start the next time either
                raise
            raise RunLost(f"{error}{self._going_on()}") from error
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
        if self._waiting.stop.is_set():
            return
        self._view.say("stopping after a checkpoint")
        self._waiting.stop.set()

    def _lost(self, error: RayActorError) -> UserError:
        """What is said of an actor that is not replaced: learner and buffer live on in the checkpoint."""
        role = self._house.role_of(error.actor_id)
        if error.actor_init_failed:
            return UserError(f"the {role} could not start: {explain(error)}")
        return RunLost(f"the {role}'s process died (killed, or out of memory){self._going_on()}")

    def _going_on(self) -> str:
        """How to go on, where there is something to go on from."""
        return (
            f"; cupel train --resume {self._folder.path} goes on from the last checkpoint"
            if self._checkpoints.record
            else ""
        )

    async def _start(self) -> None:
        await self._waiting.all(self._house.reserve(), self._config.engine.start_timeout_s, say=self._say)
        self._house.build(self._version, self._checkpoint)
        await self._waiting.one(
            self._house.rollouts[0].check_prompts.remote(self._held_out.problems), "the lengths of prompts", 300
        )
        starting = self._rollouts.starting(self._version)
        starting["learner"] = self._house.learner.ready.remote()
        starting["buffer"] = self._house.buffer.gauges.remote()
        # One executor worker is enough to begin with; the others join as they come.
        starting["an executor worker"] = first([actor.ping.remote() for actor in self._house.executors.values()])
        await self._waiting.all(starting, self._config.engine.start_timeout_s, say=self._say)
        node, _ = await bounded(self._house.learner.place.remote(), "the learner", BUFFER_TIMEOUT_S)
        await self._rollouts.locate(node)
        if self._buffer_state is not None:
            await self._ask_buffer("load", self._buffer_state)
            await self._ask_buffer("advance", self._version)
        if self._checkpoint is not None:
            await self._weights.hand_out(self._version)  # engines start from what the run began from
        await self._weights.prove_first(self._version)
        self._say(f"ready after {time.monotonic() - self._started:.0f} s")

    async def _start_rollouts(self) -> None:
        """Let all of them work, and see that they have begun: the evaluation's many requests queue up behind the first groups."""
        self._rollouts.serve()
        deadline = time.monotonic() + POLL_S
        while time.monotonic() < deadline and self._step < self._config.run.steps:
            if all(answer["groups_under_way"] for answer in await gauges(list(self._house.rollouts.values()))):
                return
            await asyncio.sleep(0.1)

    # Training -------------------------------------------------------------------------------------------------------

    async def _train_step(self) -> None:
        started = time.monotonic()
        while not await self._waiting.one(
            self._house.buffer.wait_ready.remote(POLL_S), "groups from the buffer", POLL_S + BUFFER_TIMEOUT_S
        ):
            self._view.update({"learner": f"waits for groups: {await self._ask_buffer('waiting_for')}"})
        waited = time.monotonic() - started
        step = self._step + 1
        metrics = await self._learn(step)
        try:
            if step % self._config.weights.broadcast_every == 0:
                metrics |= await self._broadcast()
            else:
                await self._weights.keep()
        finally:
            # A step that is done has its line, also where a stop comes before its weights are out.
            rates, doing = await self._rates.read()
            metrics |= rates | self._held_out.news() | self._turns.metrics()
            metrics |= {
                "rollouts_replaced": float(self._rollouts.replaced),
                "restarts": float(restarted()),
                "step": step,
                "policy_version": self._version,
                "wait_seconds": waited,
                "seconds": self._seconds(),
            }
            self._metrics.write(metrics)
            self._exporter.write(metrics)
            self._view.update(doing)
            self._view.step(metrics)
        self._beat(f"step {step} is done")  # where steps are short, no wait says so
        if step % self._config.run.checkpoint_every == 0 or step == self._config.run.steps:
            await self._held_out.settle()  # who resumes from this checkpoint cannot make up for it
            await self._save()
        self._held_out.begin(step)

    async def _learn(self, step: int) -> dict[str, float]:
        """One learner step. A stop gives it up and puts its batch back, unless it is too far to be given up: then it counts."""
        if self._turns.shared:
            await self._held_out.settle()  # an evaluation would sleep too, and the broadcast wait for it
        await self._turns.learner()
        batch = self._house.buffer.take.remote()
        self._learning = step
        future = as_future(self._house.learner.step.remote(step, batch, self._version))
        try:
            metrics = await self._waiting.one(future, f"learner step {step}", self._config.learner.step_timeout_s)
        except Stopped:
            await bounded(self._house.learner.abort.remote(), "the learner", STOP_S)
            metrics = await bounded(future, f"the end of learner step {step}", STOP_S)
        finally:
            self._learning = None
        if metrics is None:
            await self._ask_buffer("untake")
            raise Stopped
        await self._ask_buffer("commit")
        self._step = step
        return metrics

    async def _broadcast(self) -> dict[str, float]:
        """Give every engine the learner's weights as a new policy version and prove that they arrived."""
        await self._held_out.settle()
        version = self._version + 1
        started = time.monotonic()
        await self._weights.hand_out(version)
        self._version = version
        await self._ask_buffer("advance", version)
        seconds = time.monotonic() - started
        result = await self._weights.prove(version)
        metrics = {"broadcast_seconds": seconds, "probe_seconds": time.monotonic() - started - seconds}
        metrics["probe_difference"] = result.mean_difference
        if result.slope is not None:
            metrics["probe_slope"] = result.slope
        return metrics

    async def _save(self) -> None:
        """Begin a checkpoint of this step, unless there is one."""
        if self._checkpoints.newest == self._step:
            return
        state = await self._ask_buffer("state")
        record = {
            "step": self._step,
            "policy_version": self._version,
            "seconds": self._seconds(),
        }
        await self._checkpoints.save(record, state, self._held_out.best_step)

    async def _stop_cleanly(self) -> None:
        """Leave a checkpoint of what is done; before the start is over there is nothing new to keep."""
        if not self._weights.proven:
            return
        self._view.update({"controller": "writing a checkpoint"})
        await self._save()
        await self._checkpoints.settle()

    # Waiting --------------------------------------------------------------------------------------------------------

    async def _ask_buffer(self, method: str, *arguments: Any) -> Any:
        """A call of the buffer that does not wait for anything; even a stop waits for its answer."""
        return await bounded(
            getattr(self._house.buffer, method).remote(*arguments), f"the buffer ({method})", BUFFER_TIMEOUT_S
        )

    def _beat(self, waiting: str) -> None:
        """Say what is waited for; raises what ended a rollout actor for good, or what the watchdog found."""
        self._rollouts.check()
        self._attendants.check()
        self._checkpoints.check()
        state: dict[str, Any] = {"controller": waiting, "step": self._step, "policy_version": self._version}
        self._view.update(state)
        workers = {"rollout_actors": self._rollouts.staying, "executor_workers": len(self._house.executors)}
        self._folder.heartbeat({**state, **workers, "steps": self._config.run.steps, "seconds": self._seconds()})

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    # The end --------------------------------------------------------------------------------------------------------

    def _finish(self, status: str, after: Evaluation | None) -> None:
        summary: dict[str, Any] = {"status": status, "steps": self._step, "seconds": round(self._seconds(), 1)}
        if self._held_out.before is not None and after is not None:
            summary["held_out"] = summarise(self._held_out.before, after)
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
        endings = [actor.stop.remote() for actor in house.rollouts.values()]
        if house.learner is not None:
            endings.append(house.learner.close.remote())
        tasks = [
            *self._rollouts.cancel(),
            *self._attendants.cancel(),
            *self._held_out.cancel(),
            *self._checkpoints.cancel(),
        ]
        for task in tasks:
            task.cancel()
        futures = [as_future(ending) for ending in endings]
        if futures:
            await asyncio.wait(futures, timeout=10)
        for future in [*futures, *tasks]:
            if future.done() and not future.cancelled():
                future.exception()
        house.close()
        ray.shutdown()

    def _say(self, text: str) -> None:
        log.info(text)
        self._view.say(text)

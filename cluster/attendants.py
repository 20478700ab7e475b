"""What goes on beside the loop of a run: who answers `cupel scale` and `cupel stop`, who sizes the executors, who watches for what is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from cluster.actors import House
from cluster.autoscaling import Autoscaler, Load, Sizing
from cluster.config import Config
from cluster.rates import gauges, total
from cluster.rollouts import RolloutActors
from cluster.run_folder import RunFolder
from cluster.scaling import Scaler
from cluster.stopping import Stopping
from cluster.watchdog import Watchdog
from cluster.watched import parts


class Attendants:
    """Tasks of the controller's event loop, from `start` to `cancel`."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        house: House,
        rollouts: RolloutActors,
        learning: Callable[[], int | None],
        stop: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """`learning`: the step that the learner works on, None while it waits. `stop` asks the run to end."""
        self._house = house
        self._watchdog = Watchdog(config.watchdog, partial(parts, house, learning), folder.path / "stacks", say)
        self._stopping = Stopping(folder.path, stop)
        self._scaler = Scaler(config, folder, rollouts, self._membership, house.room_for, say)
        self._autoscaler: Autoscaler | None = None
        if config.executor.max_workers is not None:
            sizes = Sizing(config.executor.min_workers, config.executor.max_workers, config.executor.queue_age_s)
            self._autoscaler = Autoscaler(sizes, self._load, self._scaler.scale_executors, say)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        work = [
            self._watchdog,
            self._scaler,
            self._stopping,
            *([self._autoscaler] if self._autoscaler is not None else []),
        ]
        self._tasks = [asyncio.create_task(one.follow()) for one in work]

    def check(self) -> None:
        """Raises what ended one of them: that a part is stuck which the run cannot do without."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    def cancel(self) -> list[asyncio.Task[None]]:
        """End; what is cancelled."""
        for task in self._tasks:
            task.cancel()
        return self._tasks

    def _membership(self) -> object:
        return self._house.owner.membership if self._house.owner is not None else None

    async def _load(self) -> Load | None:
        house = self._house
        clients, workers, members = await asyncio.gather(
            gauges(list(house.rollouts.values())),
            gauges(list(house.executors.values())),
            gauges([self._membership()]),
        )
        if not (clients and workers and members):
            return None
        busy, known = total(workers), members[0]
        return Load(
            workers=int(known["workers_up"] + known["workers_starting"] + known["workers_lost"]),
            up=int(known["workers_up"]),
            slots=int(busy["slots"]),
            busy_slots=int(busy["busy_slots"]),
            queue_age_s=max(client.get("executor_queue_age", 0.0) for client in clients),
        )

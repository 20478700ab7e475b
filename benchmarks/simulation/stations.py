"""Where work waits and is served: the clock, one server after a queue, the executor workers' slots, an engine's batch.

Invariants: events of one time happen in the order in which they were asked for; a server works while anything waits.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.simulation.setting import Setting


class Clock:
    """Simulated time and what is to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0

    def at(self, when: float, act: Callable[..., None], *arguments: Any) -> None:
        """Call `act` then."""
        self._asked += 1
        heapq.heappush(self._due, (when, self._asked, act, arguments))

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._due:
            return False
        self.now, _, act, arguments = heapq.heappop(self._due)
        self.events += 1
        act(*arguments)
        return True


class Server:
    """One at a time, first come first served: an actor's event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0.0
        self._given = 0.0
        self.served = 0

    def serve(self, seconds: float) -> float:
        """When work that comes now will be done."""
        self._free = max(self._free, self._clock.now) + seconds
        self._given += seconds
        self.served += 1
        return self._free

    @property
    def busy_s(self) -> float:
        """Seconds worked until now."""
        return self._given - max(0.0, self._free - self._clock.now)


class Worker:
    """An executor worker: slots behind one queue."""

    def __init__(self, clock: Clock, slots: int) -> None:
        self._clock = clock
        self._slots = slots
        self._free = [0.0] * slots
        self._given = 0.0
        self.process = 0
        """Which one of those that have stood in this place."""
        self.served = 0

    def serve(self, after: float, seconds: float) -> float:
        """When a request that arrives `after` seconds from now will be judged."""
        end = max(self._clock.now + after, self._free[0]) + seconds
        heapq.heapreplace(self._free, end)
        self._given += seconds
        self.served += 1
        return end

    def lose(self, return_s: float) -> None:
        """Its process dies with all that it had; a fresh one is there after so long."""
        now = self._clock.now
        self._given -= self._ahead()
        self.process += 1
        self._free = [now + return_s] * self._slots
        self._given += self._ahead()  # not there is not idle

    def _ahead(self) -> float:
        """Seconds of work given that lie ahead; what waits for its slot's turn included."""
        return sum(max(0.0, free - self._clock.now) for free in self._free)

    @property
    def busy_s(self) -> float:
        """Slot seconds worked until now."""
        return self._given - self._ahead()


@dataclass(eq=False)
class Generation:
    """A response to be sampled."""

    tokens: int
    context: int
    """Tokens before it."""
    new: int
    """Those of them that its engine has not seen, if it still holds the rest."""
    prompt_of: int | None
    """The group whose prompt `context` is, which its samples share; None in later turns."""
    version: int
    """The weights that the keys and values of the context were computed with."""
    done: Callable[[Generation, int, float], None]
    """Called with itself, the version at its end and the engine's position where it began."""
    start: float = 0.0
    owner: Any = None


@dataclass
class Engine:
    """Continuous batching: all sequences under way get a token in each step, and a step lasts longer the more there are.

    Its position counts the steps made, so a sequence that began at p ends at p + its tokens, whatever the pace.
    """

    clock: Clock
    setting: Setting
    version: int = 0
    produced: float = 0.0
    prefill_s: float = 0.0
    _position: float = 0.0
    _at: float = 0.0
    _stands_until: float = 0.0
    _active: list[tuple[float, int, Generation]] = field(default_factory=list)
    _waiting: deque[Generation] = field(default_factory=deque)
    _prompts: set[int] = field(default_factory=set)
    _marks: list[tuple[float, int]] = field(default_factory=list)
    _scheduled: float | None = None
    _number: int = 0

    def __post_init__(self) -> None:
        self._marks.append((0.0, self.version))
        self._at = self._stands_until = self.clock.now

    @property
    def active(self) -> int:
        """Sequences under way."""
        return len(self._active)

    def advance(self) -> None:
        """Bring the position to the present."""
        now, count = self.clock.now, len(self._active)
        seconds = now - max(self._at, self._stands_until)
        if count and seconds > 0:
            steps = seconds / self.setting.decode_s(count)
            self._position += steps
            self.produced += steps * count
        self._at = now

    def submit(self, generation: Generation) -> None:
        """Begin a response, or let it wait for a place."""
        self._waiting.append(generation)
        if len(self._active) < self.setting.max_sequences:
            self.advance()
            self._admit()
            self._schedule()

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self.setting.max_sequences:
            generation = self._waiting.popleft()
            self._stand(self._unseen(generation) * self.setting.prefill_token_s / self.setting.engine_speed)
            generation.version = self.version
            generation.start = self._position
            self._number += 1
            heapq.heappush(self._active, (self._position + generation.tokens, self._number, generation))

    def _unseen(self, generation: Generation) -> int:
        if generation.prompt_of is None:
            return generation.new if generation.version == self.version else generation.context
        seen = generation.prompt_of in self._prompts
        self._prompts.add(generation.prompt_of)
        return 0 if seen else generation.context

    def _stand(self, seconds: float) -> None:
        self._stands_until = max(self._stands_until, self.clock.now) + seconds
        self.prefill_s += seconds

    def _schedule(self) -> None:
        if not self._active:
            return
        left = max(0.0, self._active[0][0] - self._position)
        when = max(self._stands_until, self.clock.now) + left * self.setting.decode_s(len(self._active))
        if self._scheduled is None or when < self._scheduled:
            self._scheduled = when
            self.clock.at(when, self._look, when)

    def _look(self, when: float) -> None:
        if when != self._scheduled:
            return  # an earlier look took its place
        self._scheduled = None
        self.advance()
        ended = []
        while self._active and self._active[0][0] <= self._position + 1e-6:
            ended.append(heapq.heappop(self._active)[2])
        self._admit()
        self._schedule()
        for generation in ended:
            generation.done(generation, self.version, generation.start)

    def update(self, version: int) -> None:
        """New weights: all stands still while they load, and what the caches held is computed again."""
        self.advance()
        self.version = version
        self._marks.append((self._position, version))
        self._prompts.clear()
        self._stands_until = max(self._stands_until, self.clock.now) + self.setting.load_s
        again = 0.0
        for _, _, generation in self._active:
            again += generation.context + self._position - generation.start
            generation.version = version
        self._stand(again * self.setting.prefill_token_s / self.setting.engine_speed)
        self._schedule()

    def versions(self, start: float, tokens: int, units: int) -> list[int]:
        """The version that sampled each of the `units` parts of a response that began at position `start`."""
        if self._marks[-1][0] <= start:
            return [self.version] * units
        positions = [position for position, _ in self._marks]
        middles = (start + tokens * (unit + 0.5) / units for unit in range(units))
        return [self._marks[max(0, bisect_right(positions, middle) - 1)][1] for middle in middles]

    def full_s(self) -> float:
        """Seconds that a full engine would have needed for what was done."""
        most = self.setting.max_sequences
        return self.produced * self.setting.decode_s(most) / most + self.prefill_s

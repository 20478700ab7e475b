"""More or fewer executor workers and rollout actors of a run that goes on.

The request is a file in the run folder and so is the answer: whoever may write there may scale, from any machine that sees the folder. Invariants: a
request is answered once; what is asked for is kept in the run's config.yaml, so that a resumed run begins with it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.config import Config, dump_config, mistakes
from cluster.run_folder import RunFolder, read_json, write_atomically
from cluster.waiting import bounded, explain
from executor.errors import UserError

REQUEST, ANSWER = "scale.json", "scaled.json"
POLL_S = 1.0
ASK_S = 30.0  # of the executors' membership actor


class Wanted(BaseModel):
    """How many there are to be; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    executors: int | None = Field(default=None, ge=1, le=65536, description="Executor workers.")
    rollouts: int | None = Field(default=None, ge=1, le=1024, description="Rollout actors.")


class Request(BaseModel):
    """What `cupel scale` writes."""

    id: str = Field(description="Tells one request from the next.")
    wanted: Wanted = Field(description="What is asked for.")


class Answer(BaseModel):
    """What the run writes."""

    id: str = Field(description="Of the request.")
    said: list[str] = Field(description="What is done about it, a line each.")
    mistake: str | None = Field(default=None, description="Why nothing more was done.")


def read_wanted(arguments: Sequence[str]) -> Wanted:
    """`executors=64 rollouts=4` of a command line. Raises UserError."""
    given: dict[str, str] = {}
    for argument in arguments:
        name, _, number = argument.partition("=")
        if name not in Wanted.model_fields or not number:
            raise UserError(f"{argument!r}: give executors=NUMBER, rollouts=NUMBER or both")
        given[name] = number
    if not given:
        raise UserError("nothing to scale: give executors=NUMBER, rollouts=NUMBER or both")
    try:
        return Wanted.model_validate(given)
    except ValidationError as error:
        raise UserError("; ".join(mistakes(error))) from None


def request(run: Path, wanted: Wanted, wait_s: float) -> Answer:
    """Ask the run in `run`. Raises UserError if no answer comes within `wait_s`."""
    asked = Request(id=uuid.uuid4().hex, wanted=wanted)
    write_atomically(run / REQUEST, asked.model_dump_json())
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        answer = read_json(run / ANSWER)
        if answer is not None and answer.get("id") == asked.id:
            return Answer.model_validate(answer)
        time.sleep(0.2)
    (run / REQUEST).unlink(missing_ok=True)
    raise UserError(f"{run} has not answered within {wait_s:.0f} s; cupel status {run} says what it does")


class Scaler:
    """The run's side: follows the requests."""

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        rollouts: Any,
        membership: Callable[[], Any],
        room: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> None:
        """`rollouts`: a RolloutActors; `membership`: the executors' membership actor; `room` raises UserError where so many rollout actors and
        executor workers have none.
        """
        self._config = config.model_copy(deep=True)
        self._folder = folder
        self._rollouts = rollouts
        self._membership = membership
        self._room = room
        self._say = say
        # What was asked of the run's last process is not asked of this one.
        (folder.path / REQUEST).unlink(missing_ok=True)

    async def follow(self) -> None:
        """Answer requests until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            path = self._folder.path / REQUEST
            if not path.exists():
                continue
            try:
                asked = Request.model_validate(read_json(path))
                path.unlink()
                answer = await self._answer(asked)
                self._folder.write_text(ANSWER, answer.model_dump_json())
            except (UserError, ValidationError, OSError) as error:
                self._say(f"a request to scale came to nothing: {explain(error)}")
                path.unlink(missing_ok=True)

    async def _answer(self, asked: Request) -> Answer:
        answer = Answer(id=asked.id, said=[])
        try:
            self._check_room(asked.wanted)
            if asked.wanted.rollouts is not None:
                answer.said.append(self._scale_rollouts(asked.wanted.rollouts))
            if asked.wanted.executors is not None:
                answer.said.append(await self.scale_executors(asked.wanted.executors))
        except Exception as error:  # the membership actor may be on its way back; the run has nothing to fear from it
            answer.mistake = explain(error)
        for line in answer.said:
            self._say(line)
        self._folder.write_text("config.yaml", dump_config(self._config))
        return answer

    def _check_room(self, wanted: Wanted) -> None:
        if wanted.executors is not None and self._config.executor.max_workers is not None:
            raise UserError(
                f"executor.max_workers={self._config.executor.max_workers}: the run sizes its executors by itself; set it to null to do it by hand"
            )
        rollouts, executors = self._config.rollout.actors, self._config.executor.workers
        if (wanted.rollouts or 0) > rollouts or (wanted.executors or 0) > executors:
            self._room(wanted.rollouts or rollouts, wanted.executors or executors)

    def _scale_rollouts(self, wanted: int) -> str:
        before = self._rollouts.staying
        self._rollouts.scale(wanted)
        self._config.rollout.actors = wanted
        return f"rollout actors: {_change(before, wanted)}"

    async def scale_executors(self, wanted: int) -> str:
        """Have so many executor workers; what changes. Raises UserError where that cannot be."""
        membership = self._membership()
        states = await bounded(membership.members.remote(), "the executors' membership", ASK_S)
        before = sum(state != "draining" for state in states.values())
        if wanted != before:
            ask = (
                membership.add.remote(wanted - before) if wanted > before else membership.drain.remote(before - wanted)
            )
            await bounded(ask, "the executors' membership", ASK_S)
        self._config.executor.workers = wanted
        return f"executor workers: {_change(before, wanted)}"


def _change(before: int, wanted: int) -> str:
    if wanted == before:
        return f"{wanted}, as before"
    return f"{before} to {wanted}" + ("; those that leave end what they have" if wanted < before else "")


def show(run: Path, wanted: Wanted, wait_s: float) -> int:
    """`cupel scale`: ask, print, exit code."""
    answer = request(run, wanted, wait_s)
    for line in answer.said:
        print(line)
    if answer.mistake is not None:
        raise UserError(answer.mistake)
    return 0

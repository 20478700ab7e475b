"""Judge a file of samples against a file of problems: the command `cupel judge`, without Ray and without torch.

Invariants: verdicts are written in the order of the samples, to a temporary name first, so that a file of verdicts is
whole or absent; files are read line by line, and no more than a few samples a worker are held at a time; every
mistake in a file is told with its line.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.errors import UserError
from executor.judging import Judge, JudgeRequest
from executor.languages.base import refuse
from executor.problem import Problem, Sample
from executor.settings import ExecutorSettings
from executor.verdict import Outcome, Verdict, jsonable

_Form = TypeVar("_Form", bound=BaseModel)
_AHEAD = 4  # samples held a worker


class JudgeSummary(BaseModel):
    """What became of a file of samples."""

    model_config = ConfigDict(extra="forbid")

    samples: int = Field(ge=0, description="Samples judged.")
    outcomes: dict[str, int] = Field(description="Number of samples of each outcome that occurred.")
    level: str = Field(description="Isolation level the programs ran under.")
    seconds: float = Field(ge=0, description="Wall seconds.")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their 1-based numbers. Raises UserError where the file cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None


def read_form(path: Path, number: int, line: str, form: type[_Form]) -> _Form:
    """One line as the form that it should have. Raises UserError naming file, line and field."""
    try:
        return form.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise UserError(f"{path}:{number}: JSON nested too deep") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}:{number}: {where + ': ' if where else ''}{first['msg']}") from None
    except ValueError as error:  # an int of too many digits
        raise UserError(f"{path}:{number}: {error}") from None


def load_problems(path: str | os.PathLike[str]) -> list[Problem]:
    """The problems of a JSONL file, in order. Raises UserError for a broken line or an id that is there twice."""
    path = Path(path)
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        problem = read_form(path, number, line, Problem)
        if problem.id in lines:
            raise UserError(f"{path}:{number}: problem {problem.id!r} is already on line {lines[problem.id]}")
        lines[problem.id] = number
        problems.append(problem)
    if not problems:
        raise UserError(f"{path}: no problems")
    return problems


def _samples(path: Path, problems: dict[str, Problem]) -> Iterator[tuple[int, Sample]]:
    """Samples with their 0-based lines."""
    for number, line in read_lines(path):
        sample = read_form(path, number, line, Sample)
        problem = problems.get(sample.problem_id)
        if problem is None:
            raise UserError(f"{path}:{number}: no problem {sample.problem_id!r} among the problems")
        try:
            refuse(problem)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from None
        yield number - 1, sample


def judge_files(
    problems_path: str | os.PathLike[str],
    samples_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str] | None,
    settings: ExecutorSettings,
    workers: int = 1,
    echo: Callable[[str], Any] = print,
    stop_at_first_failure: bool = False,
) -> JudgeSummary:
    """Judge every sample, `workers` at a time, and write the verdicts to `out_path`; where it is None, echo each.

    Raises UserError for every mistake in the files, before anything is written under `out_path`.
    """
    import time

    start = time.monotonic()
    problems = {problem.id: problem for problem in load_problems(problems_path)}
    samples = Path(samples_path)
    for _ in _samples(samples, problems):  # a broken last line is told before the first program runs
        pass
    out = None if out_path is None else Path(out_path)
    part = None if out is None else out.with_name(f".{out.name}.{os.getpid()}.part")
    outcomes: dict[Outcome, int] = {}
    count = 0
    try:
        sink = None if part is None else part.open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: {error.strerror or error}") from None
    try:
        with Judge(settings.model_copy(update={"slots": workers})) as judge:
            for verdict in _judge_in_order(judge, problems, samples, workers, stop_at_first_failure):
                line = json.dumps(jsonable(verdict), ensure_ascii=False)
                if sink is None:
                    echo(line)
                else:
                    sink.write(line + "\n")
                outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
                count += 1
            level = judge.level
        if sink is not None and part is not None and out is not None:
            sink.flush()
            os.fsync(sink.fileno())
            sink.close()
            os.replace(part, out)
    finally:
        if sink is not None and part is not None:
            sink.close()
            part.unlink(missing_ok=True)
    summary = JudgeSummary(
        samples=count,
        outcomes={outcome.value: outcomes[outcome] for outcome in Outcome if outcome in outcomes},
        level=level,
        seconds=time.monotonic() - start,
    )
    if out is not None:
        told = ", ".join(f"{number} {name}" for name, number in summary.outcomes.items()) or "none"
        echo(f"{count} samples judged in {summary.seconds:.1f} s at {level}: {told} -> {out}")
    return summary


def _judge_in_order(
    judge: Judge, problems: dict[str, Problem], samples: Path, workers: int, stop_at_first_failure: bool
) -> Iterator[Verdict]:
    waiting: deque[Future[Verdict]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="cupel-judge")
    try:
        for index, sample in _samples(samples, problems):
            request = JudgeRequest(
                problems[sample.problem_id], sample.program, stop_at_first_failure=stop_at_first_failure, index=index
            )
            waiting.append(pool.submit(judge.judge, request))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

"""Judge a file of samples against a file of problems: the command `cupel judge`, without Ray and without torch.

Invariants: verdicts come in the order of the samples, and a file of them is whole or absent (verdict_file.py); samples
are read line by line, and no more than a few a worker are held at a time; every mistake in a file is told with its
line, and where the samples can be read twice before the first program runs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import platform
import queue
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from executor.errors import UserError
from executor.judging import JudgeRequest, Tests
from executor.languages.base import refuse
from executor.problem import Problem, Sample
from executor.process_pool import MOST_WORKERS, Judged, ProcessPool, cores
from executor.progress import Show, progress
from executor.settings import ExecutorSettings
from executor.verdict import Outcome
from executor.verdict_file import VerdictFile, digest

STANDARD_INPUT = Path("-")
_Form = TypeVar("_Form", bound=BaseModel)
_AHEAD = 16  # samples held a worker
_ANEW = "; --fresh starts anew"


class JudgeSummary(BaseModel):
    """What became of a file of samples."""

    model_config = ConfigDict(extra="forbid")

    samples: int = Field(ge=0, description="Samples judged.")
    outcomes: dict[str, int] = Field(description="Number of samples of each outcome that occurred.")
    level: str = Field(description="Isolation level the programs ran under.")
    seconds: float = Field(ge=0, description="Wall seconds.")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their 1-based numbers; `-` is standard input, a name in .gz is unpacked.

    Raises UserError where the file cannot be read.
    """
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _open(path: Path) -> IO[str]:
    if path == STANDARD_INPUT:
        return open(0, encoding="utf-8", newline="\n", closefd=False)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")


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


def _samples(path: Path, problems: dict[str, Problem], tests: Tests) -> Iterator[tuple[int, Sample]]:
    """Samples with their 0-based lines, each one that can be judged."""
    for number, line in read_lines(path):
        sample = read_form(path, number, line, Sample)
        problem = problems.get(sample.problem_id)
        if problem is None:
            raise UserError(f"{path}:{number}: no problem {sample.problem_id!r} among the problems")
        try:
            refuse(problem)
        except UserError as error:
            raise UserError(f"{path}:{number}: {error}") from None
        if not JudgeRequest(problem, sample.program, tests).chosen():
            raise UserError(f"{path}:{number}: problem {problem.id!r} has no {tests} tests")
        yield number - 1, sample


@dataclass(frozen=True)
class _Job:
    """What is to be judged: samples, on which tests of their problems, without those that have a verdict already."""

    problems: dict[str, Problem]
    samples: Path
    tests: Tests
    stop_at_first_failure: bool
    file: VerdictFile | None

    def requests(self) -> Iterator[tuple[bytes, JudgeRequest]]:
        """What is still to be judged, with the digest of each sample."""
        earlier, number = self.file.earlier if self.file else 0, 0
        for index, sample in _samples(self.samples, self.problems, self.tests):
            mark = digest(sample, index) if self.file else b""
            if number >= earlier:
                problem = self.problems[sample.problem_id]
                yield mark, JudgeRequest(problem, sample.program, self.tests, self.stop_at_first_failure, index)
            elif self.file and not self.file.earlier_is(number, mark):
                raise UserError(
                    f"{self.samples}:{index + 1}: not the sample that {self.file.part} has a verdict on{_ANEW}"
                )
            number += 1
        if self.file and number < earlier:
            raise UserError(f"{self.file.part} has {earlier} verdicts, {self.samples} has {number} samples{_ANEW}")


def judge_files(
    problems_path: str | os.PathLike[str],
    samples_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str] | None,
    settings: ExecutorSettings,
    workers: int | None = None,
    echo: Callable[[str], Any] = print,
    stop_at_first_failure: bool = False,
    tests: Tests = "all",
    fresh: bool = False,
) -> JudgeSummary:
    """Judge every sample, `workers` at a time (None: as many as there are cores), and write the verdicts to `out_path`;
    where it is None, echo each. What a call that was broken off has written is gone on with, unless `fresh`.

    Raises UserError for every mistake in the files, before the first program runs where the samples can be read twice;
    KeyboardInterrupt says what was kept.
    """
    start = time.monotonic()
    samples = Path(samples_path)
    if Path(problems_path) == samples == STANDARD_INPUT:
        raise UserError("-: standard input holds problems or samples, not both")
    problems = load_problems(problems_path)
    with ExitStack() as stack:
        file = None
        if out_path is not None:
            made_with = _made_with(problems, settings, tests, stop_at_first_failure)
            file = stack.enter_context(VerdictFile(Path(out_path), made_with, fresh))
        job = _Job({problem.id: problem for problem in problems}, samples, tests, stop_at_first_failure, file)
        todo = sum(1 for _ in job.requests()) if samples.is_file() else None
        workers = min(workers or cores(), MOST_WORKERS if todo is None else max(1, todo))
        outcomes = file.outcomes if file else Counter[Outcome]()
        earlier = outcomes.total()
        try:
            with ProcessPool(settings, workers) as pool, _bar(file, earlier, todo) as show:
                for mark, judged in _in_order(job.requests(), pool, _AHEAD * workers):
                    if file:
                        file.add(mark, judged.line, judged.outcome)
                    else:
                        echo(judged.line)
                        outcomes[judged.outcome] += 1
                    show(outcomes.total(), outcomes)
        except KeyboardInterrupt:
            if file is None or not file.count:
                raise
            kept = f"verdicts kept in {file.part}: {file.count}; the same command goes on after them"
            raise KeyboardInterrupt(kept) from None
        if file:
            file.finish()
    summary = JudgeSummary(
        samples=outcomes.total(),
        outcomes={outcome.value: outcomes[outcome] for outcome in Outcome if outcome in outcomes},
        level=pool.level,
        seconds=time.monotonic() - start,
    )
    if file:
        told = ", ".join(f"{number} {name}" for name, number in summary.outcomes.items()) or "none"
        before = f" ({earlier} of them before)" if earlier else ""
        echo(
            f"{summary.samples} samples judged{before} in {summary.seconds:.1f} s at {pool.level}: {told} -> {file.out}"
        )
    return summary


def _made_with(
    problems: list[Problem], settings: ExecutorSettings, tests: Tests, stop_at_first_failure: bool
) -> dict[str, Any]:
    """All that verdicts depend on, but for the samples."""
    hashed = hashlib.sha256()
    for problem in problems:
        hashed.update(json.dumps(problem.model_dump()).encode())
    return {
        "form": 1,
        "Python": platform.python_version(),
        "problems": hashed.hexdigest(),
        "settings": settings.model_dump(exclude={"slots", "retries", "scratch_dir"}),
        "tests": tests,
        "stop_at_first_failure": stop_at_first_failure,
    }


def _bar(file: VerdictFile | None, earlier: int, todo: int | None) -> AbstractContextManager[Show]:
    """No bar among verdicts on the same terminal."""
    return progress(
        None if todo is None else earlier + todo, earlier, wanted=file is not None or not sys.stdout.isatty()
    )


def _in_order(
    requests: Iterator[tuple[bytes, JudgeRequest]], pool: ProcessPool, most: int
) -> Iterator[tuple[bytes, Judged]]:
    """Each as it is judged, in order, up to `most` ahead. An error of `requests` comes after all that was before it.

    A thread reads ahead, so that no verdict waits for a sample that is slow to come.
    """
    ahead: queue.Queue[tuple[bytes, Future[Judged]] | BaseException | None] = queue.Queue(most)
    ended = threading.Event()

    def put(item: tuple[bytes, Future[Judged]] | BaseException | None) -> None:
        while not ended.is_set():
            try:
                return ahead.put(item, timeout=1.0)
            except queue.Full:
                continue

    def read() -> None:
        try:
            for mark, request in requests:
                if ended.is_set():
                    return
                put((mark, pool.submit(request)))
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=read, name="cupel-read-ahead", daemon=True).start()
    try:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item[0], item[1].result()
    finally:
        ended.set()

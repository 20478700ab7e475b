"""`cupel judge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


_Level = Literal["L0", "L1", "L2", "L3"]


@app.command(short_help="Run programs against tests.")
def judge(
    problems: Annotated[Path, typer.Argument(metavar="PROBLEMS.jsonl", help="Problems in Cupel's own form.")],
    samples: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES.jsonl",
            help='Programs: lines like {"problem_id": ..., "program": ...}. - is standard input; .gz is unpacked.',
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="VERDICTS.jsonl", help="Where verdicts go; standard output if not given.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew where an earlier call with the same --out was broken off.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=128, help="Programs judged at a time; as many as cores if not given.")
    ] = None,
    tests: Annotated[Literal["public", "private", "all"], typer.Option(help="Tests that programs are run on.")] = "all",
    stop_at_first_failure: Annotated[
        bool, typer.Option("--stop-at-first-failure", help="Skip the rest of the tests once one is not passed.")
    ] = False,
    min_level: Annotated[
        _Level | None, typer.Option(help="Lowest level of isolation to work at; L1 for root, else L0, if not given.")
    ] = None,
    max_level: Annotated[
        _Level | None, typer.Option(help="Highest level of isolation to use; the highest that works if not given.")
    ] = None,
) -> None:
    """Run programs against the tests of their problems, each in a process of its own with limits.

    Verdicts come in the order of the samples. With --out, a call that was broken off is gone on with by the same call.

    \b
    Examples:
      cupel judge problems.jsonl samples.jsonl --out verdicts.jsonl
      cupel judge problems.jsonl samples.jsonl | head
      zcat samples.jsonl.gz | cupel judge problems.jsonl - --out verdicts.jsonl --stop-at-first-failure
    """
    from executor.errors import UserError
    from executor.files import judge_files
    from executor.settings import ExecutorSettings

    if fresh and out is None:
        raise UserError("--fresh: without --out nothing is kept that could be gone on with")
    levels = {"min_level": min_level, "max_level": max_level}
    settings = ExecutorSettings.model_validate({name: level for name, level in levels.items() if level is not None})
    judge_files(
        problems,
        samples,
        out,
        settings,
        workers,
        stop_at_first_failure=stop_at_first_failure,
        tests=tests,
        fresh=fresh,
    )

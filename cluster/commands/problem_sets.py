"""`cupel problems`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(short_help="Turn a problem set into Cupel's form, run its references.")
def problems(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="starter, starter:train, FILE.jsonl, or KIND:SOURCE: apps, code_contests, humaneval, humanevalplus, "
            "livecodebench, mbpp, mbppplus.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Where the problems go, in Cupel's own form.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Run every reference program; exit code 1 if one does not pass.")
    ] = False,
    references: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Check at most this many references of each problem.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many problems.")] = None,
) -> None:
    """Turn a known problem set into Cupel's own form, and run its reference programs against its own tests.

    SOURCE is a file, a folder, or the name of a data set of the hub.

    \b
    Examples:
      cupel problems starter --out starter.jsonl --check
      cupel problems mbpp:mbpp.jsonl#train --out mbpp_train.jsonl
      cupel problems mbpp:google-research-datasets/mbpp#test,asserts,shots --out mbpp_test.jsonl
      cupel problems apps:APPS/train --check --references 3 --limit 100
      cupel problems code_contests:deepmind/code_contests#valid --check --references 3
      cupel problems livecodebench:FOLDER#2024-05..2024-10 --out lcb.jsonl
    """
    from cluster.problem_files import write_problems

    raise typer.Exit(write_problems(name, out, check=check, limit=limit, references=references))

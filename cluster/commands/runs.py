"""`cupel report`, `status`, `stop` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command(short_help="Write one HTML page on a run.")
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder, finished or not.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PAGE.html", help="Where the page goes; report.html in the run folder if not given."),
    ] = None,
) -> None:
    """Write one HTML page on a run: curves, pass rates by problem, and episodes with each token's credit in colour.

    \b
    Example:
      cupel report runs/2026-01-31_12-00-00
    """
    from cluster.report.page import write_report

    print(write_report(run, out))


@app.command(short_help="Say what runs and what it waits for.")
def status(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder, or a folder of runs; ./runs if not given.")
    ] = None,
) -> None:
    """Say what is running, how far it is and what it waits for.

    \b
    Examples:
      cupel status
      cupel status runs/2026-01-31_12-00-00
    """
    from cluster.status import show

    show(run)


@app.command()
def stop(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run to stop.")],
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for its end.")] = 60.0,
) -> None:
    """Ask a run to write a checkpoint and end.

    \b
    Example:
      cupel stop runs/2026-01-31_12-00-00
    """
    from cluster.status import stop as ask

    raise typer.Exit(ask(run, wait))


@app.command(short_help="Say what this machine can do.")
def doctor() -> None:
    """Say what this machine can do, and what to do about what is missing. Exit code 0 if the default run can run.

    \b
    Example:
      cupel doctor
    """
    from cluster.doctor import examine

    raise typer.Exit(examine())

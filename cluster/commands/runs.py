"""`cupel report`, `status`, `scale`, `stop`, `dashboard` and `doctor`."""

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


@app.command(short_help="Give a run that goes on more or fewer workers.")
def scale(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of the run.")],
    wanted: Annotated[
        list[str],
        typer.Argument(metavar="executors=N rollouts=N", help="How many there are to be; one may be left out."),
    ],
    wait: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="How long to wait for the run's answer.")
    ] = 60.0,
) -> None:
    """Give a run that goes on more or fewer executor workers and rollout actors.

    Those that leave end what they have begun; a rollout actor joins once its engine holds the newest weights.

    \b
    Examples:
      cupel scale runs/2026-01-31_12-00-00 executors=64
      cupel scale runs/2026-01-31_12-00-00 executors=8 rollouts=2
    """
    from cluster.scaling import read_wanted, show
    from cluster.status import running

    number = read_wanted(wanted)
    raise typer.Exit(show(running(run), number, wait))


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


@app.command(short_help="Set Prometheus and Grafana up for a Ray that runs.")
def dashboard(
    ray_folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Ray's temporary folder (ray start --temp-dir); /tmp/ray if not given."),
    ] = None,
    folder: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where settings, logs and Prometheus's data are kept.")
    ] = Path("~/.cache/cupel/monitoring"),
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start Prometheus and Grafana where they are installed.")
    ] = True,
) -> None:
    """Set Prometheus and Grafana up for the Ray that runs on this machine, its head node.

    Puts Cupel's dashboard where that Ray's Grafana finds it, writes Prometheus's settings and alert rules, and starts the two
    until an interrupt; says what to do about what is not installed.

    \b
    Examples:
      cupel dashboard
      cupel dashboard --no-start
    """
    import os

    from cluster.monitoring import show_dashboard

    show_dashboard(ray_folder, folder, start=start, environment=os.environ)


@app.command(short_help="Say what this machine can do.")
def doctor() -> None:
    """Say what this machine can do, and what to do about what is missing. Exit code 0 if the default run can run.

    \b
    Example:
      cupel doctor
    """
    from cluster.doctor import examine

    raise typer.Exit(examine())

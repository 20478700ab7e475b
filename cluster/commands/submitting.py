"""`cupel submit`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.training import ConfigArguments, split

app = typer.Typer()


@app.command(short_help="Train on a running Ray cluster.")
def submit(
    arguments: ConfigArguments = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Go on with this run: a folder that the cluster's nodes see, or a copy (run.mirror)."
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            envvar="RAY_API_SERVER_ADDRESS",
            metavar="http://HEAD:8265",
            help="The dashboard of the cluster's head node.",
        ),
    ] = "http://127.0.0.1:8265",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the run to its end.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Submit although a check says that it cannot work.")] = False,
    install: Annotated[
        list[str] | None,
        typer.Option(metavar="PACKAGE", help="Have each node install a package first; may be given several times."),
    ] = None,
) -> None:
    """Train on a running Ray cluster: check, upload the current folder, start the run as a job there and follow it.

    Ctrl-C leaves the job running and says how to stop it. Exit code: 0 finished, 130 stopped, else as `cupel train`.

    \b
    Examples:
      cupel submit my.yaml run.directory=/shared/runs --address http://HEAD:8265
      cupel submit my.yaml run.directory=/shared/runs --no-wait
      cupel submit --resume /shared/runs/2026-01-31_12-00-00
    """
    from cluster.job_client import submit as send
    from executor.errors import UserError

    path, overrides = split(arguments or [])
    if resume is not None and path is not None:
        raise UserError(f"--resume takes the run's own configuration; leave out {path}, or give single settings a.b=c")
    raise typer.Exit(send(path, overrides, address, resume=resume, wait=wait, force=force, install=install or ()))

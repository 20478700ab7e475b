"""`cupel train` and `cupel study`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.config import Config

_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")

app = typer.Typer()

ConfigArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CONFIG.yaml|a.b=c", help="A configuration file (none: the defaults) and settings that override it."
    ),
]


@app.command()
def train(
    arguments: ConfigArguments = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the resolved configuration, check problems and model, start nothing."),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Go on with this run folder, or copy of one (run.mirror), from its newest checkpoint."
        ),
    ] = None,
) -> None:
    """Train a model.

    Everything goes to a fresh run folder. Ctrl-C writes a checkpoint and ends; a second `cupel train --resume` goes on
    from it.

    \b
    Examples:
      cupel train
      cupel train run.steps=100 learner.learning_rate=2e-5
      cupel train my.yaml model=Qwen/Qwen2.5-Coder-0.5B-Instruct
      cupel train weights.max_staleness=0            synchronous training
      cupel train --resume runs/2026-01-31_12-00-00
      cupel train --resume s3://bucket/runs/mine run.directory=/disk/runs
    """
    from cluster.config import load_config

    path, overrides = split(arguments or [])
    folder = None
    if resume is not None:
        folder = _folder_of(resume, overrides)
        path = _config_of(folder, path)
    config = load_config(path, overrides)
    if dry_run:
        from cluster.dry_run import dry_run as check

        check(config)
        return
    raise typer.Exit(_train(config, folder, arguments or []))


def _train(config: Config, resume: Path | None, arguments: list[str]) -> int:
    from cluster.supervision import supervise, supervised

    if config.run.max_restarts and not supervised():
        again = ["--resume", str(resume)] if resume is not None else []
        return supervise([*again, *arguments], config.run.max_restarts)
    from cluster.run import train as run

    return run(config, resume)


def split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Tell the configuration file from the overrides. Raises UserError for a second file."""
    from executor.errors import UserError

    overrides = [a for a in arguments if _OVERRIDE.match(a)]
    files = [a for a in arguments if not _OVERRIDE.match(a)]
    if len(files) > 1:
        raise UserError(f"one configuration file at a time: {', '.join(files)}; a setting is written a.b=c")
    return Path(files[0]) if files else None, overrides


def _folder_of(resume: str, overrides: list[str]) -> Path:
    """The run folder to go on with, fetched where its copy is named."""
    from cluster.config import load_config
    from cluster.mirror import fetch, is_url

    return fetch(resume, Path(load_config(None, overrides).run.directory)) if is_url(resume) else Path(resume)


def _config_of(resume: Path, given: Path | None) -> Path:
    from cluster.run_folder import RunFolder
    from executor.errors import UserError

    if given is not None:
        raise UserError(f"--resume takes the run's own configuration; leave out {given}, or give single settings a.b=c")
    return RunFolder.open(resume).path / "config.yaml"


@app.command(short_help="Train rows of settings with several seeds and compare them.")
def study(
    name: Annotated[
        str, typer.Argument(metavar="STUDY", help="A study's file, or the name of one in cluster/configs/studies.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="a.b=c", help="Settings of all runs, over those of the study.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N[,N]", help="Seeds in place of the study's own.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where runs and table go; runs/studies/STUDY if not given.")
    ] = None,
) -> None:
    """Train rows of settings with several seeds, one run after the other, and compare them in a table.

    The table is written anew after each run. A study that was broken off is gone on with by the same call.

    \b
    Examples:
      cupel study granularity
      cupel study granularity --seeds 0,1,2,3,4 run.steps=40 model=Qwen/Qwen2.5-Coder-0.5B-Instruct
      cupel study my_study.yaml --out runs/mine
    """
    from cluster.study import run_study
    from executor.errors import UserError

    overrides = settings or []
    if odd := [text for text in overrides if not _OVERRIDE.match(text)]:
        raise UserError(f"{odd[0]!r} is not a setting a.b=c; a study takes its configuration files from its rows")
    try:
        numbers = [int(part) for part in seeds.split(",")] if seeds else None
    except ValueError:
        raise UserError(f"--seeds {seeds!r}: give numbers like 0,1,2") from None
    run_study(name, out, numbers, overrides)

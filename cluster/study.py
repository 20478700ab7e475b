"""`cupel study`: rows of settings, each trained with several seeds and told in one table.

A study is a YAML file: `settings` for all of its runs, and `rows` with a name, a configuration file and settings of their own; the command line's
settings come last. Invariants: every row's configuration is checked before the first run starts; a run that is finished is read and
never repeated, one that was broken off is gone on with; seeds are the outer loop, so that a study that is stopped has all rows with some seeds.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cluster.config import Config, dump_config, load_config, mistakes, read_yaml
from cluster.run_folder import latest_checkpoint, read_json, write_atomically
from cluster.run_owner import owner
from cluster.study_results import Trained, as_json, as_markdown, compare
from executor.errors import UserError

STUDIES = Path(__file__).parent / "configs" / "studies"
LOG_LINES = 5  # of a failed run's last words
STOP_S = 2.0  # after which a run that was to stop is asked again


class Row(BaseModel):
    """One way to train."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="What the table calls it.")
    config: str | None = Field(
        default=None, description="Configuration file, relative to the study; none: the defaults."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of this row, a.b: value.")
    seeds: list[int] | None = Field(
        default=None, min_length=1, description="Seeds of this row in place of the study's."
    )
    against: str | None = Field(default=None, description="Row that it is compared with; the one before if not given.")


class Study(BaseModel):
    """Rows to compare."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(description="What the study asks, in a sentence.")
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1, description="Seeds that every row is trained with.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of all runs, a.b: value.")
    rows: list[Row] = Field(min_length=1, description="The rows in the order of the table.")
    keep_checkpoints: bool = Field(
        default=False, description="Keep the weights of finished runs; a table does not need them."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [row.name for row in self.rows]
        folders = [folder_name(name) for name in names]
        if twice := sorted({name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1}):
            raise ValueError(f"rows {', '.join(twice)}: each row needs a name of its own")
        for seeds in (self.seeds, *(row.seeds for row in self.rows if row.seeds)):
            if len(set(seeds)) < len(seeds) or min(seeds) < 0:
                raise ValueError(f"seeds {seeds}: give different numbers from 0 on")
        for row in self.rows:
            if row.against is not None and (row.against not in names or row.against == row.name):
                raise ValueError(
                    f"row {row.name!r}: against={row.against!r} is no other row; there are {', '.join(names)}"
                )
        return self

    def compared_with(self, name: str) -> str | None:
        """The row that row `name` is compared with, None for the first."""
        names = [row.name for row in self.rows]
        place = names.index(name)
        return self.rows[place].against or (names[place - 1] if place else None)


def folder_name(name: str) -> str:
    """`name` as a folder's: "+ coarse" is coarse."""
    return re.sub(r"\W+", "_", name.lower()).strip("_") or "row"


def load_study(name: str, seeds: Sequence[int] | None = None) -> tuple[Study, Path]:
    """The study in file `name`, or the one of that name among ours, and its file; `seeds` take the place of its own.

    Raises UserError with what is wrong.
    """
    path = Path(name) if Path(name).is_file() else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in STUDIES.glob("*.yaml")))
        raise UserError(f"study {name}: there is no such file; give one, or one of {known}")
    data = read_yaml("study", path)
    if seeds and isinstance(data, dict):
        data["seeds"] = list(seeds)
    try:
        return Study.model_validate(data), path
    except ValidationError as error:
        raise UserError("\n".join([f"study {path}:", *mistakes(error)])) from None


def configurations(study: Study, path: Path, out: Path, overrides: Sequence[str]) -> dict[tuple[str, int], Config]:
    """What each row and seed runs, by (row, seed). Raises UserError naming the row whose configuration is wrong."""
    configs = {}
    for row in study.rows:
        for seed in row.seeds or study.seeds:
            own = [f"run.seed={seed}", f"run.directory={out / folder_name(row.name)}", f"run.name=seed_{seed}"]
            given = {**study.settings, **row.settings}
            settings = [f"{key}={json.dumps(value)}" for key, value in given.items()]  # JSON is YAML
            try:
                config = load_config(path.parent / row.config if row.config else None, [*settings, *overrides, *own])
                if config.problems.held_out is None:
                    raise UserError("problems.held_out=null leaves nothing to compare")
            except UserError as error:
                raise UserError(f"row {row.name!r}: {error}") from None
            configs[row.name, seed] = config
    return configs


def run_study(name: str, out: Path | None, seeds: Sequence[int] | None, overrides: Sequence[str]) -> None:
    """Train every row with every seed, one after the other, and write the table after each. Raises UserError where a run fails."""
    study, path = load_study(name, seeds)
    out = (out or Path("runs") / "studies" / path.stem).absolute()
    configs = configurations(study, path, out, overrides)
    states = {key: _state(_folder(config), config) for key, config in configs.items()}  # before anything starts
    todo = sum(state != "finished" for state in states.values())
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run does not outlive its study
    print(f"{study.question}\n{len(configs)} runs in {out}, {todo} of them to do", file=sys.stderr)
    trained: dict[str, list[Trained]] = {row.name: [] for row in study.rows}
    for (row, seed), config in sorted(configs.items(), key=lambda item: item[0][1]):  # seeds first, rows in their order
        if states[row, seed] != "finished":
            _run(config, states[row, seed], f"{row}, seed {seed}")
        if not study.keep_checkpoints:
            shutil.rmtree(_folder(config) / "checkpoints", ignore_errors=True)
        run = _read(_folder(config), seed)
        trained[row].append(run)
        print(f"{row}, seed {seed}: pass@1 {run.pass_at_1:.3f}, {run.seconds / 60:.1f} minutes", file=sys.stderr)
        results = compare({name: runs for name, runs in trained.items() if runs}, study.compared_with)
        write_atomically(out / "results.json", as_json(study.question, results))
        write_atomically(out / "results.md", as_markdown(results))
    print((out / "results.md").read_text(encoding="utf-8"), end="")


def _folder(config: Config) -> Path:
    assert config.run.name is not None, "every run of a study has a name"
    return Path(config.run.directory) / config.run.name


def _state(folder: Path, config: Config) -> str:
    """fresh, broken off or finished. Raises UserError if `folder` holds a run of other settings, or what is no run."""
    if not folder.exists():
        return "fresh"
    ours = any((folder / name).is_file() for name in ("config.yaml", "status.json"))
    if not ours and (folder.is_file() or any(path.is_file() for path in folder.rglob("*"))):
        raise UserError(f"{folder} is in the way and no run folder: give another --out, or move it")
    begun = (folder / "config.yaml").exists()
    if begun and not _made_with(folder, config):
        raise UserError(f"{folder} was made with other settings: give another --out, or the settings of that time")
    if (read_json(folder / "summary.json") or {}).get("status") == "finished":
        return "finished"
    if (process := owner(folder)) is not None:
        raise UserError(f"{folder} is in use by {process}; stop that first: cupel stop {folder}")
    if not begun or latest_checkpoint(folder) is None:
        shutil.rmtree(folder)  # nothing in it that could be gone on with
        return "fresh"
    return "broken off"


def _made_with(folder: Path, config: Config) -> bool:
    """Whether the run in `folder` has these settings; those that there were not then count as their defaults."""
    try:
        return load_config(folder / "config.yaml") == config
    except UserError:
        return False  # a setting of then that there is no more


def _run(config: Config, state: str, title: str) -> None:
    folder = _folder(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    given, log = folder.parent / f"{folder.name}.yaml", folder.parent / f"{folder.name}.log"
    write_atomically(given, dump_config(config))
    arguments = ["--resume", str(folder)] if state == "broken off" else [str(given)]
    print(f"{title}: {'goes on' if state == 'broken off' else 'starts'}, log in {log}", file=sys.stderr)
    with log.open("a", encoding="utf-8") as output:
        process = subprocess.Popen([sys.executable, "-m", "cluster", "train", *arguments], stdout=output, stderr=output)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            _stop(process)
            raise
    if code != 0:
        last = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:])
        raise UserError(f"{title} ended with exit code {code}; the end of {log}:\n{last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Wait until the run has left its checkpoint. A Ctrl-C in a terminal has reached it too; a signal to this process alone has not."""
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()


def _read(folder: Path, seed: int) -> Trained:
    evaluation, summary = read_json(folder / "evaluation_after.json"), read_json(folder / "summary.json")
    if evaluation is None or summary is None:
        raise UserError(f"{folder} has no evaluation: it was trained without held-out problems")
    return Trained(
        seed=seed,
        passed={name: evaluation["passed"][name] / n for name, n in evaluation["samples"].items()},
        shares={name: evaluation["shares"][name] / n for name, n in evaluation["samples"].items()},
        outcomes=evaluation["outcomes"],
        samples=max(evaluation["samples"].values()),
        seconds=summary["seconds"],
    )

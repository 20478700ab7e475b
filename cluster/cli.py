"""The command line: `cupel COMMAND`, or `python -m cluster COMMAND`.

Invariants: what is heavy (Ray, torch, vLLM, transformers) is imported inside the command that needs it, so that the
others do without it; a person's mistake, a package that is not installed too, is told in a line or two on standard
error with exit code 2, an interrupt ends with 130; standard output holds results only.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from cluster.config import Config

_MISTAKE = 2
_INTERRUPTED = 130
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")
# What the system refuses and a person can mend; any other OSError is a defect of ours and keeps its traceback.
_REFUSALS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EADDRINUSE,
}
# What the extras bring that training and evaluating import, and the other commands do without.
_TRAINING = {"ray", "torch", "vllm", "transformers", "safetensors", "numpy", "tensorboard", "huggingface_hub"}


class _Group(TyperGroup):
    """The commands in the order they are written here, with one place where errors become lines."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except KeyboardInterrupt as interrupt:
            _end(": ".join(filter(None, ("interrupted", str(interrupt)))), _INTERRUPTED)
        except BrokenPipeError:  # whoever read our output has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except Exception as error:
            told = _told(error, ctx.invoked_subcommand)
            if told is None:
                raise
            _end(told)


def _told(error: Exception, command: str) -> str | None:
    """What to tell a person, None for what is a defect of ours."""
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").partition(".")[0]
        if name not in _TRAINING:
            return None
        return (
            f"cupel {command} needs {name}, which is not installed: make install, or install cupel[cpu] or cupel[gpu]"
        )
    if isinstance(error, OSError):
        return f"{error.filename or 'system'}: {error.strerror}" if error.errno in _REFUSALS else None
    from pydantic import ValidationError

    from executor.errors import UserError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        return f"{key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
    return str(error) if isinstance(error, UserError) else None


def _end(text: str, code: int = _MISTAKE) -> NoReturn:
    """Say why and leave."""
    first, *rest = text.strip().splitlines() or ["unknown error"]
    print("\n".join([f"cupel: {first}", *(f"       {line}" for line in rest)]), file=sys.stderr)
    raise SystemExit(code)


app = typer.Typer(
    name="cupel",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="Cupel refines code language models by running what they write: reinforcement learning from unit tests.\n\n"
    "\b\n"
    "Examples:\n"
    "  cupel doctor                              what this machine can do\n"
    "  cupel train                               train the default: a small model, on the CPU\n"
    "  cupel train run.steps=2 --dry-run         show the configuration that would run\n"
    "  cupel judge PROBLEMS.jsonl SAMPLES.jsonl  run programs against tests",
)


def main() -> None:
    """Run the command line; ends the process."""
    app(prog_name="cupel")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"cupel {version('cupel')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


# Training ------------------------------------------------------------------------------------------------------------


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG.yaml|a.b=c", help="A configuration file (none: the defaults) and settings that override it."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the resolved configuration, check problems and model, start nothing."),
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="Go on with this run from its newest checkpoint.")
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
    """
    from cluster.config import load_config

    path, overrides = _split(arguments or [])
    if resume is not None:
        path = _config_of(resume, path)
    config = load_config(path, overrides)
    if dry_run:
        from cluster.dry_run import dry_run as check

        check(config)
        return
    raise typer.Exit(_train(config, resume))


def _train(config: Config, resume: Path | None) -> int:
    from cluster.run import train as run

    return run(config, resume)


def _split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Tell the configuration file from the overrides. Raises UserError for a second file."""
    from executor.errors import UserError

    overrides = [a for a in arguments if _OVERRIDE.match(a)]
    files = [a for a in arguments if not _OVERRIDE.match(a)]
    if len(files) > 1:
        raise UserError(f"one configuration file at a time: {', '.join(files)}; a setting is written a.b=c")
    return Path(files[0]) if files else None, overrides


def _config_of(resume: Path, given: Path | None) -> Path:
    from cluster.run_folder import RunFolder
    from executor.errors import UserError

    if given is not None:
        raise UserError(f"--resume takes the run's own configuration; leave out {given}, or give single settings a.b=c")
    return RunFolder.open(resume).path / "config.yaml"


# Judging and evaluating ----------------------------------------------------------------------------------------------


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


@app.command("eval", short_help="Sample from a model and tell pass@k.")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A run folder, a checkpoint, a Hugging Face folder, a hub name or smollm2-135m-instruct.",
        ),
    ],
    problems: Annotated[
        str,
        typer.Argument(
            metavar="PROBLEMS", help="A problem set: starter:held_out, mbpp:SOURCE, humaneval:SOURCE, FILE.jsonl."
        ),
    ],
    samples: Annotated[int, typer.Option(min=1, max=10_000, help="Samples a problem.")] = 4,
    k: Annotated[str, typer.Option("--k", metavar="K[,K]", help="Which pass@k to tell.")] = "1",
    turns: Annotated[int, typer.Option(min=1, help="Turns of an episode; this version evaluates single turns.")] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=2, help="Sampling temperature; as RLTF's paper has it for APPS 0.6, MBPP 1.2, else 1."
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of probability mass sampled from; for APPS and MBPP 0.95, else 1."),
    ] = None,
    max_response_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens after which a response is cut off; a run's own limit, else 256."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the samples; a run's own, else the default of run.seed.")
    ] = None,
    missing_as_zero: Annotated[
        bool,
        typer.Option(
            "--missing-as-zero", help="Count problems without enough judged samples as 0, as RLTF's evaluator does."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS.json",
            help="Where results go; RESULTS.md, a table, and RESULTS.samples.jsonl, every sample as it is judged, go beside it.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew where there are samples of an earlier call with the same --out.")
    ] = False,
) -> None:
    """Sample programs from a model and tell pass@k, strict accuracy and test-case average with 95 % intervals.

    Told for all problems and by difficulty. With --out, a call that was broken off is gone on with by the same call, and
    one with more --samples draws only those that are lacking.

    \b
    Examples:
      cupel eval smollm2-135m-instruct starter:held_out --samples 8 --k 1,8
      cupel eval runs/2026-01-31_12-00-00 starter:held_out --out results.json
      cupel eval runs/2026-01-31_12-00-00/checkpoints/step_24 mbpp:mbpp.jsonl#test
      cupel eval my_model apps:APPS/test --samples 1000 --k 1,5,10,1000 --out apps.json
    """
    from executor.errors import UserError

    if turns != 1:
        raise UserError(f"--turns {turns}: this version evaluates single turns; leave --turns out")
    ks = _ks(k, samples)
    if out is None and fresh:
        raise UserError("--fresh: without --out nothing is kept that could be gone on with")
    if out is not None and out.suffix != ".json":
        raise UserError(f"--out {out}: give a name that ends in .json; table and samples go beside it")
    from actors.problem_sets.base import load

    chosen = load(problems)  # a mistake in a file is told before an engine starts
    from cluster.evaluation import Asked, evaluate_command

    evaluate_command(
        Asked(
            model=model,
            problem_set=problems,
            samples=samples,
            ks=ks,
            temperature=temperature,
            top_p=top_p,
            max_response_tokens=max_response_tokens,
            seed=seed,
            out=out,
            fresh=fresh,
            missing_as_zero=missing_as_zero,
        ),
        chosen,
    )


def _ks(text: str, samples: int) -> list[int]:
    from executor.errors import UserError

    try:
        ks = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--k {text!r}: give numbers like 1,10") from None
    if ks[0] < 1 or ks[-1] > samples:
        raise UserError(
            f"--k {text}: pass@k needs k from 1 to the samples a problem, here {samples}; --samples {max(ks)} would do"
        )
    return ks


@app.command(short_help="Turn a problem set into Cupel's form, run its references.")
def problems(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="starter, starter:train, mbpp:SOURCE, apps:SOURCE, humaneval:SOURCE or FILE.jsonl."
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
    """
    from cluster.problem_files import write_problems

    raise typer.Exit(write_problems(name, out, check=check, limit=limit, references=references))


# Looking at runs -----------------------------------------------------------------------------------------------------


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

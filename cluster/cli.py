"""The command line: `cupel COMMAND`, or `python -m cluster COMMAND`.

Invariants: what is heavy (Ray, torch, vLLM, transformers) is imported inside the command that needs it, so that the
others do without it; a person's mistake, a package that is not installed too, is told in a line or two on standard
error with exit code 2, a run that was lost on the way with 75, an interrupt with 130; standard output holds results only.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cluster.commands import evaluating, judging, problem_sets, runs, submitting, training

_INTERRUPTED = 130
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
            from executor.errors import LOST, MISTAKE, RunLost

            _end(told, LOST if isinstance(error, RunLost) else MISTAKE)


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


def _end(text: str, code: int) -> NoReturn:
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


for _kind in (training, submitting, judging, evaluating, problem_sets, runs):
    app.add_typer(_kind.app)

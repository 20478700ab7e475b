"""`cupel eval` and `cupel compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


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
    turns: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Responses that a sample may have, with feedback between; a run's own, else 1."
        ),
    ] = None,
    feedback: Annotated[
        Literal["tests", "random", "none"] | None,
        typer.Option(
            help="What follows each response but the last: what the public tests say, what they would say of another problem's, "
            "or nothing but to try again; a run's own, else tests."
        ),
    ] = None,
    n_at_k: Annotated[
        str | None,
        typer.Option(
            "--n-at-k",
            metavar="N@K[,N@K]",
            help="Which n@k to tell, like 1@3,10@100: n programs are handed in, chosen among those of k responses.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=2,
            help="Sampling temperature; as papers have it for APPS 0.6, MBPP 1.2, RLEF's sets 0.2, else 1.",
        ),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="Share of probability mass sampled from; for sets of the papers 0.95, else 1."
        ),
    ] = None,
    max_response_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens after which a response is cut off; a run's own limit, else 256."),
    ] = None,
    max_context_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a whole sample with all its turns; a run's own limit, else the model's."),
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

    With several turns also n@k, pass@1 by turn, repairs, and what as many single turns would give. Told for all problems and by difficulty. With --out, a call that was broken off is gone on with by the same call, and
    one with more --samples draws only those that are lacking.

    \b
    Examples:
      cupel eval smollm2-135m-instruct starter:held_out --samples 8 --k 1,8
      cupel eval runs/2026-01-31_12-00-00 starter:held_out --out results.json
      cupel eval runs/2026-01-31_12-00-00/checkpoints/step_24 mbpp:mbpp.jsonl#test
      cupel eval runs/2026-01-31_12-00-00 starter:held_out --turns 3 --samples 100 --n-at-k 1@3,10@100
      cupel eval my_model apps:APPS/test --samples 1000 --k 1,5,10,1000 --out apps.json
    """
    from cluster.budget import parse, with_own
    from executor.errors import UserError

    ks = _ks(k, samples)
    budgets = parse(n_at_k) if n_at_k is not None else []
    if turns is not None:
        with_own(budgets, turns, samples)  # told before a model is fetched; without --turns the model says how many
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
            turns=turns,
            feedback=feedback,
            max_context_tokens=max_context_tokens,
            budgets=budgets,
            seed=seed,
            out=out,
            fresh=fresh,
            missing_as_zero=missing_as_zero,
        ),
        chosen,
    )


@app.command("compare", short_help="Tell two evaluations' difference, problem by problem.")
def compare(
    first: Annotated[
        str, typer.Argument(metavar="FIRST.json", help="A result file of cupel eval; several, with commas, for seeds.")
    ],
    second: Annotated[str, typer.Argument(metavar="SECOND.json", help="What is compared with it, in the same form.")],
    n_at_k: Annotated[
        str | None, typer.Option("--n-at-k", metavar="N@K[,N@K]", help="Which n@k to compare as well.")
    ] = None,
) -> None:
    """Tell what the second evaluation has over the first, each problem compared with itself, with 95 % intervals.

    \b
    Examples:
      cupel compare before.json after.json
      cupel compare random_0.json,random_1.json tests_0.json,tests_1.json
    """
    from cluster import comparison
    from cluster.budget import parse

    budgets = parse(n_at_k) if n_at_k is not None else []
    one, other = ([comparison.Results.read(Path(name)) for name in names.split(",")] for names in (first, second))
    compared, remarks = comparison.compare(one, other, budgets)
    print("\n\n".join([f"rates in percent, with 95 % intervals\n\n{comparison.table(compared)}", *remarks]))


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

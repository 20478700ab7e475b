"""What a person sees of a long judging: a bar on a terminal's standard error, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from executor.verdict import Outcome


class Show(Protocol):
    """Tell how many samples are judged, and how many of each outcome there are."""

    def __call__(self, judged: int, outcomes: Mapping[Outcome, int]) -> None: ...


@contextmanager
def progress(total: int | None, judged: int, wanted: bool = True) -> Iterator[Show]:
    """Show progress from `judged` samples on, to `total` where that is known, while the context lasts."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda judged, outcomes: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(TextColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f} samples/s")

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Speed(""),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=judged)

        def show(judged: int, outcomes: Mapping[Outcome, int]) -> None:
            told = ", ".join(f"{outcomes[outcome]} {outcome.value}" for outcome in Outcome if outcome in outcomes)
            bar.update(task, completed=judged, description=told)

        yield show

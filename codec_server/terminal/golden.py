"""Output of the `golden` commands. Progress is shown on standard error, and results on standard output."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

TABLE_WIDTH = 120


def progress_bar() -> Progress:
    """Return a progress bar on standard error. The bar appears when its `with` block is entered."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def step_callback(progress: Progress, task: Any) -> Any:
    """Return a callback that updates `task` with the number of completed steps and the total number of steps."""
    return lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def row_progress(total: int) -> Iterator[Any]:
    """Show a progress bar for `total` rows.

    The context manager yields a function that must be called with the name of each finished row.
    """
    with progress_bar() as progress:
        task = progress.add_task("evaluating", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)


def print_evaluation(result: Any) -> None:
    """Print the table and the notes of `result`, a codec_golden.evaluation.EvaluationResult."""
    from codec_golden.result_table import build_table  # noqa: PLC0415

    # On a narrow terminal, wrapped lines are more useful than columns that are cut off.
    Console(width=max(Console().width, TABLE_WIDTH)).print(build_table(result.rows))
    for note in result.notes:
        typer.echo(note)

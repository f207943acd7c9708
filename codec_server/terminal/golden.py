"""What the golden commands show on a terminal: progress on stderr, the table and its notes on stdout."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

TABLE_WIDTH = 120


def progress_bar() -> Progress:
    """Return a progress bar on stderr, to be entered."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def steps_on(progress: Progress, task: Any) -> Any:
    """Return what takes (steps done, steps there are) and shows them as `task`."""
    return lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def rows_shown(total: int) -> Iterator[Any]:
    """Show a bar of `total` rows; the context's value takes the name of each one done."""
    with progress_bar() as progress:
        task = progress.add_task("judging", total=total)
        yield lambda name: progress.update(task, advance=1, description=name)


def print_evaluation(found: Any) -> None:
    """Print the table and the notes of a codec_golden.evaluation.EvaluationResult."""
    from codec_golden.result_table import build_table  # noqa: PLC0415

    # A table that is cut off says nothing: a narrow terminal may break its lines.
    Console(width=max(Console().width, TABLE_WIDTH)).print(build_table(found.rows))
    for note in found.notes:
        typer.echo(note)

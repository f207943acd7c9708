"""Progress display of a training stage."""

from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressReporter:
    """Progress bar with metrics on a terminal; plain log lines if the output is not a terminal."""

    def __init__(self, title: str, start: int, end: int) -> None:
        """Show progress from step `start` to step `end` under `title`."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(title, completed=start, total=end, metrics="")
        self._title, self._start, self._end = title, start, end

    def steps(self) -> Iterator[int]:
        """Yield the indices of the remaining steps and advance the bar after each."""
        with self._bar:
            for step in range(self._start, self._end):
                yield step
                self._bar.advance(self._task)

    def report(self, step: int, **metrics: float) -> None:
        """Show the metrics of `step` in the bar, or print them as a line."""
        text = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._bar.update(self._task, metrics=text)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{self._title} {step + 1}/{self._end}  {text}")

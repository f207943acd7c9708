"""What a person sees while a stage runs: a bar with the loss, the step rate and the time left."""

from collections.abc import Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Meter:
    """A progress bar on a terminal; elsewhere (a log file) one plain line now and then."""

    def __init__(self, title: str, start: int, end: int) -> None:
        """Count from `start` to `end`."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(title, completed=start, total=end, note="")
        self._title, self._start, self._end = title, start, end

    def steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be made."""
        with self._bar:
            for step in range(self._start, self._end):
                yield step
                self._bar.advance(self._task)

    def note(self, step: int, **values: float) -> None:
        """Show numbers beside the bar."""
        text = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self._bar.update(self._task, note=text)
        if not self._bar.console.is_terminal:
            self._bar.console.print(f"{self._title} {step + 1}/{self._end}  {text}")

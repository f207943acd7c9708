"""A live bar on the terminal for one generation; silent where there is no terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from codec_client import Progress as StreamProgress


class ProgressBar:
    """Shows what a stream says of itself: steps where they are known, frames, bytes."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, count="")

    def say(self, what: str) -> None:
        """Show what is done where nothing can be counted."""
        self._bar.update(self._task, description=what, total=None, count="")

    def show(self, progress: StreamProgress) -> None:
        """Show how far the stream is."""
        if progress.frames or progress.step is None:
            total = progress.total_frames
            count = f"{progress.frames}/{total or '?'} frames, {progress.received_bytes / 1024:.1f} KiB"
            # An image is one frame: until it is there, nothing can be counted.
            self._bar.update(
                self._task,
                description="receiving" if progress.frames else "sampling",
                completed=progress.frames,
                total=total if progress.frames else None,
                count=count if progress.frames else "",
            )
            return
        self._bar.update(
            self._task,
            description="sampling",
            completed=progress.step,
            total=progress.total_steps,
            count=f"{progress.step}/{progress.total_steps} steps",
        )

    def __enter__(self) -> Self:
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar."""
        self._bar.stop()

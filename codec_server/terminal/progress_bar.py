"""Progress bar for one generation. Nothing is drawn if the output is not a terminal."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from codec_client import Progress as StreamProgress


class ProgressBar:
    """A progress bar for sampling steps, and then for received frames and bytes.

    If the sampling steps are unknown, the bar shows only the received frames and bytes.
    """

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
        self._preview = ""

    def set_status(self, text: str) -> None:
        """Show `text` in place of the present status and count."""
        self._bar.update(self._task, description=text, total=None, count="")

    def show_preview(self, step: int) -> None:
        """From the next update on, show that the preview of the sampling step `step` was written."""
        self._preview = f", preview of step {step} written"

    def update(self, progress: StreamProgress) -> None:
        """Show the progress of a latent stream."""
        if progress.frames or progress.step is None:
            total = progress.total_frames
            count = f"{progress.frames}/{total or '?'} frames, {progress.received_bytes / 1024:.1f} KiB"
            # An image has one frame, so there is nothing to count before it is received.
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
            count=f"{progress.step}/{progress.total_steps} steps{self._preview}",
        )

    def __enter__(self) -> Self:
        """Start drawing the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Erase the bar."""
        self._bar.stop()

"""Checkpoints, which are points in a computation where a cancelled job stops and the device thread records progress."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from torch import nn

from codec_pixels.device_thread import report_progress
from core.engine import Job


def stop_if_cancelled(*jobs: Job) -> None:
    """Raise the cancellation error of the first job if all `jobs` were cancelled.

    If at least one job was not cancelled, record that the device has made progress. Several `jobs` must be the jobs of
    one batch.
    """
    reasons = [job.reason for job in jobs]
    if reasons[0] is not None and None not in reasons:
        raise reasons[0]
    report_progress()


@contextmanager
def checkpoints(module: Any, *jobs: Job) -> Iterator[None]:
    """In the `with` block, call `stop_if_cancelled(*jobs)` each time before a block of `module` runs.

    A block is an item of a torch.nn.ModuleList in `module`. A decoder runs its blocks for every frame, tile or chunk.
    In a transformer with FreeNoise, the attention is also a block, and the attention runs for every window. A compiled
    module has no checkpoints, because hooks would cause the module to be compiled again.
    """

    def stop(*_arguments: object) -> None:
        stop_if_cancelled(*jobs)

    with ExitStack() as hooks:
        if not is_compiled(module):
            for block in _blocks(module):
                hooks.callback(block.register_forward_pre_hook(stop).remove)
        yield


# Compared by name, because importing the classes takes seconds.


def is_compiled(module: nn.Module) -> bool:
    """Return whether `module` or a part of `module` is compiled."""
    return any(type(part).__name__ == "OptimizedModule" or part._compiled_call_impl for part in module.modules())


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            yield from (block for block in part if block is not None)  # e.g. a block without attention
        elif type(part).__name__ == "FreeNoiseTransformerBlock":
            yield cast("nn.Module", part.attn1)

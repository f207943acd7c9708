"""Encoding of latents to frames on other threads, ahead of the client that reads the frames."""

import asyncio
import time
from asyncio import Future
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor

from codec_wire.encoder import LatentEncoder
from codec_wire.events import Frame
from core.diffusers_engine.checkpoints import stop_if_cancelled
from core.diffusers_engine.generation_run import encode_frame
from core.engine import Job
from core.plan import StreamPlan

BATCH_BYTES = 1024 * 1024
"""Maximum size in bytes of the encoded frames of a batch with several frames.

A call of another thread takes about as long as the encoding of 20 KiB. The frames of two batches exist at the same
time, so that a client that does not read holds at most 2 MiB of frames, or two larger frames.
"""


class FrameBatches:
    """The frames of `latents` in batches, which threads other than the device thread encode.

    `latents` has the shape [latent_frames, ...]. While the caller sends the frames of a batch, a thread encodes the
    next batch. The first batch has one frame, so that it is ready before the second frame is encoded. Close the
    object after its use, even if an error occurs (contextlib.closing).
    """

    def __init__(self, plan: StreamPlan, latents: Tensor, job: Job) -> None:
        self._job = job
        self._batches = _batch_ranges(plan)
        self._encoder: _BatchEncoder | None = _BatchEncoder(plan, latents)
        self._next = self._start_next()

    async def take(self) -> list[Frame]:
        """Return the next frames, or an empty list after the last frame.

        Raises the error of the job if the job was cancelled, and the errors of `encode_frame`.
        """
        if self._next is None:
            return []
        stop_if_cancelled(self._job)
        frames, seconds = await self._next
        self._job.record.encode_s += seconds
        self._next = self._start_next()
        return frames

    def close(self) -> None:
        """Encode no further batches.

        After this call, the object does not refer to the latents. A thread that encodes a batch still refers to them,
        and so does a batch that waits for a thread.
        """
        self._encoder = None
        if self._next is not None:
            self._next.cancel()  # also an error that was not retrieved is then not logged
            self._next = None

    def _start_next(self) -> "Future[_Batch] | None":
        batch = next(self._batches, None)
        if batch is None or self._encoder is None:
            return None
        return asyncio.get_running_loop().run_in_executor(None, self._encoder.encode, batch)


class _Batch(NamedTuple):
    frames: list[Frame]
    seconds: float
    """Time that the encoding took."""


class _BatchEncoder:
    def __init__(self, plan: StreamPlan, latents: Tensor) -> None:
        self._plan = plan
        self._latents = latents
        self._encoder = LatentEncoder(plan.header)

    def encode(self, batch: range) -> _Batch:
        """Encode the frames with the numbers `batch`."""
        started_at = time.perf_counter()
        frames = [Frame(encode_frame(self._encoder, self._latents[seq], self._plan, seq=seq)) for seq in batch]
        return _Batch(frames, time.perf_counter() - started_at)


def _batch_ranges(plan: StreamPlan) -> Iterator[range]:
    """Yield the numbers of the frames of each batch."""
    header = plan.header
    frame_bytes = header.pipeline_spec.values_size(header.shape, header.dtype.numpy.itemsize)
    size = max(1, BATCH_BYTES // frame_bytes)
    yield range(1)
    for start in range(1, plan.latent_frames, size):
        yield range(start, min(start + size, plan.latent_frames))

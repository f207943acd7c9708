"""Writing of previews to the output file of `generate` while the model samples."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec_client import LatentClient, PreviewLatents
from codec_server.actions.decoding import Decoding
from codec_server.terminal.output_file import OutputFile
from codec_server.terminal.progress_bar import ProgressBar
from codec_wire.request import DEFAULT_STEPS

PREVIEWS = 5
"""Approximate number of previews of one generation."""


class PreviewWriter:
    """Writer that repeatedly decodes the newest preview and replaces `output_file` with the decoded preview.

    If several previews are received while a preview is being decoded, only the newest preview is decoded. The written
    files contain no generation parameters, because the parameters describe the final image and not a preview.
    """

    def __init__(self, output_file: OutputFile, decoding: Decoding, client: LatentClient, bar: ProgressBar) -> None:
        self._output_file = output_file
        self._decoding = decoding
        self._client = client
        self._bar = bar
        self._frames: list[NDArray[Any]] = []
        self._newest: tuple[PreviewLatents, NDArray[Any]] | None = None
        """The last frame of the newest preview, and an array [latent frames, C, h, w] of the preview's latents."""
        self._ended = False
        self._changed = asyncio.Event()

    @staticmethod
    def interval(fields: Mapping[str, Any]) -> int:
        """Return the number of sampling steps between two previews for a request with the fields `fields`."""
        return max(1, (fields.get("steps") or DEFAULT_STEPS) // PREVIEWS)

    def add(self, preview: PreviewLatents) -> None:
        """Add one latent frame of a preview. A preview is ignored if the server omitted some frames of the preview."""
        if preview.seq == 0:
            self._frames = []
        if preview.seq != len(self._frames):
            return
        self._frames.append(preview.latents)
        if len(self._frames) == (preview.header.total_frames or 1):
            self._newest = (preview, np.stack(self._frames))
            self._changed.set()

    @asynccontextmanager
    async def writing(self, map_hash: str | None) -> AsyncIterator[None]:
        """Write previews until the `async with` block ends.

        `map_hash` is the hash of the latent-space map of the stream. Raises the errors of Decoding if a preview cannot
        be decoded, and the errors of OutputFile.write_frames if a preview cannot be written.
        """
        self._decoding.require_previews(self._client)
        task = asyncio.create_task(self._write_previews(map_hash))
        try:
            yield
        except BaseException:
            task.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await task
            raise
        self._ended = True
        self._changed.set()
        await task

    async def _write_previews(self, map_hash: str | None) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._ended or self._newest is None:
                return
            preview, latents = self._newest
            frames = await self._decoding.frames(latents, map_hash, self._client)
            await asyncio.to_thread(self._output_file.write_frames, frames, preview.header.fps, {})
            self._bar.show_preview(preview.step)

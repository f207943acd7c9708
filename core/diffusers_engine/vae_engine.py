"""Decoding of received latents and encoding of pixels with the VAE of a local pipeline, on the device thread."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec_pixels.device_thread import DeviceThread
from codec_pixels.images import ImageFormat, encode_image
from codec_pixels.parameters import Parameters, file_parameters
from codec_pixels.vae import decode_latents, decodes_frames_separately
from codec_pixels.vae_encoding import encode_pixels, encodes_frames_separately
from codec_pixels.videos import VideoWriter
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.errors import ModelLoadError, TooLarge
from codec_wire.events import Frame, Started
from codec_wire.first_line import first_line
from codec_wire.latents import LatentFrame, Modality
from core.decode_plan import DecodePlan
from core.diffusers_engine.checkpoints import checkpoints, stop_if_cancelled
from core.diffusers_engine.device_work import run_on_device
from core.diffusers_engine.input_frames import read_input_frames
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import memory_guard
from core.diffusers_engine.variants import PipelineVariant
from core.encode_plan import EncodePlan
from core.engine import Job
from core.pixel_format import PixelFormat
from core.rendered_plan import MAX_RENDERED_PIXELS

BATCH_PIXELS = 2**22
"""Maximum number of pixels (16 frames of 512x512) that are decoded before the device thread runs the next job.

BATCH_PIXELS also limits the number of decoded pixels in memory, except for VAEs that decode all frames of a video
together.
"""
CHUNK_BYTES = 256 * 1024
"""Maximum size in bytes of a chunk of an MP4 file."""
_IMAGE_FORMATS: Mapping[PixelFormat, ImageFormat] = {
    PixelFormat.PNG: "png",
    PixelFormat.JPEG: "jpeg",
    PixelFormat.WEBP: "webp",
}


class DiffusersVae:
    """VAE engine that decodes and encodes latents with the VAE of one model. See core.vae_engine.VaeEngine.

    The device thread of the model's engine decodes one batch of frames and then runs the next job. The next batch is
    decoded when the client has read the previous batch. The decoded pixels equal the pixels that the server renders in
    a generation. The decoded pixels also equal the pixels that a client decodes from the same latents.
    """

    def __init__(self, model: LoadedModel, thread: DeviceThread) -> None:
        self._model = model
        self._thread = thread
        self._reading = asyncio.Lock()

    async def decode(self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job) -> AsyncGenerator[bytes, None]:
        """Yield the pixels of `frames` in the format of the plan. See core.vae_engine.VaeEngine."""
        shape = (plan.num_frames, plan.height, plan.width, 3)
        parameters = file_parameters(plan.header, plan.map_hash, shape, {})
        try:
            async with aclosing(self._batches(plan, frames, job)) as batches:
                if plan.pixel_format is PixelFormat.MP4:
                    async with aclosing(_mp4(plan, parameters, batches)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                    return
                async for batch in batches:
                    for pixels in batch:
                        yield await asyncio.to_thread(_encode, pixels, plan, parameters)
        finally:
            job.abandon()

    async def encode(self, plan: EncodePlan, job: Job) -> AsyncGenerator[Started | Frame, None]:
        """Encode the file of `plan`, and yield the header and the frames of the latent stream.

        See core.vae_engine.VaeEngine.
        """
        try:
            # One file at a time, because a decoded image can be large before it is scaled to the size of the plan.
            async with self._reading:
                pixels = await asyncio.to_thread(read_input_frames, plan)
            work = partial(_encode_pixels, self._model, plan, pixels, job)
            del pixels
            latents = await run_on_device(self._thread, job, work)
            del work
            yield Started(plan.header)
            encoder = LatentEncoder(plan.header)
            for seq, latent in enumerate(latents):
                last = seq == plan.latent_frames - 1
                encode = partial(encoder.encode, latent, keyframe=plan.is_keyframe(seq), last=last)
                yield Frame(await asyncio.to_thread(encode))
        finally:
            job.abandon()

    async def _batches(
        self, plan: DecodePlan, frames: Sequence[LatentFrame], job: Job
    ) -> AsyncGenerator[NDArray[np.uint8], None]:
        """Yield the pixels of `frames` in batches, uint8 [n, height, width, 3]."""
        variant = _variant_for(self._model, plan.modality)
        if decodes_frames_separately(variant.pipeline.vae):
            batch = max(1, BATCH_PIXELS // (plan.width * plan.height))
        else:
            batch = len(frames)
            _require_in_memory(plan)
        decoder = LatentDecoder(plan.header)
        for start in range(0, len(frames), batch):
            work = partial(_decode, variant, plan, frames[start : start + batch], decoder, job)
            yield await run_on_device(self._thread, job, work)


def _variant_for(model: LoadedModel, modality: Modality) -> PipelineVariant:
    """Return the first pipeline for `modality`. The class of this pipeline determines how latents are scaled."""
    return next((one for one in model.variants if one.mode.modality is modality), model.variants[0])


def _encode_pixels(model: LoadedModel, plan: EncodePlan, pixels: NDArray[np.uint8], job: Job) -> Tensor:
    """Encode `pixels`, uint8 [frames, H, W, 3], to latents [latent_frames, C, h, w].

    Call this function on the device thread.
    """
    variant = _variant_for(model, plan.modality)
    vae = variant.pipeline.vae
    job.record.record_sampling()
    with memory_guard(plan), checkpoints(vae, job):
        step = 1 if encodes_frames_separately(vae) else len(pixels)
        generator = None if plan.seed is None else torch.Generator("cpu").manual_seed(plan.seed)
        parts = []
        for start in range(0, len(pixels), step):
            stop_if_cancelled(job)
            parts.append(encode_pixels(vae, pixels[start : start + step], variant.family.pipeline_class, generator))
        variant.pipeline.maybe_free_model_hooks()
        latents = torch.cat(parts)
    shape, expected = tuple(latents.shape), (plan.latent_frames, *plan.header.shape)
    if shape != expected:
        raise ModelLoadError(f"the VAE of {plan.model} returned latents of shape {shape}, expected {expected}")
    return latents


def _require_in_memory(plan: DecodePlan) -> None:
    """Raise TooLarge if the frames of `plan` are decoded together and have too many pixels for the memory."""
    pixels = plan.width * plan.height * plan.num_frames
    if pixels > MAX_RENDERED_PIXELS:
        raise TooLarge(
            f"{plan.num_frames} frames of {plan.width}x{plan.height} have {pixels} pixels, but the limit for a VAE "
            f"that decodes all frames together is {MAX_RENDERED_PIXELS}"
        )


def _decode(
    variant: PipelineVariant, plan: DecodePlan, frames: Sequence[LatentFrame], decoder: LatentDecoder, job: Job
) -> NDArray[np.uint8]:
    """Decode `frames` to pixels. `frames` must be the next frames of the stream that `decoder` decodes.

    Call this function on the device thread.
    """
    vae, pipeline_class = variant.pipeline.vae, variant.family.pipeline_class
    job.record.record_sampling()
    with memory_guard(plan), checkpoints(vae, job):
        parts = [
            decode_latents(vae, latents, pipeline_class)
            for latents in _latents(frames, decoder, job, together=not decodes_frames_separately(vae))
        ]
        # Does nothing unless the pipeline offloads its models: then the VAE must leave the device again.
        variant.pipeline.maybe_free_model_hooks()
        return np.concatenate(parts)


def _latents(
    frames: Sequence[LatentFrame], decoder: LatentDecoder, job: Job, *, together: bool
) -> Iterator[NDArray[np.float32]]:
    """Yield the latents [F, C, h, w] of `frames`.

    If `together` is set, all latents are yielded as one array, otherwise as one array for each frame.

    Raises `job.reason` if the job was cancelled.
    """
    pending = []
    for frame in frames:
        stop_if_cancelled(job)
        pending.append(decoder.decode(frame).astype(np.float32))
        if not together:
            yield np.stack(pending)
            pending.clear()
    if pending:
        yield np.stack(pending)


def decode_frames(model: LoadedModel, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Decode latents [F, C, h, w] to pixels [N, H, W, 3]. Call this function on the device thread.

    Raises OutOfMemory if the device has too little memory.
    """
    with memory_guard(None):
        return decode_latents(model.pipeline.vae, latents, model.family.pipeline_class)


def warm_up(model: LoadedModel, latent_size: int) -> None:
    """Decode and encode one frame of `latent_size` x `latent_size` latent cells with the VAE of each pipeline.

    Call this function on the device thread. Raises ModelLoadError if the VAE does not work.
    """
    info, side = model.info, latent_size * model.info.spatial_factor
    try:
        for variant in model.variants:
            vae, pipeline_class = variant.pipeline.vae, variant.family.pipeline_class
            latents = np.zeros((1, info.latent_channels, latent_size, latent_size), np.float32)
            decode_latents(vae, latents, pipeline_class)
            encode_pixels(vae, np.zeros((1, side, side, 3), np.uint8), pipeline_class)
    except ModelLoadError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise ModelLoadError(f"{info.name} was loaded but its VAE does not work: {reason}") from error


def _encode(pixels: NDArray[np.uint8], plan: DecodePlan, parameters: Parameters) -> bytes:
    """Return the frame `pixels`, uint8 [height, width, 3], as bytes in the pixel format of the plan."""
    image_format = _IMAGE_FORMATS.get(plan.pixel_format)
    return pixels.tobytes() if image_format is None else encode_image(pixels, image_format, parameters, plan.quality)


async def _mp4(
    plan: DecodePlan, parameters: Parameters, batches: AsyncGenerator[NDArray[np.uint8], None]
) -> AsyncGenerator[bytes, None]:
    """Yield an MP4 file in chunks. The file is written to disk, so that the memory never contains all frames."""
    with VideoWriter(plan.width, plan.height, plan.header.fps or 1, parameters) as writer:
        async for pixels in batches:
            await asyncio.to_thread(writer.write, pixels)
        path = await asyncio.to_thread(writer.finish)
        for start in range(0, path.stat().st_size, CHUNK_BYTES):
            yield await asyncio.to_thread(_read, path, start)


def _read(path: Path, start: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(CHUNK_BYTES)

"""Decoding of sampled latents to pixels.

A client that decodes the latent stream gets pixels that are identical to the pixels of the server.
"""

from torch import Tensor

from codec_pixels.vae import decode_latents
from codec_wire.errors import InvalidLatents
from codec_wire.pipelines import torch_math
from core.diffusers_engine.checkpoints import checkpoints, stop_if_cancelled
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import memory_guard
from core.engine import Job, PixelPreview, Pixels
from core.plan import StreamPlan


def render(model: LoadedModel, plan: StreamPlan, latents: Tensor, job: Job) -> Pixels:
    """Decode `latents` [latent_frames, channels, height, width] to pixels.

    Call this function only on the device thread.

    The latents are first cast to the dtype of the stream. Because of the cast, the rendered pixels equal the pixels
    that a client decodes from the stream. Raises `job.reason` if the job was cancelled. Raises InvalidLatents if the
    latents contain NaN or Inf, and OutOfMemory if the device has too little memory.
    """
    stop_if_cancelled(job)
    with memory_guard(plan):
        values = torch_math.cast(latents, plan.header.dtype.numpy)
        torch_math.require_finite(values)
        variant = model.variant_for(plan)
        vae = variant.pipeline.vae
        with checkpoints(vae, job):
            pixels = decode_latents(vae, values.reshape(latents.shape), variant.family.pipeline_class)
        # Does nothing unless the pipeline offloads its models: then the VAE must leave the device again.
        variant.pipeline.maybe_free_model_hooks()
        return Pixels(pixels)


def render_preview(model: LoadedModel, plan: StreamPlan, estimate: Tensor, job: Job) -> PixelPreview | None:
    """Decode a clean estimate to pixels. See `render`.

    Return None if the estimate contains NaN or infinite values. With some schedules, the first estimates contain NaN or
    infinite values. Raises `job.reason` if the job was cancelled, and OutOfMemory if the device has too little memory.
    """
    try:
        return PixelPreview(render(model, plan, estimate, job).frames)
    except InvalidLatents:
        return None

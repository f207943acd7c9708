"""Makes pixels of what was sampled: exactly those that a reader of the raw stream gets with the same VAE."""

from torch import Tensor

from codec_pixels.vae import decode_latents
from codec_wire.pipelines import torch_math
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import memory_guard, stop_if_cancelled
from core.engine import Job, Pixels
from core.plan import StreamPlan


def render(model: LoadedModel, plan: StreamPlan, latents: Tensor, job: Job) -> Pixels:
    """Return the pictures of `latents`, [frames, channels, height, width]; called from the device thread alone.

    The latents are first cast to the map's dtype, in which they travel: pixels must not depend on where they are made.
    Raises the job's own reason where it was cancelled, InvalidLatents on NaN or Inf, OutOfMemory.
    """
    stop_if_cancelled(job)
    with memory_guard(plan):
        values = torch_math.cast(latents, plan.header.dtype.numpy)
        torch_math.require_finite(values)
        return Pixels(decode_latents(model.pipeline.vae, values.reshape(latents.shape)))

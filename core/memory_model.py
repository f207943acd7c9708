"""Prediction of the memory that a job needs. The prediction uses measurements of small generations at server start."""

from dataclasses import dataclass
from math import prod

from core.decode_plan import DecodePlan
from core.plan import StreamPlan
from core.working_memory import JobMemory

MARGIN = 3
"""Factor by which all predictions are multiplied.

Large generations need more memory than measurements of small generations predict. For example, the embedded model was
measured with 64x64 and 128x64 pixels. For sizes of up to 512x512 pixels, this model needs 2.6 times as much memory for
each additional pixel as in the measurements. A video of 240 frames needs 2.4 times the resident memory that an
extrapolation from 9 frames predicts. See docs/reliability.md.
"""
OVERHEAD = 32 * 2**20
"""Number of bytes that are added to all predictions, for the fixed-size buffers of libraries."""
PIXEL_BYTES = 51
"""Memory in bytes for each decoded pixel: four copies in float32 RGB and one copy in uint8 RGB (codec_pixels.vae)."""
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """Peak memory of a generation in bytes, minus the memory that was in use before the generation.

    `decoding` is 0 if decoding was not measured.
    """

    sampling: int
    decoding: int


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """Prediction of the memory that jobs of one modality of a model need.

    Sampling needs `fixed` bytes, plus `sampling` bytes for each pixel of each latent frame. Decoding needs `decoding`
    bytes for each pixel of a frame. If the VAE decodes all frames together (`decodes_jointly`), the memory for decoding
    is multiplied by the number of latent frames.
    """

    fixed: float
    sampling: float
    decoding: float
    decodes_jointly: bool

    @classmethod
    def fit(
        cls, plan: StreamPlan, peak: PeakMemory, wide_plan: StreamPlan, wide_sampling: int, *, decodes_jointly: bool
    ) -> "MemoryModel":
        """Return a memory model whose predictions are at least the measured values.

        `peak` was measured for `plan`. `wide_sampling` is the peak memory in bytes for sampling `wide_plan`. The plan
        `wide_plan` has more pixels than `plan`, but the same number of frames.
        """
        units, wide_units = _units(plan), _units(wide_plan)
        slope = max(0.0, (wide_sampling - peak.sampling) / (wide_units - units))
        fixed = max(0.0, peak.sampling - slope * units, wide_sampling - slope * wide_units)
        decoding = peak.decoding / (units if decodes_jointly else plan.width * plan.height)
        return cls(fixed, slope, decoding, decodes_jointly)

    def generation(self, plan: StreamPlan) -> JobMemory:
        """Return the predicted memory for the generation of `plan`."""
        sampling = self.fixed + self.sampling * _units(plan)
        if not plan.rendered:
            latents = prod(plan.header.shape) * plan.latent_frames * _FLOAT_BYTES
            return _with_margin(sampling + latents, latents)
        decoding = self._decoding(plan, plan.latent_frames, plan.num_frames)
        # Partial images are decoded while the sampler holds its memory.
        peak = sampling + decoding if plan.partial_images else max(sampling, decoding)
        return _with_margin(peak, plan.width * plan.height * plan.num_frames * 3)

    def received(self, plan: DecodePlan) -> JobMemory:
        """Return the predicted memory for decoding a received stream.

        The VAE decodes frames one by one, unless `decodes_jointly` is set.
        """
        if self.decodes_jointly:
            return _with_margin(self._decoding(plan, plan.latent_frames, plan.num_frames), 0)
        return _with_margin(self._decoding(plan, 1, 1), 0)

    def _decoding(self, plan: StreamPlan | DecodePlan, latent_frames: int, num_frames: int) -> float:
        frames = latent_frames if self.decodes_jointly else 1
        return plan.width * plan.height * (self.decoding * frames + PIXEL_BYTES * num_frames)


def _units(plan: StreamPlan) -> int:
    return plan.width * plan.height * plan.latent_frames


def _with_margin(peak: float, result: int) -> JobMemory:
    return JobMemory(int(peak * MARGIN) + OVERHEAD, result)

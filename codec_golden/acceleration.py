"""Measurement of the switches of fast mode. The speed and the images are compared with reference mode."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isinf
from statistics import fmean, harmonic_mean

import numpy as np

from codec_golden.errors import NotMeasured
from codec_golden.fast_model import FastModel
from codec_golden.fixtures import Fixture
from codec_golden.gate import LpipsMetric
from codec_golden.metrics import psnr_db, ssim_of_frames
from codec_golden.reference import ReferenceModel
from codec_golden.storage import Latents, Pixels
from codec_wire.errors import InvalidSettings
from core.acceleration_store import AccelerationResult
from core.settings import Settings
from core.switches import FAST_DEFAULTS, Switches, parse_switches

OnImage = Callable[[str], None]
"""Function that is called after each pair of images. The argument contains the names of the switches in one string."""

BATCH_SIZE = 8
"""Batch size of the default measurements. Batches are measured alone and together with the defaults of fast mode."""
SINGLE_SWITCHES = (
    "channels_last",
    "compile=full",
    "compile=regional",
    "fused_qkv",
    "step_cache=first_block",
    "step_cache=taylorseer",
    "step_cache=pyramid_attention",
    "step_cache=faster",
    "step_cache=mag",
    "step_cache=cache_dit",
    "guidance_interval=0-0.8",
    "guidance_interval=0-0.04/0.12-0.68/0.84-1",
    "quantization=int8wo",
    "vae_tiling",
    f"batch_size={BATCH_SIZE}",
)
"""The switches of fast mode that are measured by default, each on its own."""


@dataclass(frozen=True, slots=True)
class Shots:
    """The images or videos of one or several requests that were sent at the same time."""

    latents: Sequence[Latents]
    pixels: Sequence[Pixels]
    seconds: float
    """Wall-clock time in seconds until all latents are complete."""
    work_s: float
    """CPU time in seconds if the model runs on a CPU, and wall-clock time in seconds if the model runs on a GPU.

    Other processes affect CPU time less than wall-clock time.
    """

    def differ_from(self, other: "Shots") -> bool:
        """Return whether the latents or the pixels differ from the latents or the pixels of `other`."""
        return any(
            not (np.array_equal(latents, other_latents) and np.array_equal(pixels, other_pixels))
            for latents, other_latents, pixels, other_pixels in zip(
                self.latents, other.latents, self.pixels, other.pixels, strict=True
            )
        )


@dataclass
class Measurement:
    """Results of the measured sets of switches.

    `unavailable` contains the sets of switches that the model does not support, and the reason for each set.
    """

    results: list[AccelerationResult] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    reference_images_per_s: float = 0.0
    reference_images_per_s_concurrent: float | None = None
    reference_peak_bytes: int | None = None


def default_sets(concurrent: int) -> list[Switches]:
    """Return the sets of switches that are measured by default with `concurrent` requests at once.

    Each switch is a separate set. The default switches of fast mode together are another set. If the requests fill a
    batch, the default switches together with batches are a further set.
    """
    defaults = Switches(**FAST_DEFAULTS)
    sets = [*map(parse_switches, SINGLE_SWITCHES), defaults, replace(defaults, batch_size=BATCH_SIZE)]
    return [one for one in sets if one.batch_size <= max(1, concurrent)]


def seeded(fixtures: Mapping[str, Fixture], images: int) -> list[Fixture]:
    """Return `images` copies of each fixture with consecutive seeds, beginning with the seed of the fixture."""
    return [
        fixture.model_copy(update={"seed": fixture.seed + number})
        for fixture in fixtures.values()
        for number in range(images)
    ]


@dataclass(frozen=True, slots=True)
class SwitchMeter:
    """Comparison of sets of fast-mode switches with `reference`, a model in reference mode.

    Each fixture is generated first in reference mode and then in fast mode.
    """

    settings: Settings
    reference: ReferenceModel
    fixtures: Sequence[Fixture]
    lpips: LpipsMetric | NotMeasured
    concurrent: Sequence[Fixture] = ()
    """Fixtures that are requested at the same time, first in reference mode and then with the switches.

    If `concurrent` is empty, the speed of concurrent requests is not measured.
    """

    def measure(self, sets: Sequence[Switches], on_image: OnImage) -> Measurement:
        """Measure every set.

        Sets of switches that the model does not support are reported in Measurement.unavailable. Raises CodecError.
        """
        measurement = Measurement()
        for switches in sets:
            label = "+".join(switches.names) or "none"
            try:
                model = FastModel(self.settings, switches)
            except InvalidSettings as error:
                measurement.unavailable[label] = str(error)
                on_image(label)
                continue
            try:
                if any(set(model.switches) == set(result.switches) for result in measurement.results):
                    continue  # e.g. the defaults, without the switches that the model cannot have
                result = self._measure(model, lambda label=label: on_image(label))  # type: ignore[misc]
            finally:
                model.close()
            measurement.results.append(result)
        measurement.reference_peak_bytes = self.reference.peak_memory(self.fixtures[0])
        if results := measurement.results:
            # Every set has as many images of the reference, so that the rate of all images is the harmonic mean.
            measurement.reference_images_per_s = harmonic_mean(
                [one.reference_images_per_s for one in results if one.reference_images_per_s is not None]
            )
            if self.concurrent:
                measurement.reference_images_per_s_concurrent = harmonic_mean(
                    [rate for one in results if (rate := one.reference_images_per_s_concurrent) is not None]
                )
        return measurement

    def _measure(self, model: FastModel, on_image: Callable[[], None]) -> AccelerationResult:
        peak_bytes = model.peak_memory(self.fixtures[0])  # on a CPU, a compiled model cannot be measured
        model.compile([*self.fixtures, *self.concurrent])
        if model.torch_device.type != "cpu":
            peak_bytes = model.peak_memory(self.fixtures[0])
        self._shoot(model, self.fixtures[:1])  # the first generation also fills caches
        pairs = []
        for fixture in self.fixtures:
            pairs.append((self._shoot(self.reference, [fixture]), self._shoot(model, [fixture])))
            on_image()
        references, fast = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        together = None
        if self.concurrent:
            together = self._shoot(self.reference, self.concurrent), self._shoot(model, self.concurrent)
            pairs.append(together)
            on_image()
        images = [two for one, other in pairs for two in zip(one.pixels, other.pixels, strict=True)]
        ssim = [fmean(ssim_of_frames(one, other)) for one, other in images]
        psnr = min(psnr_db(one, other) for one, other in images)
        return AccelerationResult(
            switches=model.switches,
            speed=sum(shot.work_s for shot in references) / sum(shot.work_s for shot in fast),
            speed_concurrent=together[0].work_s / together[1].work_s if together else None,
            images_per_s=len(fast) / sum(shot.seconds for shot in fast),
            images_per_s_concurrent=len(self.concurrent) / together[1].seconds if together else None,
            reference_images_per_s=len(references) / sum(shot.seconds for shot in references),
            reference_images_per_s_concurrent=len(self.concurrent) / together[0].seconds if together else None,
            concurrent=len(self.concurrent) or None,
            peak_bytes=peak_bytes,
            ssim=min(ssim),
            ssim_mean=fmean(ssim),
            psnr_db=None if isinf(psnr) else psnr,
            lpips=max(self._lpips(images), default=None),
            moves_reference=any(one.differ_from(other) for one, other in pairs),
            images=len(images),
        )

    def _lpips(self, pairs: Sequence[tuple[Pixels, Pixels]]) -> Iterator[float]:
        if not isinstance(self.lpips, NotMeasured):
            for one, other in pairs:
                yield self.lpips(one, other)

    def _shoot(self, model: ReferenceModel, fixtures: Sequence[Fixture]) -> Shots:
        """Generate `fixtures` as requests that are sent at the same time."""
        started_at, cpu = time.perf_counter(), time.process_time()
        latents = model.latents_of_concurrent(fixtures, lambda _done, _total: None)
        seconds, cpu_s = time.perf_counter() - started_at, time.process_time() - cpu
        is_cpu = model.torch_device.type == "cpu"
        return Shots(latents, [model.pixels(one) for one in latents], seconds, cpu_s if is_cpu else seconds)

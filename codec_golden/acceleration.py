"""Measurement of the switches of fast mode: their speed, and the difference of their images from reference mode."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from statistics import fmean

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
"""Function that is called after each image with the names of the switches."""

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
    "guidance_interval=0-0.8",
    "guidance_interval=0-0.04/0.16-0.64/0.84-1",
    "quantization=int8wo",
    "vae_tiling",
)
"""The switches of fast mode that are measured by default, each on its own."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One generated image or video."""

    latents: Latents
    pixels: Pixels
    seconds: float
    """Wall-clock time until the latents are complete."""
    work_s: float
    """CPU time if the model runs on a CPU, because other processes affect it less. Otherwise the wall-clock time."""

    def differs_from(self, other: "Shot") -> bool:
        """Return whether a byte of the latents or of the pixels differs."""
        return not (np.array_equal(self.latents, other.latents) and np.array_equal(self.pixels, other.pixels))


@dataclass
class Measurement:
    """The results so far, and the reason for each set of switches that the model does not support."""

    results: list[AccelerationResult] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    reference_images_per_s: float = 0.0
    reference_peak_bytes: int | None = None


def default_sets() -> list[Switches]:
    """Return the sets of switches that are measured by default: single switches, then the defaults of fast mode."""
    return [*map(parse_switches, SINGLE_SWITCHES), Switches(**FAST_DEFAULTS)]


def seeded(fixtures: Mapping[str, Fixture], images: int) -> list[Fixture]:
    """Return `images` copies of each fixture with consecutive seeds, beginning with the seed of the fixture."""
    return [
        fixture.model_copy(update={"seed": fixture.seed + number})
        for fixture in fixtures.values()
        for number in range(images)
    ]


@dataclass(frozen=True, slots=True)
class SwitchMeter:
    """Compares sets of switches of fast mode with `reference`. Each fixture is generated in both modes in turn."""

    settings: Settings
    reference: ReferenceModel
    fixtures: Sequence[Fixture]
    lpips: LpipsMetric | NotMeasured
    concurrent: int = 0
    """Number of concurrent requests in a second measurement of the speed. 0 omits this measurement."""

    def measure(self, sets: Sequence[Switches], on_image: OnImage) -> Measurement:
        """Measure every set of switches. Unsupported sets are reported in `unavailable`. Raises CodecError."""
        measurement, shots = Measurement(), []
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
                result, references = self._measure(model, lambda label=label: on_image(label))  # type: ignore[misc]
            finally:
                model.close()
            measurement.results.append(result)
            shots += references
        measurement.reference_peak_bytes = self.reference.peak_memory(self.fixtures[0])
        if shots:
            measurement.reference_images_per_s = len(shots) / sum(shot.seconds for shot in shots)
        return measurement

    def _measure(self, model: FastModel, on_image: Callable[[], None]) -> tuple[AccelerationResult, list[Shot]]:
        model.compile(self.fixtures, max(1, self.concurrent))
        self._shoot(model, self.fixtures[0])  # the first generation also fills caches
        pairs = []
        for fixture in self.fixtures:
            pairs.append((self._shoot(self.reference, fixture), self._shoot(model, fixture)))
            on_image()
        references, fast = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        images = [(one.pixels, other.pixels) for one, other in pairs]
        ssim = [fmean(ssim_of_frames(one, other)) for one, other in images]
        psnr = min(psnr_db(one, other) for one, other in images)
        result = AccelerationResult(
            switches=model.switches,
            speed=sum(shot.work_s for shot in references) / sum(shot.work_s for shot in fast),
            images_per_s=len(fast) / sum(shot.seconds for shot in fast),
            images_per_s_concurrent=self._concurrent_speed(model),
            peak_bytes=model.peak_memory(self.fixtures[0]),
            ssim=min(ssim),
            ssim_mean=fmean(ssim),
            psnr_db=None if isinf(psnr) else psnr,
            lpips=max(self._lpips(images), default=None),
            moves_reference=any(one.differs_from(other) for one, other in pairs),
            images=len(pairs),
        )
        return result, references

    def _lpips(self, pairs: Sequence[tuple[Pixels, Pixels]]) -> Iterator[float]:
        if not isinstance(self.lpips, NotMeasured):
            for one, other in pairs:
                yield self.lpips(one, other)

    def _concurrent_speed(self, model: FastModel) -> float | None:
        if not self.concurrent:
            return None
        requests = [self.fixtures[number % len(self.fixtures)] for number in range(self.concurrent)]
        started_at = time.perf_counter()
        model.generate_together(requests)
        return len(requests) / (time.perf_counter() - started_at)

    def _shoot(self, model: ReferenceModel, fixture: Fixture) -> Shot:
        started_at, cpu = time.perf_counter(), time.process_time()
        latents = model.latents(fixture, lambda _done, _total: None)
        seconds, cpu_s = time.perf_counter() - started_at, time.process_time() - cpu
        is_cpu = model.torch_device.type == "cpu"
        return Shot(latents, model.pixels(latents), seconds, cpu_s if is_cpu else seconds)

"""The quality gate, which compares encoded bytes exactly and decoded pixels by metrics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from codec_golden.errors import NotMeasured
from codec_golden.metrics import psnr_db, ssim_of_frames, temporal_ssim
from codec_golden.storage import GoldenFixture, Pixels, frame_name, read_images
from codec_golden.vectors import failing_vectors
from codec_golden.vmaf import vmaf
from codec_golden.wire import FixtureStream, usable_pipelines
from codec_golden.wire_check import WireCheck
from codec_wire.maps import LatentMapBundle, MapPipeline
from codec_wire.maps.document import QualityThresholds

LpipsMetric = Callable[[Pixels, Pixels], float]
Decode = Callable[[Any], Pixels]
"""Function that decodes latents [frames, C, h, w] to pixels.

The latents are not yet divided by the VAE's scaling factor.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Result of the quality gate for one fixture and one encoding pipeline.

    `bits` lists the faults of the encoded bytes, or has the value None if the bytes were not checked. `measured` is a
    dictionary of the measured values by the name of the metric. `not_measured` contains the reasons why metrics are
    missing. `missed` lists the bounds that are not met.
    """

    latent_space: str
    suite: str
    fixture: str
    pipeline: str
    wire_bytes: int | None
    bits: list[str] | None
    measured: dict[str, float]
    not_measured: dict[str, str]
    thresholds: QualityThresholds | None
    missed: list[str]
    worst_frame: int
    reference: Pixels = field(repr=False)
    images: Pixels = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether the encoded bytes have no faults and all checked bounds are met."""
        return not self.bits and not self.missed


@dataclass(frozen=True, slots=True)
class Gate:
    """Evaluates golden fixtures with a latent-space map and metrics.

    `lpips` is the LPIPS metric, or the reason why LPIPS is not available.
    """

    bundle: LatentMapBundle
    lpips: LpipsMetric | NotMeasured

    def evaluate_encoded(self, fixtures: Sequence[GoldenFixture], decode: Decode, device: Any) -> Iterator[Row]:
        """Encode and decode each fixture with each pipeline of the map, and yield a row for each fixture and pipeline.

        `decode` decodes latents to pixels with the VAE of the map. Latents are quantized both as NumPy arrays and as
        tensors on the torch `device`.
        """
        failing = failing_vectors()
        for golden in fixtures:
            latents, reference = golden.latents(), golden.pixels()
            for entry in usable_pipelines(self.bundle, golden.manifest.fixture):
                stream = FixtureStream.of(golden.manifest.fixture, golden.manifest.latent_shape, self.bundle, entry)
                wire = WireCheck(stream, latents, device)
                bits = failing.get(entry.name, []) + wire.faults
                # If decoding failed, compare with black images.
                images = np.zeros_like(reference) if wire.decoded is None else decode(wire.decoded)
                yield self._row(golden, entry, reference, images, wire_bytes=wire.size, bits=bits)

    def evaluate_images(self, fixtures: Sequence[GoldenFixture], folder: Path) -> Iterator[Row]:
        """Compare another decoder's images with the reference images, and yield a row for each fixture and pipeline.

        In `folder`, the file of an image is FIXTURE/PIPELINE.png. The files of a video are
        FIXTURE/PIPELINE/frame_0000.png and so on. Raises InvalidSettings if an image is missing from a video or cannot
        be read.
        """
        for golden in fixtures:
            for entry in usable_pipelines(self.bundle, golden.manifest.fixture):
                paths = external_image_paths(folder, golden, entry.name)
                if not paths[0].is_file():
                    continue
                reference, images = golden.pixels(), read_images(paths)
                if images.shape != reference.shape:
                    size = f"{images.shape[2]}x{images.shape[1]}"
                    yield self._size_mismatch_row(golden, entry, reference, size)
                else:
                    yield self._row(golden, entry, reference, images)

    def _size_mismatch_row(self, golden: GoldenFixture, entry: MapPipeline, reference: Pixels, size: str) -> Row:
        row = self._row(golden, entry, reference[:1], np.zeros_like(reference[:1]))
        reason = f"the size must be that of the reference, {reference.shape[2]}x{reference.shape[1]}, got {size}"
        not_measured = dict.fromkeys((*row.measured, *row.not_measured), reason)
        return replace(row, measured={}, not_measured=not_measured, missed=[reason])

    def _row(
        self,
        golden: GoldenFixture,
        entry: MapPipeline,
        reference: Pixels,
        images: Pixels,
        *,
        wire_bytes: int | None = None,
        bits: list[str] | None = None,
    ) -> Row:
        measured, not_measured, worst = self._measure(golden, reference, images)
        return Row(
            latent_space=golden.manifest.latent_space_id,
            suite=golden.manifest.suite,
            fixture=golden.key,
            pipeline=entry.name,
            wire_bytes=wire_bytes,
            bits=bits,
            measured=measured,
            not_measured=not_measured,
            thresholds=entry.quality_thresholds,
            missed=missed_bounds(measured, entry.quality_thresholds),
            worst_frame=worst,
            reference=reference,
            images=images,
        )

    def _measure(
        self, golden: GoldenFixture, reference: Pixels, images: Pixels
    ) -> tuple[dict[str, float], dict[str, str], int]:
        """Return the metrics, the reasons why metrics are missing, and the number of the frame with the lowest SSIM."""
        frames = ssim_of_frames(reference, images)
        measured = {"ssim": float(np.mean(frames)), "psnr_db": psnr_db(reference, images)}
        not_measured: dict[str, str] = {}
        optional: dict[str, Callable[[], float]] = {"lpips": lambda: self._lpips(reference, images)}
        fps, temporal = golden.manifest.fixture.fps, temporal_ssim(reference, images)
        if fps is not None:
            optional["vmaf"] = lambda: vmaf(reference, images, fps)
        if temporal is not None:
            measured["temporal_ssim"] = temporal
        for name, metric in optional.items():
            try:
                measured[name] = metric()
            except NotMeasured as error:
                not_measured[name] = str(error)
        return measured, not_measured, int(np.argmin(frames))

    def _lpips(self, reference: Pixels, images: Pixels) -> float:
        if isinstance(self.lpips, NotMeasured):
            raise NotMeasured(str(self.lpips))
        return self.lpips(reference, images)


def missed_bounds(measured: dict[str, float], thresholds: QualityThresholds | None) -> list[str]:
    """Return a line for each bound in `thresholds` that `measured` does not meet.

    The bound of a metric that is missing in `measured` is not checked.
    """
    if thresholds is None:
        return []
    missed = []
    for name, bound, is_minimum in (
        ("ssim", thresholds.ssim_min, True),
        ("psnr_db", thresholds.psnr_min_db, True),
        ("lpips", thresholds.lpips_max, False),
    ):
        value = measured.get(name)
        if bound is None or value is None:
            continue
        if (value < bound) if is_minimum else (value > bound):
            missed.append(f"{name} must be at {'least' if is_minimum else 'most'} {bound:g}, got {value:.4f}")
    return missed


def external_image_paths(folder: Path, golden: GoldenFixture, pipeline: str) -> list[Path]:
    """Return the paths of the images that another decoder produced for a fixture and an encoding pipeline."""
    if golden.manifest.fixture.kind == "image":
        return [folder / golden.key / f"{pipeline}.png"]
    return [folder / golden.key / pipeline / frame_name(number) for number in range(golden.manifest.fixture.frames)]

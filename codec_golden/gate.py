"""The gate: every fixture by every pipeline, judged bit by bit on the wire and by eye-like metrics on the screen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
"""The VAE: latents as they travel to pictures."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fixture by one pipeline.

    `bits` is None where the wire was not looked at, else what is wrong with it: nothing is good. `measured` holds the
    metrics by name, `not_measured` why the others are missing. `missed` names every bound that was not kept.
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
    pictures: Pixels = field(repr=False)

    @property
    def passed(self) -> bool:
        """Whether the wire is right and every bound that was looked at is kept."""
        return not self.bits and not self.missed


@dataclass(frozen=True, slots=True)
class Gate:
    """What fixtures are judged with. `lpips` is the metric, or why there is none."""

    bundle: LatentMapBundle
    lpips: LpipsMetric | NotMeasured

    def evaluate_encoded(self, fixtures: Sequence[GoldenFixture], decode: Decode, device: Any) -> Iterator[Row]:
        """Yield a row for each fixture and pipeline, sent for real and decoded by our own decoder.

        `decode` is the map's VAE; latents are quantized as NumPy arrays and as tensors on the torch `device`.
        """
        broken = failing_vectors()
        for golden in fixtures:
            latents, reference = golden.latents(), golden.pixels()
            for entry in usable_pipelines(self.bundle, golden.manifest.fixture):
                plan = FixtureStream.of(golden.manifest.fixture, golden.manifest.latent_shape, self.bundle, entry)
                wire = WireCheck(plan, latents, device)
                bits = broken.get(entry.name, []) + wire.complaints
                # Nothing can be shown of a stream that cannot be read.
                pictures = np.zeros_like(reference) if wire.arrived is None else decode(wire.arrived)
                yield self._row(golden, entry, reference, pictures, wire_bytes=wire.size, bits=bits)

    def evaluate_images(self, fixtures: Sequence[GoldenFixture], folder: Path) -> Iterator[Row]:
        """Yield a row for each fixture and pipeline of which another decoder's pictures lie in `folder`.

        An image is FIXTURE/PIPELINE.png, a video FIXTURE/PIPELINE/frame_0000.png and so on. Raises InvalidSettings for
        pictures that cannot be read or are too few.
        """
        for golden in fixtures:
            for entry in usable_pipelines(self.bundle, golden.manifest.fixture):
                paths = external_image_paths(folder, golden, entry.name)
                if not paths[0].is_file():
                    continue
                reference, pictures = golden.pixels(), read_images(paths)
                if pictures.shape != reference.shape:
                    size = f"{pictures.shape[2]}x{pictures.shape[1]}"
                    yield self._size_mismatch_row(golden, entry, reference, size)
                else:
                    yield self._row(golden, entry, reference, pictures)

    def _size_mismatch_row(self, golden: GoldenFixture, entry: MapPipeline, reference: Pixels, size: str) -> Row:
        row = self._row(golden, entry, reference[:1], np.zeros_like(reference[:1]))
        reason = f"the pictures are {size}, the reference is {reference.shape[2]}x{reference.shape[1]}"
        nothing = dict.fromkeys((*row.measured, *row.not_measured), reason)
        return Row(**{**_fields(row), "measured": {}, "not_measured": nothing, "missed": [reason]})

    def _row(
        self,
        golden: GoldenFixture,
        entry: MapPipeline,
        reference: Pixels,
        pictures: Pixels,
        *,
        wire_bytes: int | None = None,
        bits: list[str] | None = None,
    ) -> Row:
        measured, not_measured, worst = self._measure(golden, reference, pictures)
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
            pictures=pictures,
        )

    def _measure(
        self, golden: GoldenFixture, reference: Pixels, pictures: Pixels
    ) -> tuple[dict[str, float], dict[str, str], int]:
        frames = ssim_of_frames(reference, pictures)
        measured = {"ssim": float(np.mean(frames)), "psnr_db": psnr_db(reference, pictures)}
        not_measured: dict[str, str] = {}
        wanted: dict[str, Callable[[], float]] = {"lpips": lambda: self._lpips(reference, pictures)}
        fps, moving = golden.manifest.fixture.fps, temporal_ssim(reference, pictures)
        if fps is not None:
            wanted["vmaf"] = lambda: vmaf(reference, pictures, fps)
        if moving is not None:
            measured["temporal_ssim"] = moving
        for name, metric in wanted.items():
            try:
                measured[name] = metric()
            except NotMeasured as error:
                not_measured[name] = str(error)
        return measured, not_measured, int(np.argmin(frames))

    def _lpips(self, reference: Pixels, pictures: Pixels) -> float:
        if isinstance(self.lpips, NotMeasured):
            raise NotMeasured(str(self.lpips))
        return self.lpips(reference, pictures)


def missed_bounds(measured: dict[str, float], thresholds: QualityThresholds | None) -> list[str]:
    """Return a line for each of a map's bounds that `measured` does not keep; what was not measured misses none."""
    if thresholds is None:
        return []
    missed = []
    for name, bound, at_least in (
        ("ssim", thresholds.ssim_min, True),
        ("psnr_db", thresholds.psnr_min_db, True),
        ("lpips", thresholds.lpips_max, False),
    ):
        value = measured.get(name)
        if bound is None or value is None:
            continue
        if (value < bound) if at_least else (value > bound):
            missed.append(f"{name} {value:.4f} is {'under' if at_least else 'over'} {bound:g}")
    return missed


def external_image_paths(folder: Path, golden: GoldenFixture, pipeline: str) -> list[Path]:
    """Return where another decoder's pictures of a fixture by a pipeline are looked for."""
    if golden.manifest.fixture.kind == "image":
        return [folder / golden.key / f"{pipeline}.png"]
    return [folder / golden.key / pipeline / frame_name(number) for number in range(golden.manifest.fixture.frames)]


def _fields(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}

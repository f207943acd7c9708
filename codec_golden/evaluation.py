"""Evaluation of golden fixtures by the quality gate, with a latent-space map, a VAE and metrics."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codec_client import fetch_map
from codec_golden.errors import NotMeasured
from codec_golden.gate import Gate, LpipsMetric, Row
from codec_golden.manifest import Environment
from codec_golden.result_table import collect_notes, result_json
from codec_golden.storage import GoldenFixture, find_fixtures
from codec_golden.wire import FixtureStream, encode_body, usable_pipelines
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder, find_bundle_folder
from core.settings import Settings

ProgressContext = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""Function that takes the expected number of rows and returns a context manager.

Entering the context manager returns a function that is called with the name of each finished row.
"""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The result of the quality gate. `environment` is only set if this process decoded the images."""

    rows: list[Row]
    fixtures: list[GoldenFixture]
    bundle: LatentMapBundle
    environment: Environment | None

    @property
    def passed(self) -> bool:
        """Whether every row of the result passed the quality gate."""
        return all(row.passed for row in self.rows)

    @property
    def suite(self) -> str:
        """The name of the fixture suite."""
        return self.fixtures[0].manifest.suite

    @property
    def json(self) -> dict[str, Any]:
        """The complete result as JSON-compatible values."""
        return result_json(self.rows, self.notes, self.bundle.hash, self.environment)

    @property
    def notes(self) -> list[str]:
        """Messages about faults, metrics that were not measured, and differences from the reference environment."""
        notes = collect_notes(self.rows)
        for golden in self.fixtures:
            built_on = golden.manifest.environment
            notes += [
                f"{golden.key} was not built with the pinned versions: {line}" for line in built_on.pin_differences
            ]
            if self.environment is not None:
                differences = built_on.differences_to(self.environment)
                notes += [f"{golden.key} was built in a different environment: {line}" for line in differences]
        return notes


def evaluate(
    settings: Settings,
    folder: Path,
    names: Sequence[str] | None,
    latent_map: str | None,
    pixels: Path | None,
    *,
    progress: ProgressContext,
) -> EvaluationResult:
    """Run the quality gate on the fixtures `names` in `folder`, or on all fixtures if `names` is not given.

    `pixels` is a folder with images that another decoder produced. If `pixels` is given, the images in `pixels` are
    evaluated and no model is loaded. `latent_map` is the folder of a bundle or the address of a server. If `latent_map`
    is not given, the map in the models directory is used. Raises InvalidSettings or InvalidMap if a fixture or the map
    is not valid, and ModelLoadError if the VAE cannot be loaded.
    """
    lpips = load_lpips_metric(settings)
    if pixels is not None:
        fixtures = find_fixtures(folder, settings.latent_space, names)
        bundle = find_map(fixtures, latent_map, settings.models_dir)
        gate = Gate(bundle, lpips)
        rows = _collect_rows(gate.evaluate_images(fixtures, pixels), fixtures, bundle, progress)
        if not rows:
            raise InvalidSettings(
                f"--pixels: {pixels} does not contain FIXTURE/PIPELINE.png or FIXTURE/PIPELINE/frame_0000.png"
            )
        return EvaluationResult(rows, fixtures, bundle, None)
    from codec_golden.reference import ReferenceModel  # noqa: PLC0415 - torch is not needed with `pixels`

    model = ReferenceModel(settings)
    try:
        fixtures = find_fixtures(folder, model.info.latent_space, names)
        bundle = find_map(fixtures, latent_map, settings.models_dir)
        gate = Gate(bundle, lpips)
        found = gate.evaluate_encoded(fixtures, model.pixels, model.torch_device)
        return EvaluationResult(_collect_rows(found, fixtures, bundle, progress), fixtures, bundle, model.environment)
    finally:
        model.close()


def _collect_rows(
    rows: Iterator[Row], fixtures: Sequence[GoldenFixture], bundle: LatentMapBundle, progress: ProgressContext
) -> list[Row]:
    total = sum(len(usable_pipelines(bundle, golden.manifest.fixture)) for golden in fixtures)
    collected = []
    with progress(total) as on_row:
        for row in rows:
            collected.append(row)
            on_row(f"{row.fixture} {row.pipeline}")
    return collected


def load_lpips_metric(settings: Settings) -> LpipsMetric | NotMeasured:
    """Return the metric LPIPS with the backbone from `settings`, or the reason why LPIPS is not available."""
    try:
        from codec_golden.lpips import load_lpips  # noqa: PLC0415 - torch is slow to import, and optional with `pixels`
    except ModuleNotFoundError as error:
        return NotMeasured(f"{error.name} is not installed")
    try:
        return load_lpips(settings.lpips_backbone)
    except NotMeasured as error:
        return error


def find_map(fixtures: Sequence[GoldenFixture], location: str | None, models_dir: Path) -> LatentMapBundle:
    """Return the map at `location`, which is a folder or the address of a server.

    If `location` is not given, return the map of the fixtures' latent space in `models_dir`. Raises InvalidMap if the
    map is invalid, and InvalidSettings if the map is missing or the map and the fixtures have different latent spaces.
    """
    manifest = fixtures[0].manifest
    spaces = {golden.manifest.latent_space_id for golden in fixtures}
    if len(spaces) > 1:
        raise InvalidSettings(
            f"the fixtures have different latent spaces ({', '.join(sorted(spaces))}); select a latent space with "
            "--latent-space"
        )
    if location is None:
        folder = find_bundle_folder(models_dir, manifest.latent_space_id)
        if folder is None:
            raise InvalidSettings(
                f"no latent-space map found in {bundle_folder(models_dir, manifest.latent_space_id)}; "
                "create one with `codec-diffusers map build`"
            )
        bundle = LatentMapBundle.from_folder(folder)
    elif location.startswith(("http://", "https://")):
        bundle = asyncio.run(fetch_map(location, manifest.latent_space_id))
    else:
        bundle = LatentMapBundle.from_folder(Path(location))
    found = bundle.latent_map
    if found.id != manifest.latent_space_id or found.shape[0] != manifest.latent_shape[0]:
        raise InvalidSettings(
            f"the map and the fixtures do not match: the map has the latent space {found.id} with {found.shape[0]} "
            f"channels, but the fixtures have the latent space {manifest.latent_space_id} with "
            f"{manifest.latent_shape[0]} channels"
        )
    return bundle


def write_streams(
    settings: Settings, folder: Path, names: Sequence[str] | None, latent_map: str | None, output: Path
) -> Iterator[tuple[Path, int]]:
    """Encode every fixture with every pipeline of the map in both wire formats.

    Yield the path and the size in bytes of each file that was written. Raises InvalidSettings if a fixture or the map
    is missing, and InvalidMap if the map is invalid.
    """
    fixtures = find_fixtures(folder, settings.latent_space, names)
    bundle = find_map(fixtures, latent_map, settings.models_dir)
    for golden in fixtures:
        latents, fixture = golden.latents(), golden.manifest.fixture
        (output / golden.key).mkdir(parents=True, exist_ok=True)
        for entry in usable_pipelines(bundle, fixture):
            stream = FixtureStream.of(fixture, golden.manifest.latent_shape, bundle, entry)
            for wire_format in WireFormat:
                path = output / golden.key / f"{entry.name}.{wire_format}"
                body = encode_body(stream, latents, wire_format)
                path.write_bytes(body)
                yield path, len(body)

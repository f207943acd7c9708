"""Brings together what a judgement needs: fixtures, a map, a VAE and the metrics there are."""

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
from codec_golden.wire import FixtureStream, body_of, usable_pipelines
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder, find_bundle_folder
from core.settings import Settings

ProgressContext = Callable[[int], AbstractContextManager[Callable[[str], None]]]
"""Given the number of rows to come, a context whose value is called with the name of each one done."""


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What the gate found. `environment` is ours where we decoded, None where others did."""

    rows: list[Row]
    fixtures: list[GoldenFixture]
    bundle: LatentMapBundle
    environment: Environment | None

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return all(row.passed for row in self.rows)

    @property
    def suite(self) -> str:
        """The name of the suite the fixtures are of."""
        return self.fixtures[0].manifest.suite

    @property
    def json(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return result_json(self.rows, self.notes, self.bundle.hash, self.environment)

    @property
    def notes(self) -> list[str]:
        """What a reader should know beside the rows: complaints, what is not measured, where the reference differs."""
        notes = collect_notes(self.rows)
        for golden in self.fixtures:
            made_on = golden.manifest.environment
            notes += [f"{golden.key} was not made with the pinned versions: {line}" for line in made_on.pin_differences]
            if self.environment is not None:
                around = made_on.differences_to(self.environment)
                notes += [f"{golden.key} was made elsewhere: {line}" for line in around]
        return notes


def evaluate(
    settings: Settings,
    folder: Path,
    names: Sequence[str] | None,
    latent_map: str | None,
    pixels: Path | None,
    *,
    listener: ProgressContext,
) -> EvaluationResult:
    """Return the judgement of the fixtures `names` in `folder`; of the pictures in `pixels`, where that is given.

    `latent_map` is a bundle's folder or a server's address, None for the one in the models directory. Raises
    InvalidSettings, InvalidMap, and ModelLoadError where a model must be loaded.
    """
    lpips = _lpips(settings)
    if pixels is not None:
        fixtures = find_fixtures(folder, settings.latent_space, names)
        bundle = find_map(fixtures, latent_map, settings.models_dir)
        gate = Gate(bundle, lpips)
        rows = _collect_rows(gate.evaluate_images(fixtures, pixels), fixtures, bundle, listener)
        if not rows:
            raise InvalidSettings(f"{pixels} holds no FIXTURE/PIPELINE.png and no FIXTURE/PIPELINE/frame_0000.png")
        return EvaluationResult(rows, fixtures, bundle, None)
    from codec_golden.reference import ReferenceModel  # noqa: PLC0415 - judging others' pictures needs no model

    model = ReferenceModel(settings)
    try:
        fixtures = find_fixtures(folder, model.info.latent_space, names)
        bundle = find_map(fixtures, latent_map, settings.models_dir)
        gate = Gate(bundle, lpips)
        found = gate.evaluate_encoded(fixtures, model.pixels, model.torch_device)
        return EvaluationResult(_collect_rows(found, fixtures, bundle, listener), fixtures, bundle, model.environment)
    finally:
        model.close()


def _collect_rows(
    rows: Iterator[Row], fixtures: Sequence[GoldenFixture], bundle: LatentMapBundle, listener: ProgressContext
) -> list[Row]:
    total = sum(len(usable_pipelines(bundle, golden.manifest.fixture)) for golden in fixtures)
    found = []
    with listener(total) as done:
        for row in rows:
            found.append(row)
            done(f"{row.fixture} {row.pipeline}")
    return found


def _lpips(settings: Settings) -> LpipsMetric | NotMeasured:
    try:
        from codec_golden.lpips import load_lpips  # noqa: PLC0415 - torch takes seconds, and may not be there
    except ModuleNotFoundError as error:
        return NotMeasured(f"{error.name} is not installed")
    try:
        return load_lpips(settings.lpips_backbone)
    except NotMeasured as error:
        return error


def find_map(fixtures: Sequence[GoldenFixture], place: str | None, models_dir: Path) -> LatentMapBundle:
    """Return the map at `place`, or the one of the fixtures' latent space below the models directory.

    Raises InvalidMap for a broken one, InvalidSettings where there is none or it is of other latents.
    """
    manifest = fixtures[0].manifest
    spaces = {golden.manifest.latent_space_id for golden in fixtures}
    if len(spaces) > 1:
        raise InvalidSettings(f"the fixtures are of {', '.join(sorted(spaces))}: name one with --latent-space")
    if place is None:
        folder = find_bundle_folder(models_dir, manifest.latent_space_id)
        if folder is None:
            raise InvalidSettings(
                f"there is no latent-space map in {bundle_folder(models_dir, manifest.latent_space_id)}: "
                "make one with `codec-diffusers map build`"
            )
        bundle = LatentMapBundle.from_folder(folder)
    elif place.startswith(("http://", "https://")):
        bundle = asyncio.run(fetch_map(place, manifest.latent_space_id))
    else:
        bundle = LatentMapBundle.from_folder(Path(place))
    found = bundle.latent_map
    if found.id != manifest.latent_space_id or found.shape[0] != manifest.latent_shape[0]:
        raise InvalidSettings(
            f"the map is of {found.id} with {found.shape[0]} channels, "
            f"the fixtures are of {manifest.latent_space_id} with {manifest.latent_shape[0]}"
        )
    return bundle


def write_streams(
    settings: Settings, folder: Path, names: Sequence[str] | None, latent_map: str | None, output: Path
) -> Iterator[tuple[Path, int]]:
    """Write every fixture by every pipeline of the map, in both envelopes; yield each file and its size in bytes.

    Raises InvalidSettings, InvalidMap.
    """
    fixtures = find_fixtures(folder, settings.latent_space, names)
    bundle = find_map(fixtures, latent_map, settings.models_dir)
    for golden in fixtures:
        latents, fixture = golden.latents(), golden.manifest.fixture
        (output / golden.key).mkdir(parents=True, exist_ok=True)
        for entry in usable_pipelines(bundle, fixture):
            plan = FixtureStream.of(fixture, golden.manifest.latent_shape, bundle, entry)
            for wire_format in WireFormat:
                path, body = output / golden.key / f"{entry.name}.{wire_format}", body_of(plan, latents, wire_format)
                path.write_bytes(body)
                yield path, len(body)

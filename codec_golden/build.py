"""Generation of golden fixtures, and comparison with fixtures that were generated earlier."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from codec_golden.captures import has_capture, read_capture
from codec_golden.fixtures import Fixture, FixtureSuite
from codec_golden.manifest import Manifest, Times
from codec_golden.reference import OnStep, ReferenceModel
from codec_golden.storage import GoldenFixture, Latents, Pixels, find_fixtures, fixture_at, latents_to_bytes
from codec_wire.errors import InvalidSettings
from codec_wire.maps.bundle import sha256


@dataclass(frozen=True, slots=True)
class BuiltFixture:
    """A generated golden fixture that has not yet been written to disk."""

    golden: GoldenFixture
    latents: Latents
    pixels: Pixels

    def write(self) -> None:
        """Write the manifest, latents and reference images to the fixture's folder."""
        self.golden.write(self.latents, self.pixels)


@dataclass(frozen=True, slots=True)
class FixtureCheck:
    """Comparison of a stored fixture with the same fixture generated again.

    `changed` lists the parts that differ, such as "latents" and "pixels". `environment` lists the differences between
    the environments in which the two fixtures were generated. `max_difference` is the largest difference of a pixel
    value, a number from 0 to 255. `max_difference` has the value None if the images have different sizes.
    """

    key: str
    changed: list[str]
    environment: list[str]
    max_difference: int | None


@dataclass(frozen=True, slots=True)
class FixtureBuilder:
    """Builds the golden fixtures of a suite with one model.

    If the folder `captures` is given, the latents are read from this folder instead of being generated.
    """

    model: ReferenceModel
    suite: str
    folder: Path
    captures: Path | None = None

    def select(self, suite: FixtureSuite, names: Sequence[str] | None) -> tuple[dict[str, Fixture], list[str]]:
        """Return the fixtures to build, in a dictionary by name, and a message for each fixture that is skipped.

        If `captures` is given, all fixtures that have captured latents are selected, including fixtures that the model
        cannot generate. If `captures` is not given, the fixtures that the model can generate are selected. If `names`
        is given, only the fixtures in `names` are selected. Raises InvalidSettings if `names` contains an unknown
        fixture, or if no fixture is selected.
        """
        if self.captures is None:
            return suite.supported_by(self.model.info, names)
        captures = self.captures
        selected = {key: one for key, one in suite.select(names).items() if names or has_capture(captures, key)}
        if not selected:
            raise InvalidSettings(
                f"--latents: {captures} does not contain latents for any of {', '.join(suite.fixtures)} "
                "(expected FIXTURE.bin, FIXTURE.msgpack or FIXTURE.protobuf)"
            )
        return selected, []

    def build(self, key: str, fixture: Fixture, on_step: OnStep) -> BuiltFixture:
        """Return the golden fixture with the name `key`.

        Raises CodecError if sampling, decoding or reading the captured latents fails.
        """
        info, started = self.model.info, time.perf_counter()
        shape = (fixture.frames, *info.latent_shape(fixture.resolution, fixture.resolution))
        latents, capture = self._latents(key, fixture, shape, on_step)
        sampled = time.perf_counter()
        pixels = self.model.pixels(latents)
        decoded = time.perf_counter()
        manifest = Manifest(
            latent_space_id=info.latent_space,
            suite=self.suite,
            fixture_key=key,
            fixture=fixture,
            model=info.name,
            vae_class=self.model.vae_class,
            vae_scale_factor=self.model.vae_scale_factor,
            latents_from=capture or "generated",
            latent_shape=latents.shape[1:],
            input_latent_sha256=sha256(latents_to_bytes(latents)),
            pixels_sha256=sha256(pixels.tobytes()),
            reference_sha256="",  # set by GoldenFixture.write, once the PNG file exists
            environment=self.model.environment,
            decoded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            times=Times(
                sampling_s=None if capture else round(sampled - started, 3), decoding_s=round(decoded - sampled, 3)
            ),
        )
        return BuiltFixture(fixture_at(self.folder, manifest), latents, pixels)

    def _latents(
        self, key: str, fixture: Fixture, shape: tuple[int, ...], on_step: OnStep
    ) -> tuple[Latents, str | None]:
        """Return the latents [frames, C, h, w] and the name of the capture file.

        The returned name has the value None if the latents were generated.
        """
        if self.captures is None:
            return self.model.latents(fixture, on_step), None
        found = read_capture(self.captures, key, self.model.info.latent_space, shape)
        if found is None:
            raise InvalidSettings(f"--latents: {self.captures} has no {key}.bin, {key}.msgpack or {key}.protobuf")
        return found

    def check(self, fixtures: Mapping[str, Fixture], on_step: OnStep) -> Iterator[FixtureCheck]:
        """Generate `fixtures` again, and yield a comparison of each new fixture with the stored fixture.

        No file is written.
        """
        for key, fixture in fixtures.items():
            (stored,) = find_fixtures(self.folder, self.model.info.latent_space, [key])
            built = self.build(key, fixture, on_step)
            yield _compare(stored, built)


def _compare(stored: GoldenFixture, built: BuiltFixture) -> FixtureCheck:
    changed = stored.manifest.changed_in(built.golden.manifest)
    if stored.manifest.fixture != built.golden.manifest.fixture:
        changed.insert(0, "the fixture itself")
    environment = stored.manifest.environment.differences_to(built.golden.manifest.environment)
    max_difference = _max_difference(stored.pixels(), built.pixels) if changed else 0
    return FixtureCheck(stored.key, changed, environment, max_difference)


def _max_difference(stored: Pixels, built: Pixels) -> int | None:
    if stored.shape != built.shape:
        return None
    return int(np.abs(stored.astype(np.int16) - built).max())

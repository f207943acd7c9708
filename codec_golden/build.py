"""Makes golden fixtures, and says which of them come out otherwise than they did."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from codec_golden.captures import has_capture, read_capture
from codec_golden.fixtures import Fixture, FixtureSuite
from codec_golden.manifest import Manifest, Times
from codec_golden.reference import Progress, ReferenceModel
from codec_golden.storage import GoldenFixture, Latents, Pixels, find_fixtures, fixture_at, latents_to_bytes
from codec_wire.errors import InvalidSettings
from codec_wire.maps.bundle import sha256


@dataclass(frozen=True, slots=True)
class BuiltFixture:
    """A fixture as it came out, not written yet."""

    golden: GoldenFixture
    latents: Latents
    pixels: Pixels

    def write(self) -> None:
        """Write it to where it belongs."""
        self.golden.write(self.latents, self.pixels)


@dataclass(frozen=True, slots=True)
class FixtureCheck:
    """What became of a fixture: `moved` names what came out otherwise, `environment` what is otherwise around it.

    `largest` is the largest difference of a pixel's value, out of 255; None where the pictures are gone or resized.
    """

    key: str
    moved: list[str]
    environment: list[str]
    largest: int | None


@dataclass(frozen=True, slots=True)
class FixtureBuilder:
    """Makes fixtures of a suite with one model; latents come from `captures` where that has them."""

    model: ReferenceModel
    suite: str
    folder: Path
    captures: Path | None = None

    def chosen(self, suite: FixtureSuite, names: Sequence[str] | None) -> tuple[dict[str, Fixture], list[str]]:
        """Return the fixtures to build, and a line for each that is left out; for None all that can be had.

        Where latents are captured, the model need not be able to make them. Raises InvalidSettings.
        """
        if self.captures is None:
            return suite.supported_by(self.model.info, names)
        captures = self.captures
        chosen = {key: one for key, one in suite.named(names).items() if names or has_capture(captures, key)}
        if not chosen:
            raise InvalidSettings(f"{captures} holds nothing called {', '.join(suite.fixtures)}")
        return chosen, []

    def build(self, key: str, fixture: Fixture, on_step: Progress) -> BuiltFixture:
        """Return fixture `key`, made. Raises what sampling, decoding and reading captures raise."""
        info, started = self.model.info, time.perf_counter()
        shape = (fixture.frames, *info.latent_shape(fixture.resolution, fixture.resolution))
        latents, origin = self._latents(key, fixture, shape, on_step)
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
            latents_from=origin or "generated",
            latent_shape=latents.shape[1:],
            input_latent_sha256=sha256(latents_to_bytes(latents)),
            pixels_sha256=sha256(pixels.tobytes()),
            reference_sha256="",  # of the file, which is not written yet
            environment=self.model.environment,
            decoded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            times=Times(
                sampling_s=None if origin else round(sampled - started, 3), decoding_s=round(decoded - sampled, 3)
            ),
        )
        return BuiltFixture(fixture_at(self.folder, manifest), latents, pixels)

    def _latents(
        self, key: str, fixture: Fixture, shape: tuple[int, ...], on_step: Progress
    ) -> tuple[Latents, str | None]:
        if self.captures is None:
            return self.model.latents(fixture, on_step), None
        found = read_capture(self.captures, key, self.model.info.latent_space, shape)
        if found is None:
            raise InvalidSettings(f"{self.captures} holds no {key}.bin, {key}.msgpack or {key}.protobuf")
        return found

    def check(self, fixtures: Mapping[str, Fixture], on_step: Progress) -> Iterator[FixtureCheck]:
        """Yield, for each of `fixtures`, how it comes out now beside how it lies in the folder. Writes nothing."""
        for key, fixture in fixtures.items():
            (before,) = find_fixtures(self.folder, self.model.info.latent_space, [key])
            now = self.build(key, fixture, on_step)
            yield _compare(before, now)


def _compare(before: GoldenFixture, now: BuiltFixture) -> FixtureCheck:
    moved = before.manifest.changed_in(now.golden.manifest)
    if before.manifest.fixture != now.golden.manifest.fixture:
        moved.insert(0, "the fixture itself")
    around = before.manifest.environment.differences_to(now.golden.manifest.environment)
    return FixtureCheck(before.key, moved, around, _max_difference(before.pixels(), now.pixels) if moved else 0)


def _max_difference(before: Pixels, now: Pixels) -> int | None:
    if before.shape != now.shape:
        return None
    return int(np.abs(before.astype(np.int16) - now).max())

"""The golden folder: DIR/<latent space>/<fixture>/ with manifest.json, latents.bin and the reference pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from codec_golden.manifest import Manifest, parse_manifest
from codec_wire.errors import InvalidSettings, truncated_repr
from codec_wire.maps.bundle import sha256

MANIFEST = "manifest.json"
LATENTS = "latents.bin"
IMAGE = "reference.png"

Latents = NDArray[np.float16]
"""[frames, channels, height, width], as they travel."""
Pixels = NDArray[np.uint8]
"""[frames, height, width, 3], RGB."""


@dataclass(frozen=True, slots=True)
class GoldenFixture:
    """One golden fixture: where it lies and what its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """The fixture's name."""
        return self.manifest.fixture_key

    def latents(self) -> Latents:
        """Return its latents. Raises InvalidSettings when the file is not the one of the manifest."""
        path = self.folder / LATENTS
        data = _read(path)
        if sha256(data) != self.manifest.input_latent_sha256:
            raise InvalidSettings(f"{path}: expected {self.manifest.input_latent_sha256}, the file has {sha256(data)}")
        return latents_from_bytes(data, (self.manifest.fixture.frames, *self.manifest.latent_shape), path)

    def pixels(self) -> Pixels:
        """Return its reference pictures. Raises InvalidSettings when they are not those of the manifest."""
        pixels = read_images(self.folder / name for name in image_names(self.manifest))
        if sha256(pixels.tobytes()) != self.manifest.pixels_sha256:
            raise InvalidSettings(f"{self.folder}: the pictures are not those of {MANIFEST}; build them again")
        return pixels

    def write(self, latents: Latents, pixels: Pixels) -> None:
        """Write everything; the manifest last, so that it is there only where all else is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for stale in (*self.folder.glob("frame_*.png"), self.folder / IMAGE):
            stale.unlink(missing_ok=True)
        (self.folder / LATENTS).write_bytes(latents_to_bytes(latents))
        for name, picture in zip(image_names(self.manifest), pixels, strict=True):
            Image.fromarray(picture).save(self.folder / name)
        first = (self.folder / image_names(self.manifest)[0]).read_bytes()
        manifest = self.manifest.model_copy(update={"reference_sha256": sha256(first)})
        (self.folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def image_names(manifest: Manifest) -> list[str]:
    """Return the file names of a fixture's pictures, in order."""
    if manifest.fixture.kind == "image":
        return [IMAGE]
    return [frame_name(number) for number in range(manifest.fixture.frames)]


def frame_name(number: int) -> str:
    """Return the file name of a video's frame."""
    return f"frame_{number:04d}.png"


def latents_to_bytes(latents: Latents) -> bytes:
    """Return the latents as they lie in a file: little-endian fp16, C order."""
    return latents.astype("<f2").tobytes()


def latents_from_bytes(data: bytes, shape: tuple[int, ...], path: Path) -> Latents:
    """Return the latents of `shape` that a file's bytes hold. Raises InvalidSettings for another size."""
    expected = int(np.prod(shape)) * 2
    if len(data) != expected:
        raise InvalidSettings(f"{path}: latents of {shape} in fp16 take {expected} bytes, the file has {len(data)}")
    return np.frombuffer(data, "<f2").reshape(shape).astype(np.float16)


def read_images(paths: Iterable[Path]) -> Pixels:
    """Return the pictures at `paths`, all of one size, as RGB. Raises InvalidSettings."""
    pictures: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                pictures.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise InvalidSettings(f"cannot read the picture {path}: {error}") from None
        if pictures[-1].shape != pictures[0].shape:
            raise InvalidSettings(f"{path} has another size than the frames before it")
    return np.stack(pictures)


def find_fixtures(folder: Path, latent_space: str | None, names: Sequence[str] | None = None) -> list[GoldenFixture]:
    """Return the golden fixtures below `folder`, of one latent space where one is named, by size.

    Raises InvalidSettings when there is none, or none of a name that was asked for.
    """
    found = []
    for path in sorted(folder.rglob(MANIFEST)):
        manifest = parse_manifest(_read(path).decode(errors="replace"), str(path))
        if latent_space in (None, manifest.latent_space_id):
            found.append(GoldenFixture(path.parent, manifest))
    if not found:
        raise InvalidSettings(
            f"there are no golden fixtures of {latent_space or 'any latent space'} in {folder}: "
            "make them with `codec-diffusers golden build`"
        )
    keys = [golden.key for golden in found]
    missing = [name for name in names or () if name not in keys]
    if missing:
        raise InvalidSettings(f"--fixtures: {folder} has no {truncated_repr(missing[0])}; it has {', '.join(keys)}")
    chosen = [golden for golden in found if not names or golden.key in names]
    return sorted(chosen, key=lambda golden: (golden.manifest.fixture.frames, golden.manifest.fixture.resolution))


def fixture_at(folder: Path, manifest: Manifest) -> GoldenFixture:
    """Return the golden fixture of `manifest` where it belongs below `folder`."""
    return GoldenFixture(folder / manifest.latent_space_id / manifest.fixture_key, manifest)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None

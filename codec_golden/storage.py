"""Storage of golden fixtures on disk.

The folder DIR/<latent space>/<fixture>/ contains the manifest, the latents and the reference images of a fixture.
"""

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
"""Latents as fp16 [frames, channels, height, width], not yet divided by the VAE's scaling factor."""
Pixels = NDArray[np.uint8]
"""Pixels as 8-bit RGB, [frames, height, width, 3]."""


@dataclass(frozen=True, slots=True)
class GoldenFixture:
    """A golden fixture, which has a folder and a manifest."""

    folder: Path
    manifest: Manifest

    @property
    def key(self) -> str:
        """Name of the fixture."""
        return self.manifest.fixture_key

    def latents(self) -> Latents:
        """Return the latents of the fixture.

        Raises InvalidSettings if the file latents.bin does not have the hash in the manifest.
        """
        path = self.folder / LATENTS
        data = _read(path)
        if sha256(data) != self.manifest.input_latent_sha256:
            raise InvalidSettings(f"{path} has the hash {sha256(data)}, expected {self.manifest.input_latent_sha256}")
        return latents_from_bytes(data, (self.manifest.fixture.frames, *self.manifest.latent_shape), path)

    def pixels(self) -> Pixels:
        """Return the reference images of the fixture.

        Raises InvalidSettings if the hash of the images differs from the hash in the manifest.
        """
        pixels = read_images(self.folder / name for name in image_names(self.manifest))
        if sha256(pixels.tobytes()) != self.manifest.pixels_sha256:
            raise InvalidSettings(f"{self.folder}: the images do not match {MANIFEST}; build the fixture again")
        return pixels

    def write(self, latents: Latents, pixels: Pixels) -> None:
        """Write the latents, the reference images and the manifest to the folder.

        The manifest is written last, so that the manifest exists only if the latents and the reference images are
        complete.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        for stale in (*self.folder.glob("frame_*.png"), self.folder / IMAGE):
            stale.unlink(missing_ok=True)
        (self.folder / LATENTS).write_bytes(latents_to_bytes(latents))
        for name, image in zip(image_names(self.manifest), pixels, strict=True):
            Image.fromarray(image).save(self.folder / name)
        first = (self.folder / image_names(self.manifest)[0]).read_bytes()
        manifest = self.manifest.model_copy(update={"reference_sha256": sha256(first)})
        (self.folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def image_names(manifest: Manifest) -> list[str]:
    """Return the file names of a fixture's reference images, in order."""
    if manifest.fixture.kind == "image":
        return [IMAGE]
    return [frame_name(number) for number in range(manifest.fixture.frames)]


def frame_name(number: int) -> str:
    """Return the file name of frame `number` of a video."""
    return f"frame_{number:04d}.png"


def latents_to_bytes(latents: Latents) -> bytes:
    """Return the content of the file latents.bin for `latents`. The content is little-endian fp16 values in C order."""
    return latents.astype("<f2").tobytes()


def latents_from_bytes(data: bytes, shape: tuple[int, ...], path: Path) -> Latents:
    """Return the latents in `data`. Raises InvalidSettings if the size of `data` does not match `shape`."""
    expected = int(np.prod(shape)) * 2
    if len(data) != expected:
        raise InvalidSettings(f"{path}: latents of the shape {shape} must have {expected} bytes, got {len(data)}")
    return np.frombuffer(data, "<f2").reshape(shape).astype(np.float16)


def read_images(paths: Iterable[Path]) -> Pixels:
    """Return the images at `paths` as RGB.

    Raises InvalidSettings if a file cannot be read or if the images have different sizes.
    """
    images: list[NDArray[np.uint8]] = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        except (OSError, UnidentifiedImageError) as error:
            raise InvalidSettings(f"cannot read the image {path}: {error}") from None
        if images[-1].shape != images[0].shape:
            raise InvalidSettings(f"{path} has a different size than the frames before it")
    return np.stack(images)


def find_fixtures(folder: Path, latent_space: str | None, names: Sequence[str] | None = None) -> list[GoldenFixture]:
    """Return the golden fixtures in `folder`, sorted by the number of frames and then by the image size.

    If `latent_space` is given, only fixtures of the latent space `latent_space` are returned. If `names` is given, only
    the fixtures in `names` are returned. Raises InvalidSettings if no fixture is found, or if a fixture in `names` is
    missing.
    """
    found = []
    for path in sorted(folder.rglob(MANIFEST)):
        manifest = parse_manifest(_read(path).decode(errors="replace"), str(path))
        if latent_space in (None, manifest.latent_space_id):
            found.append(GoldenFixture(path.parent, manifest))
    if not found:
        raise InvalidSettings(
            f"no golden fixtures of {latent_space or 'any latent space'} found in {folder}; "
            "create them with `codec-diffusers golden build`"
        )
    keys = [golden.key for golden in found]
    missing = [name for name in names or () if name not in keys]
    if missing:
        raise InvalidSettings(
            f"--fixtures: {truncated_repr(missing[0])} not found; {folder} contains {', '.join(keys)}"
        )
    selected = [golden for golden in found if not names or golden.key in names]
    return sorted(selected, key=lambda golden: (golden.manifest.fixture.frames, golden.manifest.fixture.resolution))


def fixture_at(folder: Path, manifest: Manifest) -> GoldenFixture:
    """Return the golden fixture with the manifest `manifest`.

    The files of the fixture belong in a subfolder of `folder`.
    """
    return GoldenFixture(folder / manifest.latent_space_id / manifest.fixture_key, manifest)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None

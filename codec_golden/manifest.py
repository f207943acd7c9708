"""The manifest of a golden fixture, with the request, hashes of the result, and the environment."""

import platform
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from codec_golden.fixtures import Fixture
from codec_wire.errors import InvalidSettings, truncated_repr
from core.pins import installed_versions, pin_differences


class _ManifestPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_ManifestPart):
    """Properties of a process that are known to change bits of the generated latents or pixels.

    `device` includes the dtype and the number of threads. `cpu` is the instruction set that torch uses.
    """

    versions: dict[str, str]
    pin_differences: list[str]
    image_digest: str | None
    device: str
    threads: int
    cpu: str
    machine: str
    python: str

    @classmethod
    def of(cls, device: str, threads: int, cpu: str, image_digest: str | None) -> Self:
        """Return the environment of this process.

        The arguments are values that this function cannot determine.
        """
        return cls(
            versions=installed_versions(),
            pin_differences=pin_differences(),
            image_digest=image_digest,
            device=device,
            threads=threads,
            cpu=cpu,
            machine=platform.machine(),
            python=platform.python_version(),
        )

    def differences_to(self, current: "Environment") -> list[str]:
        """Return a line for each field that differs between this earlier environment and the environment `current`."""
        before, now = self.model_dump(), current.model_dump()
        return [f"{name}: {before[name]} before, {now[name]} now" for name in before if before[name] != now[name]]


class Times(_ManifestPart):
    """Durations in seconds. `sampling_s` is only set if the latents were generated."""

    sampling_s: float | None
    decoding_s: float


class Manifest(_ManifestPart):
    """The content of a fixture's manifest.json. Hashes have the form sha256:<hex>.

    `input_latent_sha256` is the hash of latents.bin. `pixels_sha256` is the hash of the RGB values of all frames in
    order. `reference_sha256` is the hash of the first PNG file. `latents_from` is "generated" or the file name of the
    capture.
    """

    latent_space_id: str
    suite: str
    fixture_key: str
    fixture: Fixture
    model: str
    vae_class: str
    vae_scale_factor: float
    latents_from: str
    latent_shape: tuple[int, ...]
    input_latent_sha256: str
    pixels_sha256: str
    reference_sha256: str
    environment: Environment
    decoded_at: str
    times: Times

    def changed_in(self, current: "Manifest") -> list[str]:
        """Return which of the parts "latents" and "pixels" have a different hash in the manifest `current`."""
        hashes = {"latents": "input_latent_sha256", "pixels": "pixels_sha256"}
        return [name for name, field in hashes.items() if getattr(self, field) != getattr(current, field)]


def parse_manifest(text: str, path: str) -> Manifest:
    """Return the manifest in `text`.

    Raises InvalidSettings if `text` is not a valid manifest. The error message names `path` and the invalid key.
    """
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(f"{path}: {key}: {first['msg']}, got {truncated_repr(first['input'])}") from None

"""What a golden fixture says of itself: what was asked, what came out, on what."""

import platform
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from codec_golden.fixtures import Fixture
from codec_wire.errors import InvalidSettings
from core.pins import installed_versions, pin_differences


class _ManifestPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Environment(_ManifestPart):
    """Everything known to change bits. `device` names the arithmetic; `cpu` is the instruction set torch uses."""

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
        """Return this process's environment, with what only the engine knows handed in."""
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

    def differences_to(self, other: "Environment") -> list[str]:
        """Return a line for each thing in which this one, the earlier, differs from `other`."""
        before, now = self.model_dump(), other.model_dump()
        return [f"{name}: {before[name]} then, {now[name]} now" for name in before if before[name] != now[name]]


class Times(_ManifestPart):
    """Seconds. `sampling_s` is None where the latents were captured."""

    sampling_s: float | None
    decoding_s: float


class Manifest(_ManifestPart):
    """One golden fixture. Hashes are sha256:<hex>.

    `input_latent_sha256` is of the latents' file, `pixels_sha256` of all frames' RGB values in order, and
    `reference_sha256` of the first PNG file. `latents_from` says what the latents are: generated, or which capture.
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

    def changed_in(self, now: "Manifest") -> list[str]:
        """Return what came out otherwise in `now`: latents, pixels, both or nothing."""
        hashes = {"latents": "input_latent_sha256", "pixels": "pixels_sha256"}
        return [what for what, field in hashes.items() if getattr(self, field) != getattr(now, field)]


def parse_manifest(text: str, place: str) -> Manifest:
    """Return the manifest that `text` holds. Raises InvalidSettings naming `place` and the key at fault."""
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidSettings(f"{place}: {key}: {first['msg']}") from None

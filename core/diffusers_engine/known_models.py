"""Names by which well-known hub models and their latent spaces go. A model that is not here needs no row."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from core import embedded

SD_VAE = "stabilityai/sd-vae-ft-mse"
SDXL_VAE = "stabilityai/sdxl-vae"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One hub model: the short names clients use for it, and the id of its published latent space."""

    hub_id: str
    aliases: tuple[str, ...]
    latent_space: str


_KNOWN = {
    row.hub_id: row
    for row in (
        KnownModel(embedded.NAME, (embedded.ALIAS,), embedded.LATENT_SPACE),
        KnownModel("stable-diffusion-v1-5/stable-diffusion-v1-5", ("sd1.5", "sd-1.5"), SD_VAE),
        KnownModel("runwayml/stable-diffusion-v1-5", ("sd1.5", "sd-1.5"), SD_VAE),
        KnownModel("CompVis/stable-diffusion-v1-4", ("sd1.4", "sd-1.4"), SD_VAE),
        KnownModel("stabilityai/stable-diffusion-2", ("sd2", "sd-2"), SD_VAE),
        KnownModel("stabilityai/stable-diffusion-2-base", ("sd2", "sd-2"), SD_VAE),
        KnownModel("stabilityai/stable-diffusion-2-1", ("sd2.1", "sd-2.1"), SD_VAE),
        KnownModel("stabilityai/stable-diffusion-2-1-base", ("sd2.1", "sd-2.1"), SD_VAE),
        KnownModel("stabilityai/stable-diffusion-xl-base-1.0", ("sdxl", "sdxl-1.0"), SDXL_VAE),
        KnownModel("stabilityai/sdxl-turbo", ("sdxl-turbo",), SDXL_VAE),
    )
}


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the other names that requests may use for the model `name`: its short ones, and its last part."""
    known = _KNOWN[name].aliases if name in _KNOWN else ()
    last = PurePath(name).name
    return (*known, last) if last != name else known


def latent_space_of(name: str) -> str:
    """Return the id of the model's latent space: the published one where it is known, one after its name if not."""
    if name in _KNOWN:
        return _KNOWN[name].latent_space
    parts = [re.sub(r"[^a-z0-9_-]+", "-", part.lower()).strip("-") for part in name.split("/")]
    return "/".join(part or "model" for part in parts) + "-vae"

"""Aliases and latent spaces of well-known models. A server can also serve models that this module does not list."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePath

import codec_scenes

SD_VAE = "stabilityai/sd-vae-ft-mse"
SDXL_VAE = "stabilityai/sdxl-vae"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A known model: its name (the hub id), its short names, and the id of its latent space.

    `folder` is the pipeline's directory if the model ships with this project, else None.
    """

    name: str
    aliases: tuple[str, ...]
    latent_space: str
    folder: Path | None = None


EMBEDDED = KnownModel(codec_scenes.NAME, (codec_scenes.ALIAS,), codec_scenes.LATENT_SPACE, codec_scenes.MODEL_FOLDER)
"""The model that ships with this project and is served if no model is named."""
EMBEDDED_MODELS_DIR = codec_scenes.FOLDER
"""Directory with the model EMBEDDED and the latent-space map of this model. The directory is laid out like the models
directory, which the setting CODEC_MODELS_DIR names."""

DELETED_SD2_OWNER, SD2_MIRROR_OWNER = "stabilityai", "sd2-community"
"""The Hugging Face repositories of Stable Diffusion 2 with the owner `stabilityai` were deleted in November 2025. The
owner `sd2-community` has mirrors of the deleted repositories."""
_SD2_ALIASES = {
    "stable-diffusion-2": ("sd2", "sd-2"),
    "stable-diffusion-2-base": ("sd2", "sd-2"),
    "stable-diffusion-2-1": ("sd2.1", "sd-2.1"),
    "stable-diffusion-2-1-base": ("sd2.1", "sd-2.1"),
}

_KNOWN = {
    row.name: row
    for row in (
        EMBEDDED,
        KnownModel("stable-diffusion-v1-5/stable-diffusion-v1-5", ("sd1.5", "sd-1.5"), SD_VAE),
        KnownModel("runwayml/stable-diffusion-v1-5", ("sd1.5", "sd-1.5"), SD_VAE),
        KnownModel("CompVis/stable-diffusion-v1-4", ("sd1.4", "sd-1.4"), SD_VAE),
        *(
            KnownModel(f"{owner}/{name}", aliases, SD_VAE)
            for owner in (DELETED_SD2_OWNER, SD2_MIRROR_OWNER)
            for name, aliases in _SD2_ALIASES.items()
        ),
        KnownModel("stabilityai/stable-diffusion-xl-base-1.0", ("sdxl", "sdxl-1.0"), SDXL_VAE),
        KnownModel("stabilityai/sdxl-turbo", ("sdxl-turbo",), SDXL_VAE),
        *(
            KnownModel(f"stabilityai/{name}", ("svd",), f"stabilityai/{name}-vae")
            for name in ("stable-video-diffusion-img2vid-xt", "stable-video-diffusion-img2vid")
        ),
    )
}


def aliases_of(name: str) -> tuple[str, ...]:
    """Return the aliases of the model `name`: its short names, and the part of `name` after the last slash."""
    known = _KNOWN[name].aliases if name in _KNOWN else ()
    last = PurePath(name).name
    return (*known, last) if last != name else known


def latent_space_of(name: str) -> str:
    """Return the id of the model's latent space: the known published id, or else an id derived from `name`.

    If `name` is already the id of a published latent space, such as the hub id of a VAE, return `name`.
    """
    if name in _KNOWN:
        return _KNOWN[name].latent_space
    if any(row.latent_space == name for row in _KNOWN.values()):
        return name
    parts = [re.sub(r"[^a-z0-9_-]+", "-", part.lower()).strip("-") for part in name.split("/")]
    return "/".join(part or "model" for part in parts) + "-vae"


def mirror_of(name: str) -> str | None:
    """Return the hub id of the mirror of `name` if `name` is known to be deleted from the hub, else None."""
    owner, _, repository = name.partition("/")
    if owner == DELETED_SD2_OWNER and repository in _SD2_ALIASES:
        return f"{SD2_MIRROR_OWNER}/{repository}"
    return None


def is_embedded(name: str | None) -> bool:
    """Return whether `name` is the embedded model's name or alias."""
    return name is not None and name in (EMBEDDED.name, *EMBEDDED.aliases)


def hub_id_of_name(name: str) -> str | None:
    """Return the hub id of the first known model whose name or alias is `name`, or None.

    If the model was deleted from the hub, the hub id of the model's mirror is returned.
    """
    return next((_existing_id(row.name) for row in _KNOWN.values() if name in (row.name, *row.aliases)), None)


def hub_id_of_latent_space(latent_space: str) -> str | None:
    """Return the hub id of the first known model whose latent space is `latent_space`, or None.

    If the model was deleted from the hub, the hub id of the model's mirror is returned.
    """
    return next((_existing_id(row.name) for row in _KNOWN.values() if row.latent_space == latent_space), None)


def _existing_id(name: str) -> str:
    """Return the hub id `name`, or the hub id of the mirror if the repository `name` was deleted."""
    return mirror_of(name) or name

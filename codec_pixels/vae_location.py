"""Finds the VAE that a latent-space map's `decoder` block names: the one place that decides where it lies."""

import hashlib
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from codec_pixels.known_models import EMBEDDED, latent_space_of
from codec_wire.errors import InvalidMap, InvalidSettings, ModelLoadError
from codec_wire.maps.document import Decoder, LatentMap

_HUB_ID = re.compile(
    r"(?:https://huggingface\.co/)?([A-Za-z0-9][\w.-]*/[\w.-]+?)(?:/(?:tree|blob|resolve)/.*)?/?", re.ASCII
)
_PIPELINE_FILE = "model_index.json"
_CONFIG_FILE = "config.json"
_WEIGHTS = "*.safetensors"
_SHIPPED = {EMBEDDED.name: EMBEDDED.folder, EMBEDDED.latent_space: EMBEDDED.folder}
"""Directories of shipped models by decoder.weights_url, or by latent space for maps without it."""


def locate_vae(latent_map: LatentMap, models_dir: Path | None = None) -> Path:
    """Return the directory with the config and weights of the map's VAE.

    It is looked for where decoder.weights_url says: a shipped model, a directory (also below `models_dir`), then a
    hub id, downloaded once. A map without the url is decoded by a model below `models_dir` with that latent space, or
    by the hub's repository of the latent space's own name. Raises ModelLoadError where it is in none of these places,
    InvalidMap where the weights have another hash than decoder.weights_hash.
    """
    decoder = latent_map.decoder
    if decoder is None:
        raise ModelLoadError(f"the latent-space map of {latent_map.id} names no decoder")
    if decoder.family != "torch":
        raise ModelLoadError(f"{latent_map.id} is decoded with {decoder.family}; here it can be torch alone")
    name = decoder.weights_url or latent_map.id
    place = next(_local_places(latent_map, name, models_dir), None) or _downloaded(name, latent_map.id)
    _verify(place, decoder, latent_map.id)
    return place


def vae_folder(folder: Path) -> Path:
    """Return where the VAE lies in `folder`, which is a VAE's own or a pipeline's."""
    return folder / "vae" if (folder / _PIPELINE_FILE).is_file() else folder


def _local_places(latent_map: LatentMap, name: str, models_dir: Path | None) -> Iterator[Path]:
    shipped = _SHIPPED.get(name)
    if shipped is not None:
        yield vae_folder(shipped)
    candidates = [Path(name.removeprefix("file://"))]
    if models_dir is not None:
        candidates.append(models_dir / name)
        candidates += [
            path.parent
            for path in sorted([*models_dir.glob(f"*/{_PIPELINE_FILE}"), *models_dir.glob(f"*/*/{_PIPELINE_FILE}")])
            if latent_space_of(path.parent.relative_to(models_dir).as_posix()) == latent_map.id
        ]
    yield from (place for place in map(vae_folder, candidates) if (place / _CONFIG_FILE).is_file())


def _downloaded(name: str, latent_space: str) -> Path:
    """Return the folder of a hub repository's VAE, downloaded or from the hub's own cache."""
    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise ModelLoadError(
            f"there is no VAE for {latent_space} at {name!r}: it is no directory here and no hub id. "
            "Name the model's directory with --decoder, or where models lie with --models-dir"
        )
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with diffusers, not with the client
    except ModuleNotFoundError as error:
        raise missing_torch_error(error) from None
    wanted = [f"{folder}{file}" for folder in ("", "vae/") for file in (_CONFIG_FILE, _WEIGHTS)]
    try:
        folder = Path(snapshot_download(match[1], allow_patterns=[*wanted, _PIPELINE_FILE]))
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(
            f"the VAE of {latent_space} cannot be fetched from the hub ({match[1]}): {reason}"
        ) from None
    return vae_folder(folder)


def _verify(place: Path, decoder: Decoder, latent_space: str) -> None:
    if decoder.weights_hash is None:
        return
    files = sorted(place.glob(_WEIGHTS))
    for path in files:
        with path.open("rb") as file:
            if f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == decoder.weights_hash:
                return
    names = ", ".join(path.name for path in files) or "no safetensors file"
    raise InvalidMap(f"decoder of {latent_space}: nothing in {place} has the hash {decoder.weights_hash} ({names})")


def require_torch() -> None:
    """Raise ModelLoadError where what makes pixels is not installed."""
    for name in ("torch", "diffusers", "PIL"):
        if find_spec(name) is None:
            raise missing_torch_error(ModuleNotFoundError(name=name))


def require_vae_folder(folder: Path | None) -> None:
    """Raise InvalidSettings where `folder`, which somebody named, holds no VAE. None is what nobody named."""
    if folder is not None and not (vae_folder(folder) / _CONFIG_FILE).is_file():
        raise InvalidSettings(f"there is no VAE in {folder}: it has no {_CONFIG_FILE}, here or in vae/")


def missing_torch_error(error: ModuleNotFoundError) -> ModelLoadError:
    """Return the error for pixels that are asked for where torch or diffusers is not installed."""
    return ModelLoadError(
        f"turning latents into pixels needs {error.name}, which is not installed: install the extra `server` "
        "(pip install -c constraints.txt '.[server]'), or keep the latents"
    )

"""Lookup of the VAE that decodes the latents of a latent-space map."""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePath

from codec_pixels.known_models import EMBEDDED, latent_space_of
from codec_wire.errors import InvalidMap, InvalidSettings, ModelLoadError
from codec_wire.first_line import first_line
from codec_wire.maps.document import Decoder, LatentMap

_HUB_ID = re.compile(
    r"(?:https://huggingface\.co/)?([A-Za-z0-9][\w.-]*/[\w.-]+?)(?:/(?:tree|blob|resolve)/.*)?/?", re.ASCII
)
_PIPELINE_FILE = "model_index.json"
_CONFIG_FILE = "config.json"
_WEIGHTS = "*.safetensors"
_SHIPPED = {EMBEDDED.name: EMBEDDED.folder, EMBEDDED.latent_space: EMBEDDED.folder}
"""Directories of the models that ship with this project. Each key of the dictionary is a possible value of
`decoder.weights_url` in a latent-space map. For a map without a weights_url, the key is the id of the latent space."""


def locate_vae(latent_map: LatentMap, models_dir: Path | None = None, *, download: bool = False) -> Path:
    """Return the directory with the configuration and weights of the VAE that a latent-space map names.

    The name of the VAE is `decoder.weights_url` in the map, or the id of the latent space if the map has no
    weights_url. The VAE is searched in this order: models that ship with this project, a directory below `models_dir`,
    a model below `models_dir` with the map's latent space, and a Hugging Face repository. A Hugging Face repository is
    downloaded only if `download` is true. A path in the map cannot lead outside `models_dir`, because the map may come
    from an untrusted server. Raises ModelLoadError if the VAE is not found, and InvalidMap if no weights file of the
    VAE has the hash in decoder.weights_hash.
    """
    decoder = latent_map.decoder
    if decoder is None:
        raise ModelLoadError(f"the latent-space map of {latent_map.id} has no decoder")
    if decoder.family != "torch":
        raise ModelLoadError(
            f"decoder.family in the latent-space map of {latent_map.id} must be torch, got {decoder.family}"
        )
    name = decoder.weights_url or latent_map.id
    folder = next(_local_folders(latent_map, name, models_dir), None)
    if folder is None:
        folder = _hub_folder(name, latent_map.id, download=download)
    _verify_weights(folder, decoder, latent_map.id)
    return folder


def vae_folder(folder: Path) -> Path:
    """Return the subdirectory `vae` if `folder` contains a diffusers pipeline.

    If `folder` contains a VAE without a pipeline, return `folder`.
    """
    return folder / "vae" if (folder / _PIPELINE_FILE).is_file() else folder


def pipeline_class_of(folder: Path) -> str | None:
    """Return the diffusers class of the pipeline that contains the VAE in `folder`, or None without a pipeline.

    The class is read from model_index.json in `folder` or in the directory above `folder`.
    """
    for path in (folder / _PIPELINE_FILE, folder.parent / _PIPELINE_FILE):
        try:
            name = json.loads(path.read_bytes())["_class_name"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        # The index of a pipeline with custom code contains [module, class].
        name = name[-1] if isinstance(name, list) and name else name
        return name if isinstance(name, str) else None
    return None


def _local_folders(latent_map: LatentMap, name: str, models_dir: Path | None) -> Iterator[Path]:
    shipped = _SHIPPED.get(name)
    if shipped is not None:
        yield vae_folder(shipped)
    candidates = []
    if models_dir is not None:
        if _is_below(name):
            candidates.append(models_dir / name)
        candidates += [
            path.parent
            for path in sorted([*models_dir.glob(f"*/{_PIPELINE_FILE}"), *models_dir.glob(f"*/*/{_PIPELINE_FILE}")])
            if latent_space_of(path.parent.relative_to(models_dir).as_posix()) == latent_map.id
        ]
    yield from (folder for folder in map(vae_folder, candidates) if (folder / _CONFIG_FILE).is_file())


def _is_below(name: str) -> bool:
    """Return whether `name` is a relative path without "..", that is, a path that stays inside its base directory."""
    return not PurePath(name).is_absolute() and ".." not in PurePath(name).parts


def _hub_folder(name: str, latent_space: str, *, download: bool) -> Path:
    """Return the directory of the VAE in the Hugging Face repository `name`.

    The directory is in the local cache of Hugging Face. If the VAE is not in the cache and `download` is true, the VAE
    is downloaded. Raises ModelLoadError if the VAE is not in the cache and cannot be downloaded.
    """
    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise ModelLoadError(
            f"no VAE found for {latent_space}: {name!r} is neither a local model nor a Hugging Face repository; "
            "pass the model's directory with --decoder, or the directory of all models with --models-dir"
        )
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - installed with diffusers
    except ModuleNotFoundError as error:
        raise missing_torch_error(error) from None
    folder = _cached_folder(match[1])
    if folder is not None:
        return folder
    if not download:
        raise ModelLoadError(
            f"the latent-space map of {latent_space} names the VAE {match[1]} on Hugging Face. This VAE is not on this "
            "machine: download it with --download-decoder (PixelDecoder: download=True) if you trust the map, "
            "or pass the model's directory with --decoder"
        )
    patterns = [f"{prefix}{file}" for prefix in ("", "vae/") for file in (_CONFIG_FILE, _WEIGHTS)]
    try:
        return vae_folder(Path(snapshot_download(match[1], allow_patterns=[*patterns, _PIPELINE_FILE])))
    except Exception as error:
        reason = first_line(error)
        raise ModelLoadError(
            f"the VAE of {latent_space} cannot be downloaded from Hugging Face ({match[1]}): {reason}"
        ) from None


def _cached_folder(repository: str) -> Path | None:
    """Return the directory in the local Hugging Face cache that contains the VAE of `repository`, or None."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - installed with diffusers
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        folder = vae_folder(Path(snapshot_download(repository, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / _CONFIG_FILE).is_file() and any(folder.glob(_WEIGHTS)) else None


def _verify_weights(folder: Path, decoder: Decoder, latent_space: str) -> None:
    if decoder.weights_hash is None:
        return
    files = sorted(folder.glob(_WEIGHTS))
    if any(_sha256_of(path) == decoder.weights_hash for path in files):
        return
    names = ", ".join(path.name for path in files) or "no safetensors file"
    raise InvalidMap(
        f"the VAE in {folder} does not match the latent-space map of {latent_space}: no weights file has the hash "
        f"{decoder.weights_hash} (files in the directory: {names})"
    )


def weights_hash_of(folder: Path) -> str:
    """Return the hash "sha256:<hex>" of the weights file of the VAE in `folder`.

    Raises InvalidSettings unless the folder contains exactly one weights file.
    """
    files = sorted(folder.glob(_WEIGHTS))
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "no file"
        raise InvalidSettings(f"{folder} must contain exactly one safetensors file with the weights, got {names}")
    return _sha256_of(files[0])


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def require_torch() -> None:
    """Raise ModelLoadError unless torch, diffusers and Pillow are installed."""
    for name in ("torch", "diffusers", "PIL"):
        if find_spec(name) is None:
            raise missing_torch_error(ModuleNotFoundError(name=name))


def require_vae_folder(folder: Path | None) -> None:
    """Raise InvalidSettings if `folder` is not None and contains neither a VAE nor a diffusers pipeline."""
    if folder is not None and not (vae_folder(folder) / _CONFIG_FILE).is_file():
        raise InvalidSettings(
            f"no VAE found in {folder}: neither this directory nor its subdirectory vae contains {_CONFIG_FILE}"
        )


def missing_torch_error(error: ModuleNotFoundError) -> ModelLoadError:
    """Return the error for a missing package that is required to decode latents."""
    return ModelLoadError(
        f"decoding latents to pixels requires {error.name}, which is not installed: install the extra `server` "
        "(pip install -c constraints.txt '.[server]'), or save the latents instead"
    )

"""The latent-space map that the options --latent-map-url and --latent-map-sha256 name."""

import logging
from pathlib import Path
from urllib.parse import urljoin

from codec_client.cache import FileCache
from codec_client.downloads import fetch_file, file_session
from codec_wire.errors import CodecError, InvalidMap, InvalidSettings
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import map_files, sha256
from codec_wire.maps.document import MAX_DOCUMENT_BYTES, parse_map
from core.map_store import find_bundle, require_map_of
from core.model import ModelInfo
from core.settings import Settings

log = logging.getLogger(__name__)


async def fetch_configured_map(settings: Settings, cache: FileCache | None = None) -> LatentMapBundle | None:
    """Download and verify the map at `settings.latent_map_url`. Return None if `settings.latent_map_url` is not set.

    A file of the map is not downloaded if the file is in `cache` or in the directory `settings.latent_dicts_dir`. By
    default, `cache` is the file cache that the client library also uses. Raises InvalidMap if the map cannot be
    downloaded or is not valid.
    """
    url, digest = settings.latent_map_url, settings.latent_map_sha256
    if url is None:
        if settings.latent_dicts_dir is not None:
            log.warning("CODEC_LATENT_DICTS_DIR is ignored: it applies only to a map at CODEC_LATENT_MAP_URL")
        return None
    try:
        return await _fetch(url, digest, _files_in(settings.latent_dicts_dir), cache or FileCache())
    except CodecError as error:
        raise InvalidMap(
            f"the latent-space map at CODEC_LATENT_MAP_URL (--latent-map-url) cannot be used: {error}"
        ) from None


async def _fetch(url: str, digest: str | None, local: dict[str, bytes], cache: FileCache) -> LatentMapBundle:
    # Redirects and other hosts are allowed here: the operator of this server has configured the URL.
    async with file_session() as session:
        document = None if digest is None else cache.get(digest)
        if document is None:
            document = await fetch_file(session, url, {}, max_bytes=MAX_DOCUMENT_BYTES, redirects=True)
        if digest not in (None, sha256(document)):
            raise InvalidMap(f"{url} has the hash {sha256(document)}, but CODEC_LATENT_MAP_SHA256 is {digest}")
        assets = {
            file.hash: local.get(file.hash)
            or cache.get(file.hash)
            or await fetch_file(session, urljoin(url, file.url), {}, redirects=True)
            for file in map_files(parse_map(document))
        }
    bundle = LatentMapBundle.from_parts(document, assets)
    for data in (document, *assets.values()):
        cache.put(data)
    return bundle


def _files_in(folder: Path | None) -> dict[str, bytes]:
    """Return the contents of the files in `folder`, as a dictionary by hash.

    Without `folder`, or if the directory is missing, the dictionary is empty.
    """
    if folder is None:
        return {}
    return {sha256(data): data for data in (path.read_bytes() for path in sorted(folder.glob("*")) if path.is_file())}


def find_model_map(
    settings: Settings, configured: LatentMapBundle | None, model: ModelInfo, vae_scale_factor: float
) -> LatentMapBundle | None:
    """Return the map `configured` if `configured` is the map of the model's latent space.

    If `configured` is not the map of the model's latent space, return the map that is stored for the model. If no map
    is stored for the model, return None. Raises InvalidMap if the map is not valid or does not match the model.
    """
    if configured is not None and configured.latent_map.id == model.latent_space:
        require_map_of(model, vae_scale_factor, configured, str(settings.latent_map_url))
        return configured
    return find_bundle(settings.models_dir, model, vae_scale_factor)


def require_configured_map(
    settings: Settings, configured: LatentMapBundle | None, maps: dict[str, LatentMapBundle | None]
) -> None:
    """Raise InvalidSettings unless the dictionary `maps` contains the map that the settings name.

    `maps` contains the map of each served latent space. The value None in `maps` stands for a map that will be created
    later.
    """
    digest = settings.latent_map_sha256
    if configured is not None and configured.latent_map.id not in maps:
        raise InvalidSettings(
            f"CODEC_LATENT_MAP_URL (--latent-map-url) has the map of the latent space {configured.latent_map.id}, but "
            f"this server serves {', '.join(maps)}. If the model generates latents of the space in the map, set "
            f"--latent-space {configured.latent_map.id}"
        )
    hashes = {latent_space: None if bundle is None else bundle.hash for latent_space, bundle in maps.items()}
    served = ", ".join(f"{latent_space} ({found or 'no map yet'})" for latent_space, found in hashes.items())
    if digest is not None and digest not in hashes.values():
        raise InvalidSettings(
            f"CODEC_LATENT_MAP_SHA256 (--latent-map-sha256) is {digest}, but this server has the maps {served}. To use "
            "the map with the configured hash, set --latent-map-url to the URL of that map and --latent-space to the "
            "latent space of that map"
        )

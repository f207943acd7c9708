"""Reading of captured streams, and selection of the latent-space maps and zstd dictionaries of the streams."""

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codec_client import HttpClient, fetch_maps
from codec_client.cache import FileCache
from codec_client.inspection import HEAD_BYTES
from codec_client.tls import tls_context
from codec_server.terminal.output_file import PIPE
from codec_wire.errors import InvalidMap, InvalidSettings
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle
from core.map_store import find_bundle_folder, list_bundle_folders

CHUNK_BYTES = 64 * 1024


def read_capture(capture: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the first HEAD_BYTES bytes of a capture, and an iterator over all bytes of the capture.

    Raises InvalidSettings if the file cannot be read. The iterator also raises InvalidSettings if the file cannot be
    read to its end.
    """
    chunks = _read_chunks(capture)
    first = b""
    while len(first) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
        first += chunk

    def all_chunks() -> Iterator[bytes]:
        yield first
        yield from chunks

    return first[:HEAD_BYTES], all_chunks()


def _read_chunks(capture: str) -> Iterator[bytes]:
    try:
        if capture == PIPE:
            while chunk := os.read(sys.stdin.fileno(), CHUNK_BYTES):
                yield chunk
            return
        with Path(capture).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InvalidSettings(f"cannot read {capture}: {error.strerror}") from None


@dataclass(frozen=True, slots=True)
class MapSources:
    """Sources of latent-space maps: the directory `bundle`, the HTTP server `server`, or the directory `models_dir`.

    `api_key` is sent to `server`. `ca_file` is a PEM file with the certificate authority of an https server.
    """

    server: str | None
    api_key: str | None
    ca_file: Path | None
    bundle: Path | None
    models_dir: Path

    def selected(self) -> list[LatentMapBundle]:
        """Return the maps that --bundle or --server selects, or an empty list if neither option is given.

        Raises InvalidMap if a map is not valid, InvalidSettings if `ca_file` is not a PEM file, and ServerUnreachable.
        """
        if self.bundle is not None:
            return [LatentMapBundle.from_folder(self.bundle)]
        if self.server is None:
            return []
        tls = tls_context(self.ca_file, None, None)
        address = HttpClient(self.server).server
        return asyncio.run(fetch_maps(address, api_key=self.api_key, tls=tls, cache=FileCache()))


def find_bundle(
    header: LatentStreamHeader, selected: list[LatentMapBundle], models_dir: Path, *, required: bool
) -> LatentMapBundle | None:
    """Find the latent-space map of a stream. Search `selected`, then `models_dir`, then the embedded maps.

    Raises InvalidMap if `selected` contains maps, but no map of the stream's latent space. Also raises InvalidMap if
    `required` is True and no map is found.
    """
    latent_space = header.latent_space_id
    for bundle in selected:
        if bundle.latent_map.id == latent_space:
            return bundle
    if selected:
        available = ", ".join(repr(bundle.latent_map.id) for bundle in selected)
        raise InvalidMap(f"the stream has the latent space {latent_space!r}, but the map is for {available}")
    folder = find_bundle_folder(models_dir, latent_space)
    if folder is not None:
        return LatentMapBundle.from_folder(folder)
    if required:
        raise InvalidMap(
            f"no latent-space map for {latent_space!r} found in {models_dir}: use --server, --bundle or --decoder"
        )
    return None


def zstd_dictionaries(selected: list[LatentMapBundle], models_dir: Path) -> dict[str, bytes]:
    """Return the contents of the zstd dictionaries in the maps `selected`, as a Python dictionary by hash.

    If `selected` is empty, the maps in `models_dir` and the embedded maps are used.
    """
    bundles = selected or [LatentMapBundle.from_folder(folder) for folder in list_bundle_folders(models_dir)]
    return {
        entry.hash: bundle.assets[entry.hash] for bundle in bundles for entry in bundle.latent_map.zstd_dictionaries
    }

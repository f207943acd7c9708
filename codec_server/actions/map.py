"""Implementation of the `map` commands that show, verify and annotate latent-space map bundles."""

import asyncio
import json
from pathlib import Path

import typer

from codec_client import fetch_map
from codec_client.tls import tls_context
from codec_maps.annotations import read_thresholds, with_decoder_weights, with_thresholds
from codec_pixels.vae_location import locate_vae, require_vae_folder, vae_folder, weights_hash_of
from codec_wire.errors import InvalidMap
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.document import LatentMap


def add_thresholds(folder: Path, file: Path) -> None:
    """Add the quality thresholds in the JSON file `file` to the bundle in `folder`.

    Raises InvalidSettings if `file` is not valid, and InvalidMap if the bundle is not valid.
    """
    bounds = read_thresholds(file)
    changed = with_thresholds(LatentMapBundle.from_folder(folder), bounds)
    changed.write(folder)
    typer.echo(f"wrote {folder}: {changed.latent_map.id} {changed.hash}")


def pin_decoder(folder: Path, *, models_dir: Path, decoder: Path | None) -> None:
    """Add the hash of the VAE's weights to the map in `folder`.

    The VAE is in the directory `decoder`. Without `decoder`, the map names the VAE. Raises InvalidSettings if `decoder`
    contains no VAE, InvalidMap if the bundle is not valid or has no torch decoder, and ModelLoadError if the VAE is not
    found.
    """
    require_vae_folder(decoder)
    source = LatentMapBundle.from_folder(folder)
    vae = locate_vae(_without_weights_hash(source.latent_map), models_dir) if decoder is None else vae_folder(decoder)
    changed = with_decoder_weights(source, weights_hash_of(vae))
    changed.write(folder)
    typer.echo(f"wrote {folder}: {changed.latent_map.id} {changed.hash}")


def _without_weights_hash(latent_map: LatentMap) -> LatentMap:
    """Return a copy of the map that any weights of its VAE match."""
    if latent_map.decoder is None:
        raise InvalidMap(f"the latent-space map of {latent_map.id} has no decoder")
    decoder = latent_map.decoder.model_copy(update={"weights_hash": None})
    return latent_map.model_copy(update={"decoder": decoder})


def show_map(folder: Path) -> None:
    """Print the latent-space map in `folder` and the hashes of its files.

    Raises InvalidMap if the bundle in `folder` is not valid.
    """
    found = LatentMapBundle.from_folder(folder)
    typer.echo(json.dumps(json.loads(found.document), indent=2))
    typer.echo(f"{found.hash}  map.json, {len(found.document)} bytes")
    for digest, data in found.assets.items():
        typer.echo(f"{digest}  {len(data)} bytes")


def verify_map(location: str, *, api_key: str | None, ca_file: Path | None) -> None:
    """Check the bundle at `location`, which is a directory or the URL of a server.

    `api_key` is sent to the server. `ca_file` is a PEM file with the certificate authority of the server. Raises
    InvalidMap if the bundle is not valid, InvalidSettings if `ca_file` is not a PEM file, and the errors of fetch_map
    if the server cannot be reached.
    """
    if location.startswith(("http://", "https://")):
        found = asyncio.run(fetch_map(location, api_key=api_key, tls=tls_context(ca_file, None, None)))
    else:
        found = LatentMapBundle.from_folder(Path(location))
    typer.echo(f"{found.latent_map.id} is valid: {found.hash}, {len(found.assets)} files")

"""Implementation of the `map` commands that show, verify and annotate latent-space map bundles."""

import asyncio
import json
from pathlib import Path

import typer

from codec_client import fetch_map
from codec_maps.annotations import read_thresholds, with_thresholds
from codec_wire.maps import LatentMapBundle


def add_thresholds(folder: Path, file: Path) -> None:
    """Add the quality thresholds in the JSON file `file` to the bundle in `folder`.

    Raises InvalidSettings if `file` is not valid, and InvalidMap if the bundle is not valid.
    """
    bounds = read_thresholds(file)
    changed = with_thresholds(LatentMapBundle.from_folder(folder), bounds)
    changed.write(folder)
    typer.echo(f"wrote {folder}: {changed.latent_map.id} {changed.hash}")


def show_map(folder: Path) -> None:
    """Print the latent-space map in `folder` and the hashes of its files.

    Raises InvalidMap if the bundle in `folder` is not valid.
    """
    found = LatentMapBundle.from_folder(folder)
    typer.echo(json.dumps(json.loads(found.document), indent=2))
    typer.echo(f"{found.hash}  map.json, {len(found.document)} bytes")
    for digest, data in found.assets.items():
        typer.echo(f"{digest}  {len(data)} bytes")


def verify_map(location: str) -> None:
    """Check the bundle at `location`, which is a directory or the URL of a server.

    Raises InvalidMap if the bundle is not valid, and the errors of fetch_map if the server cannot be reached.
    """
    remote = location.startswith(("http://", "https://"))
    found = asyncio.run(fetch_map(location)) if remote else LatentMapBundle.from_folder(Path(location))
    typer.echo(f"{found.latent_map.id} is valid: {found.hash}, {len(found.assets)} files")

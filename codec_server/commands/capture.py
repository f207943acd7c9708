"""`codec-diffusers decode` and `codec-diffusers inspect`: what becomes of, and what is in, a captured stream."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from codec_client import HttpClient, LatentStreamDecoder, PixelDecoder, fetch_maps
from codec_client.cache import FileCache
from codec_client.inspection import HEAD_BYTES, find_dictionary
from codec_client.inspection import inspect as inspect_chunks
from codec_pixels.parameters import file_parameters
from codec_pixels.vae_location import require_vae_folder, require_torch
from codec_server.errors import ExitStatus, report_cli_errors
from codec_server.terminal import inspection
from codec_server.terminal.output_file import PIPE, Output
from codec_wire.errors import InvalidMap, InvalidSettings, MalformedMessage
from codec_wire.format_detection import detect_coding, identify_foreign_file
from codec_wire.latents import LatentStreamHeader
from codec_wire.maps import LatentMapBundle
from core.map_store import find_bundle_folder, list_bundle_folders
from core.settings import Settings

CHUNK_BYTES = 64 * 1024

Capture = Annotated[str, typer.Argument(help="File with the body of an answer, or - for standard input.")]
Encoding = Annotated[
    str | None,
    typer.Option(help="Content coding: gzip, br, zstd, identity. Default: told from the first bytes; not br."),
]
Server = Annotated[str | None, typer.Option(help="http://HOST:PORT that publishes the latent-space map.")]
ApiKey = Annotated[
    str | None, typer.Option(help="Sent to --server as a bearer token.", envvar="CODEC_API_KEY", show_default=False)
]
Bundle = Annotated[Path | None, typer.Option(help="Folder of the map's bundle.")]
ModelsDir = Annotated[Path, typer.Option(help="Where models and maps lie.", envvar="CODEC_MODELS_DIR")]
MODELS_DIR = Path(Settings.model_fields["models_dir"].default)


def decode(
    capture: Capture,
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="File: .png .jpg .webp .gif .mp4.")],
    server: Server = None,
    api_key: ApiKey = None,
    bundle: Bundle = None,
    models_dir: ModelsDir = MODELS_DIR,
    decoder: Annotated[Path | None, typer.Option(help="Folder of the VAE. Default: what the map names.")] = None,
    encoding: Encoding = None,
    device: Annotated[str, typer.Option(help="torch device: auto, cpu, cuda, ...")] = "auto",
    file_format: Annotated[str | None, typer.Option("--format", help="Instead of what the file's name says.")] = None,
) -> None:
    """Turn a captured latent stream into a picture or a video, with the VAE that its latent-space map names.

    Examples:
      codec-diffusers decode latents.bin -o a.png --models-dir ./models

      codec-diffusers decode waves.bin -o waves.mp4 --server http://127.0.0.1:8080

    """
    with report_cli_errors():
        place = Output(output, file_format)
        if place.is_stream:
            raise InvalidSettings("decode makes pictures: name a .png, .jpg, .webp, .gif or .mp4")
        require_torch()
        require_vae_folder(decoder)
        head, chunks = _head(capture)
        what = identify_foreign_file(head)
        if what is not None and encoding is None:
            raise MalformedMessage(f"{capture} is {what}", 0)
        coding = encoding or detect_coding(head)
        bundles = _bundles(server, api_key, bundle)
        dictionary = find_dictionary(head, _dictionaries(bundles, models_dir)) if coding == "zstd" else None
        stream = LatentStreamDecoder(encoding=coding, dictionary=dictionary)
        latents = [latent for chunk in chunks for latent in stream.feed(chunk)]
        stream.close()
        header = stream.header
        assert header is not None  # noqa: S101 - a stream without one does not close
        place.require_room_for(len(latents))
        found = _bundle_of(header, bundles, models_dir, required=decoder is None)
        latent_map, digest = (None, None) if found is None else (found.latent_map, found.hash)
        pixels = PixelDecoder(latent_map, path=decoder, models_dir=models_dir, device=device)
        frames = pixels.frames(latents)
        written = place.write_frames(frames, header.fps, file_parameters(header, digest, frames.shape, {}))
        typer.echo(f"wrote {output}, {written} bytes", err=True)


def inspect(
    capture: Capture,
    *,
    encoding: Encoding = None,
    server: Server = None,
    api_key: ApiKey = None,
    bundle: Bundle = None,
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Print what a captured stream holds, and what is wrong with it at which byte. Status 4 where something is.

    Bytes are counted from 0, in the stream as it was before compression. A map (--server, --bundle, --models-dir) is
    needed for the dictionary of a zstd body alone.

    Examples:
      codec-diffusers inspect latents.bin

      curl ... | codec-diffusers inspect - --json

    """
    with report_cli_errors():
        head, chunks = _head(capture)
        compressed = (encoding or detect_coding(head)) == "zstd"
        dictionaries = _dictionaries(_bundles(server, api_key, bundle), models_dir) if compressed else {}
        report = inspect_chunks(chunks, encoding=encoding, dictionaries=dictionaries)
        if as_json:
            typer.echo(json.dumps(inspection.as_json(report)))
        else:
            inspection.print_report(report)
    if report.problem is not None:
        raise typer.Exit(ExitStatus.BROKEN_STREAM)


def _chunks(capture: str) -> Iterator[bytes]:
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


def _head(capture: str) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a capture, and all of its chunks."""
    chunks = _chunks(capture)
    first = b""
    while len(first) < HEAD_BYTES and (chunk := next(chunks, None)) is not None:
        first += chunk

    def whole() -> Iterator[bytes]:
        yield first
        yield from chunks

    return first[:HEAD_BYTES], whole()


def _bundles(server: str | None, api_key: str | None, bundle: Path | None) -> list[LatentMapBundle]:
    """Return the maps that were named, none where none was."""
    if bundle is not None:
        return [LatentMapBundle.from_folder(bundle)]
    if server is None:
        return []
    return asyncio.run(fetch_maps(HttpClient(server).server, api_key=api_key, cache=FileCache()))


def _bundle_of(
    header: LatentStreamHeader, named: list[LatentMapBundle], models_dir: Path, *, required: bool
) -> LatentMapBundle | None:
    """Return the stream's map: of those that were named, else from the models directory, or the one that ships.

    Raises InvalidMap where none of those named is of its latent space, and where there is none and it is `required`.
    """
    wanted = header.latent_space_id
    for bundle in named:
        if bundle.latent_map.id == wanted:
            return bundle
    if named:
        have = ", ".join(repr(bundle.latent_map.id) for bundle in named)
        raise InvalidMap(f"the stream is of {wanted!r}, the map of {have}")
    folder = find_bundle_folder(models_dir, wanted)
    if folder is not None:
        return LatentMapBundle.from_folder(folder)
    if required:
        raise InvalidMap(
            f"there is no latent-space map of {wanted!r} below {models_dir}: name a --server, a --bundle or a --decoder"
        )
    return None


def _dictionaries(named: list[LatentMapBundle], models_dir: Path) -> dict[str, bytes]:
    """Return the zstd dictionaries of the maps that were named, or of all that are at hand."""
    bundles = named or [LatentMapBundle.from_folder(folder) for folder in list_bundle_folders(models_dir)]
    return {
        entry.hash: bundle.assets[entry.hash] for bundle in bundles for entry in bundle.latent_map.zstd_dictionaries
    }

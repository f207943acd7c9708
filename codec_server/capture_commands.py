"""`codec-diffusers decode` and `codec-diffusers inspect`: what becomes of, and what is in, a captured stream."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from codec_client import LatentStreamDecoder, PixelDecoder, fetch_map
from codec_client.cache import FileCache
from codec_client.inspecting import HEAD_BYTES, Inspection, dictionary_for
from codec_client.inspecting import inspect as inspect_chunks
from codec_client.sniffing import coding_of, foreign
from codec_server.errors import ExitStatus, said_in_a_line
from codec_server.picture_files import PIPE, Output
from core.errors import InvalidMap, InvalidSettings, MalformedMessage
from core.latents import LatentStreamHeader
from core.maps import LatentMapBundle
from core.maps.store import bundle_place, bundle_places
from core.settings import Settings

CHUNK_BYTES = 64 * 1024
PIPE_WIDTH = 120
ROWS = 20
"""Frames that inspect prints one by one; --json has them all."""

Capture = Annotated[str, typer.Argument(help="File with the body of an answer, or - for standard input.")]
Encoding = Annotated[
    str | None,
    typer.Option(help="Content coding: gzip, br, zstd, identity. Default: told from the first bytes; not br."),
]
Server = Annotated[str | None, typer.Option(help="http://HOST:PORT that publishes the latent-space map.")]
Bundle = Annotated[Path | None, typer.Option(help="Folder of the map's bundle.")]
ModelsDir = Annotated[Path, typer.Option(help="Where models and maps lie.", envvar="CODEC_MODELS_DIR")]
MODELS_DIR = Path(Settings.model_fields["models_dir"].default)


def decode(
    capture: Capture,
    *,
    output: Annotated[str, typer.Option("--output", "-o", help="File: .png .jpg .webp .gif .mp4.")],
    server: Server = None,
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
    with said_in_a_line():
        place = Output(output, file_format)
        if place.is_stream:
            raise InvalidSettings("decode makes pictures: name a .png, .jpg, .webp, .gif or .mp4")
        head, chunks = _head(capture)
        what = foreign(head)
        if what is not None and encoding is None:
            raise MalformedMessage(f"{capture} is {what}, not a latent stream", 0)
        coding = encoding or coding_of(head)
        found = None if server is None and bundle is None else _bundle(server, bundle)
        dictionary = dictionary_for(head, _dictionaries(found, models_dir)) if coding == "zstd" else None
        stream = LatentStreamDecoder(encoding=coding, dictionary=dictionary)
        latents = [latent for chunk in chunks for latent in stream.feed(chunk)]
        stream.close()
        assert stream.header is not None  # noqa: S101 - a stream without one does not close
        place.require_room_for(len(latents))
        if found is None and decoder is None:
            found = _local_bundle(stream.header, models_dir)
        _require_same_space(found, stream.header)
        latent_map = None if found is None else found.latent_map
        pixels = PixelDecoder(latent_map, place=decoder, models_dir=models_dir, device=device)
        written = place.write_frames(pixels.frames(latents), stream.header.fps)
        typer.echo(f"wrote {output}, {written} bytes", err=True)


def inspect(
    capture: Capture,
    *,
    encoding: Encoding = None,
    server: Server = None,
    bundle: Bundle = None,
    models_dir: ModelsDir = MODELS_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Print what a captured stream holds, and what is wrong with it at which byte. Status 4 where something is.

    A map (--server, --bundle, --models-dir) is needed for the dictionary of a zstd body alone.

    Examples:
      codec-diffusers inspect latents.bin

      curl ... | codec-diffusers inspect - --json

    """
    with said_in_a_line():
        found = None if server is None and bundle is None else _bundle(server, bundle)
        report = inspect_chunks(_chunks(capture), encoding=encoding, dictionaries=_dictionaries(found, models_dir))
        if as_json:
            typer.echo(json.dumps(_as_json(report)))
        else:
            console = Console(highlight=False)
            _print(report, console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH))
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


def _bundle(server: str | None, bundle: Path | None) -> LatentMapBundle:
    if bundle is not None:
        return LatentMapBundle.from_folder(bundle)
    return asyncio.run(fetch_map(str(server), cache=FileCache()))


def _local_bundle(header: LatentStreamHeader, models_dir: Path) -> LatentMapBundle:
    """Return the map of the stream's latent space from the models directory, or the one that ships."""
    folder = bundle_place(models_dir, header.latent_space_id)
    if folder is not None:
        return LatentMapBundle.from_folder(folder)
    raise InvalidMap(
        f"there is no latent-space map of {header.latent_space_id!r} below {models_dir}: "
        "name a --server, a --bundle or a --decoder"
    )


def _dictionaries(found: LatentMapBundle | None, models_dir: Path) -> dict[str, bytes]:
    """Return the zstd dictionaries of the map that was named, or of all that are at hand."""
    if found is not None:
        bundles = [found]
    else:
        bundles = [LatentMapBundle.from_folder(folder) for folder in bundle_places(models_dir)]
    return {
        entry.hash: bundle.assets[entry.hash] for bundle in bundles for entry in bundle.latent_map.zstd_dictionaries
    }


def _require_same_space(found: LatentMapBundle | None, header: LatentStreamHeader) -> None:
    if found is not None and found.latent_map.id != header.latent_space_id:
        raise InvalidMap(f"the stream is of {header.latent_space_id!r}, the map of {found.latent_map.id!r}")


def _as_json(report: Inspection) -> dict[str, Any]:
    values = asdict(report) | {"sound": report.problem is None, "envelope_bytes": report.envelope_bytes}
    if report.header is not None and report.header.scales is not None:
        values["header"]["scales"] = report.header.scales.hex()
    return values


def _print(report: Inspection, console: Console) -> None:
    console.print(
        f"{report.wire_format or 'unknown format'}, {report.encoding}: {report.received_bytes} bytes"
        + ("" if report.encoding == "identity" else f", {report.expanded_bytes} expanded"),
        markup=False,
    )
    header = report.header
    if header is not None:
        console.print(f"header    {report.header_bytes or '?'} bytes", markup=False)
        for name in ("latent_space_id", "shape", "dtype", "pipeline", "fps", "total_frames", "vae_scale_factor"):
            value = getattr(header, name)
            if value is not None:
                console.print(f"  {name:<17}{list(value) if name == 'shape' else value}", markup=False)
        if header.scales is not None:
            console.print(f"  {'scales':<17}{len(header.scales)} bytes, {header.scales.hex()}", markup=False)
    if report.frame_count:
        console.print(
            f"frames    {report.frame_count}: {report.data_bytes} bytes of data, "
            f"{report.envelope_bytes} of envelope around them",
            markup=False,
        )
        console.print(_table(report))
        if report.frame_count > ROWS:
            console.print(f"... and {report.frame_count - ROWS} more", markup=False)
    if report.problem is None:
        console.print("sound     the stream ends as it should", markup=False)
        return
    console.print(f"WRONG     at byte {report.problem_offset}: {report.problem}", markup=False, soft_wrap=True)
    if report.wire_format is not None and report.problem_offset == 0 and report.encoding == "identity":
        console.print("          (that a body is br stands in its HTTP headers alone: try --encoding br)", markup=False)


def _table(report: Inspection) -> Table:
    table = Table("seq", "at byte", "kind", "data", "scales", "min", "max", "mean", "deviation", box=None)
    for frame in report.frames[:ROWS]:
        kind = "key" if frame.keyframe else "residual"
        if frame.done:
            kind += f", done ({frame.finish_reason or 'no reason'})"
        scales = "-" if frame.smallest_scale is None else f"{frame.smallest_scale:.4g} to {frame.largest_scale:.4g}"
        numbers = (f"{value:.4g}" for value in (frame.minimum, frame.maximum, frame.mean, frame.deviation))
        table.add_row(str(frame.seq), str(frame.offset), kind, str(frame.data_bytes), scales, *numbers)
    return table

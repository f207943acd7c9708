"""Implementation of the `encode` command, which encodes an image or a video to a latent stream."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from codec_client import LatentClient
from codec_client.latent_requests import EncodingRequest
from codec_server.actions.generate import parse_size
from codec_server.in_process import InProcessClient
from codec_server.received_body import receive_body
from codec_server.target import Target, settings_of
from codec_server.terminal.output_file import PIPE, STREAM_FORMAT, OutputFile
from codec_server.terminal.startup import configure_log
from codec_wire import WireFormat
from codec_wire.errors import InvalidSettings
from core.encode_plan import modality_of_file


def run_encode(
    file: Path,
    output: str,
    target: Target,
    flags: Mapping[str, Any],
    *,
    pipeline: str,
    size: str | None,
    keyframe_interval: int | None,
    seed: int | None,
) -> None:
    """Encode `file` with the model of `target` and write the latent stream to the file `output`.

    `flags` is a dictionary of the model's settings, keyed by the names of the settings. Raises a CodecError if an
    option or the file is invalid, or if encoding fails.
    """
    output_file = OutputFile(output, STREAM_FORMAT)
    target.require_one()
    data = read_file(file)
    request = EncodingRequest(
        data,
        flags["model"],
        flags["latent_space"],
        pipeline,
        None if size is None else parse_size(size),
        keyframe_interval,
        seed,
    )
    settings = settings_of(flags, pipeline)
    configure_log(settings.log_level)
    client = target.client(settings)
    body = asyncio.run(_encode(client, request, target.wire_format))
    written = output_file.write(body)
    if output != PIPE:
        typer.echo(f"wrote {output}, {written} bytes", err=True)


def read_file(path: Path) -> bytes:
    """Return the contents of `path`. Raises InvalidSettings if the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"cannot read {path}: {error.strerror}") from None


async def _encode(client: LatentClient, request: EncodingRequest, wire_format: WireFormat) -> bytes:
    """Encode the input of `request` with `client` and return the uncompressed body of the latent stream."""
    async with client:
        if isinstance(client, InProcessClient):
            await client.load(modality_of_file(request.file))
            request = replace(request, model=None, latent_space=None)  # the settings select both
        async with client.encoded_stream(request) as stream:
            body, _ = await receive_body(stream, wire_format)
            return body

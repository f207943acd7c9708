"""Implementation of the `reproduce` command, which generates a file again and compares it with the result."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from codec_client import Generation, LatentClient
from codec_pixels.vae_location import require_torch, require_vae_folder
from codec_server.actions.decoding import Decoding
from codec_server.actions.encode import read_file
from codec_server.actions.generate_to_file import ReceivedLatents, receive_latents, request_inputs
from codec_server.in_process import InProcessClient
from codec_server.recorded_file import RecordedFile, read_recorded_file
from codec_server.reproduction import (
    Reproduction,
    ValueDifference,
    latent_difference,
    parameter_differences,
    pixel_difference,
)
from codec_server.target import Target, settings_of
from codec_server.terminal.progress_bar import ProgressBar
from codec_server.terminal.startup import configure_log
from codec_wire.errors import CodecError


def run_reproduce(
    file: Path,
    target: Target,
    flags: Mapping[str, Any],
    *,
    image: Path | None,
    mask: Path | None,
    decoder: Path | None,
    download: bool,
    as_json: bool,
) -> bool:
    """Generate `file` again with `target`, print a report, and return whether the result equals `file`.

    `flags` is a dictionary of the settings of the model in this process, keyed by the names of the settings. If `flags`
    contain no model, the model recorded in the file is used. `image` is the input image, and `mask` is the inpainting
    mask. Raises a CodecError if the file or an option is invalid, or if the generation fails.
    """
    recorded = read_recorded_file(file)
    target.require_one()
    fields = recorded.request(*(None if path is None else read_file(path) for path in (image, mask)))
    model = flags["model"] or recorded.parameters.get("model")
    settings = settings_of({**flags, "model": None if flags["pipeline"] else model}, fields.get("pipeline"))
    configure_log(settings.log_level)
    client = replace(target, wire_format=recorded.wire_format).client(settings)
    if not isinstance(client, InProcessClient):
        fields["model"] = model
    if recorded.pixels is not None:
        require_torch()
        require_vae_folder(decoder)
    with ProgressBar(Console(stderr=True)) as bar:
        result = asyncio.run(_reproduce(recorded, client, fields, Decoding(settings, decoder, download), bar))
    typer.echo(json.dumps(asdict(result)) if as_json else _report(file, result))
    return result.equal


async def _reproduce(
    recorded: RecordedFile, client: LatentClient, fields: dict[str, Any], decoding: Decoding, bar: ProgressBar
) -> Reproduction:
    async with client:
        if isinstance(client, InProcessClient):
            bar.set_status("loading the model")
            await client.load(fields["modality"])
        bar.set_status("waiting")
        fields = {name: value for name, value in fields.items() if value is not None}
        received = await receive_latents(client, fields.pop("prompt"), fields, recorded.wire_format, bar)
        inputs = {name: value for name, value in request_inputs(received.request).items() if value is not None}
        parameters = parameter_differences(recorded.parameters, inputs | dict(received.parameters))
        if recorded.pixels is None:
            if received.body == recorded.body:
                return Reproduction(True, parameters)
            return Reproduction(False, parameters, latent_difference(recorded.latents(), received.latents))
        bar.set_status("decoding")
        difference = await _decoded_difference(recorded, received, client, decoding)
        return Reproduction(
            difference is not None and not difference.different,
            parameters,
            difference if difference is None or difference.different else None,
        )


async def _decoded_difference(
    recorded: RecordedFile, received: ReceivedLatents, client: LatentClient, decoding: Decoding
) -> ValueDifference | None:
    """Decode the received latents on this machine and compare the decoded pixels with the recorded pixels.

    If the decoded pixels differ from the recorded pixels, the server also decodes the same latents. The result is the
    smaller of the differences from the recorded pixels, or None if the shapes differ.
    """
    assert recorded.pixels is not None  # noqa: S101 - checked by the caller
    frames = await decoding.frames(received.latents, received.map_hash, client)
    difference = pixel_difference(recorded.pixels, frames[0])
    if difference is None or not difference.different or isinstance(client, InProcessClient):
        return difference
    with suppress(CodecError):  # a server need not have a VAE
        rendered = await client.decode(Generation(received.header, received.latents, received.map_hash))
        on_server = pixel_difference(recorded.pixels, rendered.frames[0])
        if on_server is not None and on_server.different < difference.different:
            return on_server
    return difference


def _report(file: Path, result: Reproduction) -> str:
    lines = [f"{'equal' if result.equal else 'different'}: {file}"]
    if result.values is not None:
        values = result.values
        psnr = "" if values.psnr_db is None else f", PSNR {values.psnr_db:.1f} dB"
        lines.append(f"  {values.different} of {values.total} values differ, by at most {values.maximum:g}{psnr}")
    elif not result.equal:
        lines.append("  the shape or the encoding differs")
    lines += [
        f"  {name}: {_text(before)} recorded, {_text(now)} now" for name, (before, now) in result.parameters.items()
    ]
    if not result.equal and not result.parameters:
        lines.append("  no recorded parameter differs; the cause may be the hardware or a setting that is not recorded")
    return "\n".join(lines)


def _text(value: Any) -> str:
    return "nothing" if value is None else str(value)

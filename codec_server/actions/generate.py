"""Implementation of the `generate` command, which generates an image, a video or a latent stream."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from codec_pixels.vae_location import require_torch, require_vae_folder
from codec_server.actions.decoding import Decoding
from codec_server.actions.generate_to_file import generate_to_file
from codec_server.in_process import InProcessClient
from codec_server.target import Target, settings_of
from codec_server.terminal.output_file import OutputFile
from codec_server.terminal.progress_bar import ProgressBar
from codec_server.terminal.startup import configure_log
from codec_wire.errors import InvalidRequest, InvalidSettings, truncated_repr
from codec_wire.latents import Modality
from codec_wire.request import DEFAULT_NUM_FRAMES


def run_generate(
    prompt: str,
    fields: Mapping[str, Any],
    target: Target,
    flags: Mapping[str, Any],
    *,
    output: str,
    file_format: str | None,
    is_video: bool | None,
    decoder: Path | None,
    download: bool,
    as_json: bool,
    preview: bool,
) -> None:
    """Generate with the model of `target` and write the result to the file `output`.

    `fields` are the fields of the request as given on the command line. In `fields`, `size` is text, `extra` is a list
    of texts NAME=VALUE, and `image`, `latents` and `mask` are paths. An option that was not given has the value None in
    `fields`. `flags` is a dictionary of the settings of the model in this process, keyed by the names of the settings.
    If `preview` is True, previews are written to the file while the model samples. Raises a CodecError if an option is
    invalid or the generation fails.
    """
    output_file = OutputFile(output, file_format)
    if as_json and output_file.is_pipe:
        raise InvalidSettings("--json cannot be combined with `--output -`, because both write to standard output")
    if preview:
        output_file.require_previews()
    target.require_one()
    modality = Modality.VIDEO if (output_file.is_video if is_video is None else is_video) else Modality.IMAGE
    output_file.require_format_for((fields["frames"] or DEFAULT_NUM_FRAMES) if modality is Modality.VIDEO else 1)
    given = {name: _parse_field(name, value) for name, value in fields.items() if value is not None}
    request = {"modality": modality} | given
    settings = settings_of(flags, given.get("pipeline"))
    configure_log(settings.log_level)
    client = target.client(settings)
    if flags["model"] is not None and not isinstance(client, InProcessClient):
        request["model"] = flags["model"]
    if output_file.is_stream:  # fail before the generation rather than after it
        output_file.require_parameters_file()
    else:
        require_torch()
        require_vae_folder(decoder)
    with ProgressBar(Console(stderr=True)) as bar:
        decoding = Decoding(settings, decoder, download)
        result = asyncio.run(
            generate_to_file(
                output_file,
                client,
                prompt,
                request,
                decoding=decoding,
                wire_format=target.wire_format,
                bar=bar,
                preview=preview,
            )
        )
    if as_json:
        typer.echo(json.dumps(result.report(output)))
    elif not output_file.is_pipe:
        typer.echo(f"wrote {output}, {result.bytes} bytes, in {result.seconds:.1f} s", err=True)


def _parse_field(name: str, value: Any) -> Any:
    match name:
        case "size":
            return parse_size(value)
        case "extra":
            return parse_extra(value)
        case "image" | "latents" | "mask":
            return _read_file(name, value)
        case "loras":
            return [_parse_lora(entry) for entry in value]
        case _:
            return value


def parse_extra(items: Sequence[str]) -> dict[str, float | str] | None:
    """Parse texts NAME=VALUE, and return a dictionary of the values by name. Return None if there are no texts.

    Raises InvalidRequest if a text does not have the form NAME=VALUE or a name occurs twice.
    """
    found: dict[str, float | str] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not name or not separator or name in found:
            reason = "must not contain a name twice" if name in found else "must be NAME=VALUE, e.g. clip_skip=1"
            raise InvalidRequest("extra", f"{reason}, got {truncated_repr(item)}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found or None


def parse_size(value: str) -> tuple[int, int]:
    """Parse "WIDTHxHEIGHT" to (width, height) in pixels.

    Raises InvalidRequest if `value` does not have the form WIDTHxHEIGHT.
    """
    width, _, height = value.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(value) < 16):
        raise InvalidRequest("size", f"must be WIDTHxHEIGHT in pixels, for example 512x512, got {value!r}")
    return int(width), int(height)


def _parse_lora(entry: str) -> dict[str, Any]:
    """Parse NAME or NAME=SCALE to an entry of the request field `loras`.

    Raises InvalidRequest if the text after the last "=" is not a number.
    """
    name, separator, scale = entry.rpartition("=")
    if not separator:
        return {"name": entry}
    try:
        return {"name": name, "scale": float(scale)}
    except ValueError:
        raise InvalidRequest(
            "lora", f"must be NAME or NAME=SCALE with a number as SCALE, for example watercolor=0.8, got {entry!r}"
        ) from None


def _read_file(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"--{name}: cannot read {path}: {error.strerror}") from None

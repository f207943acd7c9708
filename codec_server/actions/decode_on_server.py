"""Implementation of `decode --on-server`, which decodes a captured latent stream with the VAE of a server."""

from typing import Any

import typer

from codec_client import HttpClient
from codec_pixels.parameters import file_parameters
from codec_server.captured_stream import read_stream
from codec_server.captures import MapSources
from codec_server.terminal.output_file import pixel_file
from codec_wire.errors import InvalidSettings

_SERVER_FORMATS: dict[str, Any] = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "mp4": "mp4"}
"""File formats that are requested from the server, keyed by the format of the output file."""


def decode_on_server(
    capture: str,
    output: str,
    *,
    file_format: str | None,
    encoding: str | None,
    sources: MapSources,
    has_local_decoder: bool,
) -> None:
    """Decode the stream in the file `capture` on the server of `sources`, and write the file `output`.

    The server returns the finished file. The server returns raw pixels if the output file has a format that the server
    cannot write, such as .gif. `has_local_decoder` is True if the command line contains --decoder or
    --download-decoder. The options --decoder and --download-decoder must not be combined with --on-server. Raises a
    CodecError if an option, the stream or the response of the server is invalid.
    """
    output_file = pixel_file(output, file_format)
    if sources.server is None:
        raise InvalidSettings("--on-server needs --server http://HOST:PORT")
    if has_local_decoder:
        raise InvalidSettings("--on-server cannot be combined with --decoder or --download-decoder")
    stream = read_stream(capture, encoding, sources)
    output_file.require_format_for(len(stream.latents))
    header = stream.header
    format_on_server = _SERVER_FORMATS.get(output_file.format)
    with HttpClient(sources.server, api_key=sources.api_key, ca_file=sources.ca_file).blocking() as client:
        if format_on_server is None or (format_on_server == "mp4") != (header.fps is not None):
            pixels = client.decode(stream.body, encoding=stream.encoding)
            parameters = file_parameters(header, pixels.map_hash, pixels.frames.shape, {})
            written = output_file.write_frames(pixels.frames, header.fps, parameters)
        else:
            written = output_file.write(client.decode_to_file(stream.body, format_on_server, encoding=stream.encoding))
    typer.echo(f"wrote {output}, {written} bytes", err=True)

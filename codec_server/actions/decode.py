"""Decodes a captured latent stream to an image or a video. See codec_server.commands.decode."""

from pathlib import Path

import typer

from codec_client import LatentStreamDecoder, PixelDecoder
from codec_pixels.parameters import file_parameters
from codec_pixels.vae_location import require_torch, require_vae_folder
from codec_server.captures import find_bundle, load_bundles, read_capture, zstd_dictionaries
from codec_server.terminal.output_file import OutputFile
from codec_wire.dictionary_selection import find_dictionary
from codec_wire.errors import InvalidSettings, MalformedMessage
from codec_wire.format_detection import detect_coding, identify_foreign_file


def run_decode(
    capture: str,
    output: str,
    *,
    file_format: str | None,
    encoding: str | None,
    device: str,
    server: str | None,
    api_key: str | None,
    bundle: Path | None,
    models_dir: Path,
    decoder: Path | None,
    download: bool,
) -> None:
    """Decode the stream in the file `capture` to the file `output`.

    Raises InvalidSettings, ModelLoadError, InvalidMap or StreamError.
    """
    output_file = OutputFile(output, file_format)
    if output_file.is_stream:
        raise InvalidSettings("--output must end in .png, .jpg, .webp, .gif or .mp4; .bin is a latent stream")
    require_torch()
    require_vae_folder(decoder)
    head, chunks = read_capture(capture)
    other_format = identify_foreign_file(head)
    if other_format is not None and encoding is None:
        raise MalformedMessage(f"{capture} is {other_format}", 0)
    coding = encoding or detect_coding(head)
    bundles = load_bundles(server, api_key, bundle)
    dictionary = find_dictionary(head, zstd_dictionaries(bundles, models_dir)) if coding == "zstd" else None
    stream = LatentStreamDecoder(encoding=coding, dictionary=dictionary)
    latents = [latent for chunk in chunks for latent in stream.feed(chunk)]
    stream.close()
    header = stream.header
    assert header is not None  # noqa: S101 - close() raises if there was no header
    output_file.require_format_for(len(latents))
    map_bundle = find_bundle(header, bundles, models_dir, required=decoder is None)
    latent_map, digest = (None, None) if map_bundle is None else (map_bundle.latent_map, map_bundle.hash)
    pixels = PixelDecoder(latent_map, path=decoder, models_dir=models_dir, device=device, download=download)
    frames = pixels.frames(latents)
    written = output_file.write_frames(frames, header.fps, file_parameters(header, digest, frames.shape, {}))
    typer.echo(f"wrote {output}, {written} bytes", err=True)

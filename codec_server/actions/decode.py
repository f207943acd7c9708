"""Implementation of the `decode` command, which decodes a captured latent stream to an image or a video."""

from pathlib import Path

import typer

from codec_client import PixelDecoder
from codec_pixels.parameters import file_parameters
from codec_pixels.vae_location import require_torch, require_vae_folder
from codec_server.captured_stream import read_stream
from codec_server.captures import MapSources, find_bundle
from codec_server.terminal.output_file import pixel_file


def run_decode(
    capture: str,
    output: str,
    *,
    file_format: str | None,
    encoding: str | None,
    device: str,
    sources: MapSources,
    decoder: Path | None,
    download: bool,
) -> None:
    """Decode the stream in the file `capture` to the file `output`.

    Raises InvalidSettings if an option or a file is invalid, and StreamError if the stream is invalid. Raises
    ModelLoadError if the VAE cannot be loaded, and InvalidMap if the latent-space map is missing or invalid.
    """
    output_file = pixel_file(output, file_format)
    require_torch()
    require_vae_folder(decoder)
    stream = read_stream(capture, encoding, sources)
    output_file.require_format_for(len(stream.latents))
    header = stream.header
    map_bundle = find_bundle(header, stream.bundles, sources.models_dir, required=decoder is None)
    latent_map, digest = (None, None) if map_bundle is None else (map_bundle.latent_map, map_bundle.hash)
    pixels = PixelDecoder(latent_map, path=decoder, models_dir=sources.models_dir, device=device, download=download)
    frames = pixels.frames(stream.latents)
    written = output_file.write_frames(frames, header.fps, file_parameters(header, digest, frames.shape, {}))
    typer.echo(f"wrote {output}, {written} bytes", err=True)

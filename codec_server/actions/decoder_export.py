"""Implementation of the `map export-decoder` command, which exports the decoder of a VAE for browsers."""

from importlib.util import find_spec
from pathlib import Path

import typer

from codec_maps.annotations import with_onnx_decoder
from codec_pixels.library_logging import silence_libraries
from codec_pixels.vae_location import locate_vae, pipeline_class_of, require_torch, require_vae_folder, vae_folder
from codec_wire.atomic_file import write_atomically
from codec_wire.errors import InvalidMap, InvalidSettings
from codec_wire.maps import LatentMapBundle
from codec_wire.maps.bundle import sha256
from core.decoder_file import DECODER_FILE

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_map_decoder(bundle: Path, output: Path, *, models_dir: Path, decoder: Path | None, fp16: bool) -> None:
    """Export a VAE's decoder as an ONNX model to the directory `output`, with a map that lists the ONNX model.

    The VAE is in the directory `decoder`. Without `decoder`, the map in the directory `bundle` names the VAE. Raises
    InvalidSettings if a required package is missing or `decoder` contains no VAE. Raises InvalidMap if the map is not
    valid or a file cannot be written. Raises ModelLoadError if the VAE cannot be found or exported.
    """
    _require_packages()
    require_vae_folder(decoder)
    source = LatentMapBundle.from_folder(bundle)
    described = source.latent_map.decoder
    if described is None:
        raise InvalidMap(f"{bundle}: the latent-space map does not name a decoder")
    folder = locate_vae(source.latent_map, models_dir) if decoder is None else vae_folder(decoder)
    silence_libraries()
    from codec_pixels.onnx_export import export_decoder  # noqa: PLC0415 - requires the extra `export`
    from codec_pixels.vae import load_vae  # noqa: PLC0415 - takes seconds

    vae = load_vae(described.model_class, str(folder), use_safetensors=True)
    data, differences = export_decoder(vae, pipeline_class_of(folder), source.latent_map.shape[0], fp16_weights=fp16)
    for one in differences:
        typer.echo(
            f"latents {list(one.shape)}: the exported decoder differs from torch by {one.value:.2g} "
            f"({one.levels} of 255 levels)"
        )
    changed = with_onnx_decoder(source, sha256(data))
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / DECODER_FILE, data)
    except OSError as error:
        raise InvalidMap(f"cannot write {DECODER_FILE} to {output}: {error.strerror}") from None
    changed.write(output)
    typer.echo(f"wrote {output / DECODER_FILE}: {sha256(data)}, {len(data)} bytes")
    typer.echo(f"wrote {output}: {changed.latent_map.id} {changed.hash}")


def _require_packages() -> None:
    require_torch()
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise InvalidSettings(
                f"exporting a decoder needs {package}, which is not installed: install the extra `export` "
                "(pip install -c constraints.txt '.[server,export]')"
            )

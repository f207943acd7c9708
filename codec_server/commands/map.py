"""The `map` commands, which build, show and verify latent-space map bundles, and export decoders."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from codec_server.commands.capture_options import MODELS_DIR, ApiKeyOption, CaFileOption
from codec_server.errors import report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Build, show and verify latent-space maps, which describe the format of latents.",
)


class DecoderFormat(StrEnum):
    """Formats to which a decoder can be exported."""

    ONNX = "onnx"


BundleArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="Directory that contains a latent-space map and its files.", show_default=False)
]
DecoderOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Directory of the VAE. Default: the VAE that the map names.")
]
ModelsDirOption: TypeAlias = Annotated[
    Path,
    typer.Option(help="Directory of local models, in which the command looks for the VAE.", envvar="CODEC_MODELS_DIR"),
]

BUILD_SETTINGS = (*LOCAL_MODEL, "calibration_images", "public_url", "log_level")


@app.command()
@with_settings(BUILD_SETTINGS)
def build(
    prompts: Annotated[
        Path | None, typer.Option(help="Text file with one prompt per line. Default: the included prompts.")
    ] = None,
    canonical_image: Annotated[
        str | None, typer.Option(help="Container image that renders the reference pixels, as NAME@sha256:HEX.")
    ] = None,
    **flags: Any,
) -> None:
    """Calibrate a latent-space map for a model, and write the map to the models directory.

    The command generates images, measures static scales and trains zstd
    dictionaries.

    Example: codec-diffusers map build --calibration-images 64
    """
    with report_cli_errors():
        from codec_server.actions.map_build import run_build
        from core.settings import read_settings

        run_build(read_settings(flags), prompts, canonical_image)


@app.command()
def thresholds(
    bundle: BundleArgument,
    file: Annotated[
        Path, typer.Argument(help="JSON file that the command `golden thresholds` has written.", show_default=False)
    ],
) -> None:
    """Add measured quality thresholds to a latent-space map, which changes the hash of the map.

    Example: codec-diffusers map thresholds BUNDLE thresholds.json
    """
    with report_cli_errors():
        from codec_server.actions.map import add_thresholds

        add_thresholds(bundle, file)


@app.command()
def pin_decoder(
    bundle: BundleArgument,
    decoder: DecoderOption = None,
    models_dir: ModelsDirOption = MODELS_DIR,
) -> None:
    """Add the hash of the VAE's weights to a latent-space map, which changes the hash of the map.

    Clients that decode with this map refuse a VAE with other weights.

    Example: codec-diffusers map pin-decoder BUNDLE
    """
    with report_cli_errors():
        from codec_server.actions.map import pin_decoder as add_weights_hash

        add_weights_hash(bundle, models_dir=models_dir, decoder=decoder)


@app.command()
def show(
    bundle: BundleArgument,
) -> None:
    """Verify a latent-space map and its files, then print the map and the hashes of the files.

    Example: codec-diffusers map show models/latent-spaces/stabilityai/sd-vae-ft-mse
    """
    with report_cli_errors():
        from codec_server.actions.map import show_map

        show_map(bundle)


@app.command()
def verify(
    bundle: Annotated[
        str,
        typer.Argument(
            help="Directory that contains a latent-space map and its files, or http://HOST:PORT of a server.",
            show_default=False,
        ),
    ],
    *,
    api_key: ApiKeyOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Check a latent-space map against the schema, and the files of the map against their hashes.

    Example: codec-diffusers map verify http://127.0.0.1:8080
    """
    with report_cli_errors():
        from codec_server.actions.map import verify_map

        verify_map(bundle, api_key=api_key, ca_file=ca_file)


@app.command()
def export_decoder(
    bundle: Annotated[
        Path, typer.Argument(help="Directory that contains the latent-space map and its files.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to which the decoder and the new map are written.")
    ],
    file_format: Annotated[DecoderFormat, typer.Option("--format", help="Format of the decoder.")] = DecoderFormat.ONNX,
    *,
    fp16: Annotated[
        bool,
        typer.Option(
            "--fp16",
            help="Store the weights as fp16, which halves the size of the file. All computations still use fp32.",
        ),
    ] = False,
    decoder: DecoderOption = None,
    models_dir: ModelsDirOption = MODELS_DIR,
) -> None:
    """Export the VAE's decoder for browsers, and list the decoder in a copy of the map.

    The command writes the file decoder.onnx and a copy of the map bundle. The
    copied map lists the decoder, so its hash differs from that of the original
    map. A server publishes the file decoder.onnx in the directory of its map
    even if the map does not list the decoder. The command compares the outputs
    of the exported decoder with those of torch, and needs the optional
    dependencies `server` and `export` of codec-diffusers.

    Example: codec-diffusers map export-decoder BUNDLE -o NEW --fp16
    """
    with report_cli_errors():
        from codec_server.actions.decoder_export import export_map_decoder

        del file_format  # there is only one
        export_map_decoder(bundle, output, models_dir=models_dir, decoder=decoder, fp16=fp16)

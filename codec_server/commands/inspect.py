"""The `inspect` command, which prints the contents and the first error of a captured latent stream."""

from typing import Annotated

import typer

from codec_server.commands.capture_options import (
    MODELS_DIR,
    ApiKeyOption,
    BundleOption,
    CaFileOption,
    CaptureArgument,
    EncodingOption,
    ModelsDirOption,
    ServerOption,
)
from codec_server.errors import ExitStatus, report_cli_errors


def inspect(
    capture: CaptureArgument,
    *,
    encoding: EncodingOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON on standard output.")] = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
    ca_file: CaFileOption = None,
    bundle: BundleOption = None,
    models_dir: ModelsDirOption = MODELS_DIR,
) -> None:
    """Print the header, the frames and the first error of a captured latent stream.

    The exit status is 4 if the stream is invalid. Byte offsets count from 0
    in the decompressed stream. A latent-space map is needed only for a file
    that is compressed with zstd and a dictionary.

    Examples:
      codec-diffusers inspect latents.bin

      curl ... | codec-diffusers inspect - --json

    """
    with report_cli_errors():
        from codec_server.actions.inspect import run_inspect
        from codec_server.captures import MapSources

        is_valid = run_inspect(
            capture,
            encoding=encoding,
            as_json=as_json,
            sources=MapSources(server, api_key, ca_file, bundle, models_dir),
        )
    if not is_valid:
        raise typer.Exit(ExitStatus.BROKEN_STREAM)

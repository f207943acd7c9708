"""The `inspect` command: prints the contents of a captured latent stream and its first error."""

import json
from typing import Annotated

import typer

from codec_client.inspection import inspect as inspect_chunks
from codec_server.captures import (
    MODELS_DIR,
    ApiKeyOption,
    BundleOption,
    CaptureArgument,
    EncodingOption,
    ModelsDirOption,
    ServerOption,
    load_bundles,
    read_capture,
    zstd_dictionaries,
)
from codec_server.errors import ExitStatus, report_cli_errors
from codec_server.terminal import inspection
from codec_wire.format_detection import detect_coding


def inspect(
    capture: CaptureArgument,
    *,
    encoding: EncodingOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    server: ServerOption = None,
    api_key: ApiKeyOption = None,
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
        head, chunks = read_capture(capture)
        is_zstd = (encoding or detect_coding(head)) == "zstd"
        dictionaries = zstd_dictionaries(load_bundles(server, api_key, bundle), models_dir) if is_zstd else {}
        report = inspect_chunks(chunks, encoding=encoding, dictionaries=dictionaries)
        if as_json:
            typer.echo(json.dumps(inspection.to_json(report)))
        else:
            inspection.print_report(report)
    if report.problem is not None:
        raise typer.Exit(ExitStatus.BROKEN_STREAM)

"""Implementation of the `inspect` command, which prints the contents and the first error of a latent stream."""

import json

import typer

from codec_client.inspection import inspect
from codec_server.captures import MapSources, read_capture, zstd_dictionaries
from codec_server.terminal import inspection
from codec_wire.format_detection import detect_coding


def run_inspect(
    capture: str,
    *,
    encoding: str | None,
    as_json: bool,
    sources: MapSources,
) -> bool:
    """Print a report about the stream in the file `capture`. Return whether the stream is valid.

    Raises InvalidSettings if an option is invalid or the file cannot be read, and InvalidMap if a map is invalid.
    """
    head, chunks = read_capture(capture)
    is_zstd = (encoding or detect_coding(head)) == "zstd"
    dictionaries = zstd_dictionaries(sources.selected(), sources.models_dir) if is_zstd else {}
    report = inspect(chunks, encoding=encoding, dictionaries=dictionaries)
    if as_json:
        typer.echo(json.dumps(inspection.to_json(report)))
    else:
        inspection.print_report(report)
    return report.problem is None

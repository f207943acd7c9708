"""Implementation of the `golden` commands that evaluate decoders against golden fixtures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from codec_golden.evaluation import EvaluationResult, evaluate, write_streams
from codec_golden.thresholds import compute_thresholds
from codec_server.terminal.golden import print_evaluation, row_progress
from codec_server.terminal.startup import configure_log, warn_about_versions
from core.pins import require_pins
from core.settings import Settings, read_settings


def run_verify(
    flags: Mapping[str, Any],
    folder: Path,
    fixtures: str | None,
    latent_map: str | None,
    pixels: Path | None,
    *,
    json_file: Path | None,
    report: Path | None,
) -> bool:
    """Evaluate the fixtures in `folder`, print the results and write the requested files.

    Return whether all quality thresholds are met. Raises a CodecError if a fixture or an option is invalid, and OSError
    if a file cannot be read or written.
    """
    result = _evaluate(flags, folder, fixtures, latent_map, pixels)
    if json_file is not None:
        json_file.write_text(json.dumps(result.json, indent=2) + "\n")
    if report is not None:
        from codec_golden.report import render_report  # noqa: PLC0415 - needs the extra `golden`

        report.write_text(render_report(result))
        typer.echo(f"wrote {report}")
    return result.passed


def run_thresholds(
    flags: Mapping[str, Any], folder: Path, fixtures: str | None, latent_map: str | None, output: Path
) -> bool:
    """Evaluate the fixtures in `folder` and write quality thresholds to `output`.

    If the encoded bytes differ from the bytes of the reference encoder, write nothing and return False. Raises a
    CodecError if a fixture or an option is invalid, and OSError if a file cannot be read or written.
    """
    result = _evaluate(flags, folder, fixtures, latent_map, None)
    if any(row.bits for row in result.rows):
        typer.echo(
            "no thresholds were written, because the encoded bytes differ from those of the reference encoder", err=True
        )
        return False
    output.write_text(json.dumps(compute_thresholds(result.rows, result.suite), indent=2) + "\n")
    typer.echo(f"wrote {output}")
    return True


def run_streams(
    flags: Mapping[str, Any], folder: Path, fixtures: str | None, latent_map: str | None, output: Path
) -> None:
    """Write the latents of the fixtures in `folder` as streams to the directory `output`.

    Raises a CodecError if a fixture or an option is invalid, and OSError if a file cannot be read or written.
    """
    for path, size in write_streams(read_settings(flags), folder, split_names(fixtures), latent_map, output):
        typer.echo(f"{size:>10}  {path}")


def _evaluate(
    flags: Mapping[str, Any], folder: Path, fixtures: str | None, latent_map: str | None, pixels: Path | None
) -> EvaluationResult:
    settings = read_golden_settings(flags)
    result = evaluate(settings, folder, split_names(fixtures), latent_map, pixels, progress=row_progress)
    print_evaluation(result)
    return result


def read_golden_settings(flags: Mapping[str, Any]) -> Settings:
    """Configure the log, warn if library versions differ from the pinned versions, and return the settings.

    Raises InvalidSettings if a setting is invalid. If pinned versions are required, also raises InvalidSettings if a
    library version differs from the pinned version.
    """
    settings = read_settings(flags)
    configure_log(settings.log_level)
    if settings.require_pins:
        require_pins()
    warn_about_versions()
    return settings


def split_names(fixtures: str | None) -> list[str] | None:
    """Split a comma-separated list of fixture names.

    Without `fixtures`, return None, so that all fixtures are selected.
    """
    return None if fixtures is None else [name.strip() for name in fixtures.split(",") if name.strip()]

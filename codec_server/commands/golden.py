"""The `golden` commands: build reference images, evaluate decoders against them, write conformance vectors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codec_server.errors import report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings
from codec_server.terminal.golden import print_evaluation, progress_bar, row_progress, step_callback
from codec_server.terminal.startup import configure_log, warn_about_versions
from codec_wire.errors import InvalidSettings
from core.pins import require_pins
from core.settings import Settings, read_settings

if TYPE_CHECKING:
    from codec_golden.build import FixtureBuilder
    from codec_golden.reference import ReferenceModel

app = typer.Typer(no_args_is_help=True, help="Build reference images, and evaluate decoders against them.")

MODEL_SETTINGS = (*LOCAL_MODEL, "require_pins", "image_digest", "log_level")
EVALUATION_SETTINGS = (*MODEL_SETTINGS, "lpips_backbone")

FolderArgument = Annotated[Path, typer.Argument(help="Directory of golden fixtures.", show_default=False)]
FixturesOption = Annotated[str | None, typer.Option(help="Names of fixtures, separated by commas. Default: all.")]
MapOption = Annotated[
    str | None,
    typer.Option("--map", help="Directory of a map bundle, or http://HOST:PORT of a server. Default: the model's map."),
]
PixelsOption = Annotated[
    Path | None,
    typer.Option(help="Directory with the images of another decoder to evaluate, as FIXTURE/PIPELINE.png."),
]


@app.command()
@with_settings(MODEL_SETTINGS)
def build(
    folder: FolderArgument,
    fixtures: FixturesOption = None,
    fixtures_file: Annotated[
        Path | None, typer.Option(help="JSON file that defines the fixtures. Default: the published suite.")
    ] = None,
    latents: Annotated[
        Path | None,
        typer.Option(
            help="Directory of captured latents (NAME.bin) or responses (NAME.msgpack) to use instead of generating."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; report the fixtures whose latents or pixels have changed.")
    ] = False,
    **flags: Any,
) -> None:
    """Build golden latents and reference images with a model, and a manifest of the environment.

    Example: codec-diffusers golden build ./golden --fixtures 256,512 --threads 1
    """
    with _report_errors():
        settings = _read_settings(flags)
        from codec_golden.build import FixtureBuilder  # noqa: PLC0415 - importing torch takes seconds
        from codec_golden.fixtures import read_suite  # noqa: PLC0415

        suite = read_suite(fixtures_file)
        with _open_model(settings) as model:
            builder = FixtureBuilder(model, suite.suite, folder, latents)
            selected, skipped = builder.select(suite, _split_names(fixtures))
            for line in skipped:
                typer.echo(line, err=True)
            (_check if check else _build)(builder, selected)


def _build(builder: "FixtureBuilder", fixtures: dict[str, Any]) -> None:
    with progress_bar() as progress:
        for key, fixture in fixtures.items():
            task = progress.add_task(key, total=fixture.steps)
            built = builder.build(key, fixture, step_callback(progress, task))
            built.write()
            progress.update(task, completed=1, total=1)
            manifest = built.golden.manifest
            typer.echo(f"{key}  latents {manifest.input_latent_sha256}  pixels {manifest.pixels_sha256}")


def _check(builder: "FixtureBuilder", fixtures: dict[str, Any]) -> None:
    changed = 0
    with progress_bar() as progress:
        task = progress.add_task("checking", total=None)
        for checked in builder.check(fixtures, step_callback(progress, task)):
            changed += bool(checked.changed)
            if not checked.changed:
                typer.echo(f"{checked.key}  unchanged")
                continue
            difference = checked.max_difference
            largest = "different size" if difference is None else f"largest difference {difference} of 255"
            typer.echo(f"{checked.key}  CHANGED: {', '.join(checked.changed)}; {largest}")
            for line in checked.environment or ["the recorded environment is the same"]:
                typer.echo(f"    {line}")
    if changed:
        typer.echo(f"{changed} of {len(fixtures)} fixtures changed: results measured against them are no longer valid")
        raise typer.Exit(1)


@app.command()
@with_settings(EVALUATION_SETTINGS)
def verify(  # noqa: PLR0917 - typer arguments
    folder: FolderArgument,
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    pixels: PixelsOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this JSON file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report with images to this HTML file.")] = None,
    **flags: Any,
) -> None:
    """Encode and decode golden latents with every pipeline, and compare with the reference images.

    The exit status is 1 if a byte differs from the reference encoder, or if
    one of the map's quality_thresholds is not met.

    Example: codec-diffusers golden verify ./golden --report report.html
    """
    with _report_errors():
        from codec_golden.evaluation import EvaluationResult, evaluate  # noqa: PLC0415

        result: EvaluationResult = evaluate(
            _read_settings(flags), folder, _split_names(fixtures), latent_map, pixels, progress=row_progress
        )
        print_evaluation(result)
        if json_file is not None:
            json_file.write_text(json.dumps(result.json, indent=2) + "\n")
        if report is not None:
            from codec_golden.report import render_report  # noqa: PLC0415

            report.write_text(render_report(result))
            typer.echo(f"wrote {report}")
        if not result.passed:
            raise typer.Exit(1)


@app.command()
@with_settings(EVALUATION_SETTINGS)
def thresholds(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file to write, for `map thresholds`.")],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Measure every pipeline and write quality_thresholds for the map, with a margin.

    Example: codec-diffusers golden thresholds ./golden -o thresholds.json
    """
    with _report_errors():
        from codec_golden.evaluation import evaluate  # noqa: PLC0415
        from codec_golden.thresholds import compute_thresholds  # noqa: PLC0415

        result = evaluate(
            _read_settings(flags), folder, _split_names(fixtures), latent_map, None, progress=row_progress
        )
        print_evaluation(result)
        if any(row.bits for row in result.rows):
            typer.echo("no thresholds written: the encoded bytes differ from the reference encoder", err=True)
            raise typer.Exit(1)
        output.write_text(json.dumps(compute_thresholds(result.rows, result.suite), indent=2) + "\n")
        typer.echo(f"wrote {output}")


@app.command()
@with_settings(("models_dir",))
def streams(
    folder: FolderArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Directory to write FIXTURE/PIPELINE.msgpack and .protobuf to.")
    ],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Write the golden latents as encoded streams, to test another decoder.

    Example: codec-diffusers golden streams ./golden -o ./streams
    """
    with _report_errors():
        from codec_golden.evaluation import write_streams  # noqa: PLC0415

        for path, size in write_streams(read_settings(flags), folder, _split_names(fixtures), latent_map, output):
            typer.echo(f"{size:>10}  {path}")


@app.command()
def vectors(folder: Annotated[Path, typer.Argument(help="Directory to write to.", show_default=False)]) -> None:
    """Write the conformance vectors: latents, encoded bytes and decoded latents of every pipeline.

    Example: codec-diffusers golden vectors ./vectors
    """
    with _report_errors():
        from codec_golden.vectors import write_vectors  # noqa: PLC0415

        typer.echo(
            f"wrote {folder}: {write_vectors(folder)} bytes; README.md describes how to check a decoder with them"
        )


@contextmanager
def _report_errors() -> Iterator[None]:
    """Report errors of the codecs and the file system in one line."""
    with report_cli_errors():
        try:
            yield
        except OSError as error:
            raise InvalidSettings(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def _read_settings(flags: dict[str, Any]) -> Settings:
    settings = read_settings(flags)
    configure_log(settings.log_level)
    if settings.require_pins:
        require_pins()
    warn_about_versions()
    return settings


@contextmanager
def _open_model(settings: Settings) -> "Iterator[ReferenceModel]":
    from codec_golden.reference import ReferenceModel  # noqa: PLC0415 - importing torch takes seconds

    model = ReferenceModel(settings)
    try:
        yield model
    finally:
        model.close()


def _split_names(fixtures: str | None) -> list[str] | None:
    return None if fixtures is None else [name.strip() for name in fixtures.split(",") if name.strip()]

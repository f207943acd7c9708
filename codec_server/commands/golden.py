"""`codec-diffusers golden …`: make reference pictures, judge decoders against them, write vectors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codec_server.errors import report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings
from codec_server.terminal.golden import print_evaluation, progress_bar, rows_shown, steps_on
from codec_server.terminal.startup import configure_log, warn_of_pins
from codec_wire.errors import InvalidSettings
from core.pins import require_pins
from core.settings import Settings, read_settings

if TYPE_CHECKING:
    from codec_golden.build import FixtureBuilder
    from codec_golden.reference import ReferenceModel

app = typer.Typer(no_args_is_help=True, help="Make reference pictures, and judge decoders against them.")

MODEL_SETTINGS = (*LOCAL_MODEL, "require_pins", "image_digest", "log_level")
JUDGE_SETTINGS = (*MODEL_SETTINGS, "lpips_backbone")

FolderArgument = Annotated[Path, typer.Argument(help="Folder of golden fixtures.")]
FixturesOption = Annotated[str | None, typer.Option(help="Names, with commas between them. Default: all.")]
MapOption = Annotated[
    str | None, typer.Option("--map", help="Folder of a map bundle, or http://HOST:PORT. Default: the model's own.")
]
PixelsOption = Annotated[
    Path | None, typer.Option(help="Judge these pictures of another decoder instead: FIXTURE/PIPELINE.png in it.")
]


@app.command()
@with_settings(MODEL_SETTINGS)
def build(
    folder: FolderArgument,
    fixtures: FixturesOption = None,
    fixtures_file: Annotated[Path | None, typer.Option(help="A fixtures file. Default: the published one.")] = None,
    latents: Annotated[
        Path | None, typer.Option(help="Folder of captured latents, NAME.bin, or answers, NAME.msgpack.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; name what comes out otherwise.")] = False,
    **flags: Any,
) -> None:
    """Make golden latents and reference pictures with a model, and a manifest that says on what.

    Example: codec-diffusers golden build ./golden --fixtures 256,512 --model stabilityai/stable-diffusion-2-1
    """
    with _said():
        settings = _settings_of(flags)
        from codec_golden.build import FixtureBuilder  # noqa: PLC0415 - torch takes seconds
        from codec_golden.fixtures import read_suite  # noqa: PLC0415

        suite = read_suite(fixtures_file)
        with _model(settings) as model:
            builder = FixtureBuilder(model, suite.suite, folder, latents)
            chosen, left_out = builder.select(suite, _names(fixtures))
            for line in left_out:
                typer.echo(line, err=True)
            (_check if check else _build)(builder, chosen)


def _build(builder: "FixtureBuilder", chosen: dict[str, Any]) -> None:
    with progress_bar() as progress:
        for key, fixture in chosen.items():
            task = progress.add_task(key, total=fixture.steps)
            built = builder.build(key, fixture, steps_on(progress, task))
            built.write()
            progress.update(task, completed=1, total=1)
            manifest = built.golden.manifest
            typer.echo(f"{key}  latents {manifest.input_latent_sha256}  pixels {manifest.pixels_sha256}")


def _check(builder: "FixtureBuilder", chosen: dict[str, Any]) -> None:
    changed = 0
    with progress_bar() as progress:
        task = progress.add_task("checking", total=None)
        for checked in builder.check(chosen, steps_on(progress, task)):
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
        typer.echo(f"{changed} of {len(chosen)} fixtures changed: results measured against them are no longer valid")
        raise typer.Exit(1)


@app.command()
@with_settings(JUDGE_SETTINGS)
def verify(  # noqa: PLR0917 - typer's
    folder: FolderArgument,
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    pixels: PixelsOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a report with pictures, one HTML file.")] = None,
    **flags: Any,
) -> None:
    """Send golden latents through encoder, wire, decoder and VAE, and compare with the reference pictures.

    Exits with 1 when a byte differs or one of the map's quality_thresholds is missed.

    Example: codec-diffusers golden verify ./golden --model stabilityai/stable-diffusion-2-1 --report report.html
    """
    with _said():
        from codec_golden.evaluation import EvaluationResult, evaluate  # noqa: PLC0415

        found: EvaluationResult = evaluate(
            _settings_of(flags), folder, _names(fixtures), latent_map, pixels, progress=rows_shown
        )
        print_evaluation(found)
        if json_file is not None:
            json_file.write_text(json.dumps(found.json, indent=2) + "\n")
        if report is not None:
            from codec_golden.report import render_report  # noqa: PLC0415

            report.write_text(render_report(found))
            typer.echo(f"wrote {report}")
        if not found.passed:
            raise typer.Exit(1)


@app.command()
@with_settings(JUDGE_SETTINGS)
def thresholds(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="JSON file for `map thresholds`.")],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Measure every pipeline over the fixtures and write the map's quality_thresholds, with head-room.

    Example: codec-diffusers golden thresholds ./golden -o thresholds.json --model stabilityai/stable-diffusion-2-1
    """
    with _said():
        from codec_golden.evaluation import evaluate  # noqa: PLC0415
        from codec_golden.thresholds import compute_thresholds  # noqa: PLC0415

        found = evaluate(_settings_of(flags), folder, _names(fixtures), latent_map, None, progress=rows_shown)
        print_evaluation(found)
        if any(row.bits for row in found.rows):
            typer.echo("the bits on the wire are wrong, so there is nothing to take bounds from", err=True)
            raise typer.Exit(1)
        output.write_text(json.dumps(compute_thresholds(found.rows, found.suite), indent=2) + "\n")
        typer.echo(f"wrote {output}")


@app.command()
@with_settings(("models_dir",))
def streams(
    folder: FolderArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for FIXTURE/PIPELINE.msgpack and .protobuf.")],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Write the golden latents as a server would send them, for another decoder to make pictures of.

    Example: codec-diffusers golden streams ./golden -o ./streams --models-dir ./models
    """
    with _said():
        from codec_golden.evaluation import write_streams  # noqa: PLC0415

        for path, size in write_streams(read_settings(flags), folder, _names(fixtures), latent_map, output):
            typer.echo(f"{size:>10}  {path}")


@app.command()
def vectors(folder: Annotated[Path, typer.Argument(help="Folder to write to.")]) -> None:
    """Write the conformance vectors: per pipeline latents in, wire bytes out, reconstruction out.

    Example: codec-diffusers golden vectors ./vectors
    """
    with _said():
        from codec_golden.vectors import write_vectors  # noqa: PLC0415

        typer.echo(f"wrote {folder}: {write_vectors(folder)} bytes; README.md says how to check a decoder with them")


@contextmanager
def _said() -> Iterator[None]:
    """Say an error in a line, and one of the file system with the file."""
    with report_cli_errors():
        try:
            yield
        except OSError as error:
            raise InvalidSettings(f"{error.filename or 'a file'}: {error.strerror or error}") from None


def _settings_of(flags: dict[str, Any]) -> Settings:
    settings = read_settings(flags)
    configure_log(settings.log_level)
    if settings.require_pins:
        require_pins()
    warn_of_pins()
    return settings


@contextmanager
def _model(settings: Settings) -> "Iterator[ReferenceModel]":
    from codec_golden.reference import ReferenceModel  # noqa: PLC0415 - torch takes seconds

    model = ReferenceModel(settings)
    try:
        yield model
    finally:
        model.close()


def _names(fixtures: str | None) -> list[str] | None:
    return None if fixtures is None else [name.strip() for name in fixtures.split(",") if name.strip()]

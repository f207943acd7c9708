"""The `golden` commands, which build reference images, evaluate decoders and write conformance vectors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_server.errors import ExitStatus, report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings
from codec_wire.errors import InvalidSettings

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Build reference images, and evaluate decoders against them."
)

MODEL_SETTINGS = (*LOCAL_MODEL, "require_pins", "image_digest", "log_level")
EVALUATION_SETTINGS = (*MODEL_SETTINGS, "lpips_backbone")

FolderArgument = Annotated[
    Path,
    typer.Argument(
        help="Directory of golden fixtures, which are reference latents and reference images.", show_default=False
    ),
]
FixturesOption = Annotated[
    str | None, typer.Option(help="Comma-separated names of the fixtures to use. Default: all fixtures.")
]
MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        help="Directory that contains a latent-space map and its files, or http://HOST:PORT of a server. Default: the "
        "map of the model.",
    ),
]
PixelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Directory with images that another decoder has decoded, in files FIXTURE/PIPELINE.png. PIPELINE is the "
        "encoding of the latents. These images are evaluated instead of the images that --model decodes."
    ),
]


@app.command()
@with_settings(MODEL_SETTINGS)
def build(
    folder: FolderArgument,
    fixtures: FixturesOption = None,
    fixtures_file: Annotated[
        Path | None, typer.Option(help="JSON file that defines the fixtures. Default: the published fixtures.")
    ] = None,
    latents: Annotated[
        Path | None,
        typer.Option(
            help="Directory of captured latents (FIXTURE.bin) or responses (FIXTURE.msgpack), where FIXTURE is "
            "the name of a fixture. The captured files are used instead of new generations."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Report the fixtures whose latents or pixels have changed, without writing files."
        ),
    ] = False,
    **flags: Any,
) -> None:
    """Generate reference latents and reference images with a model, and write a manifest of the environment.

    Example: codec-diffusers golden build ./golden --fixtures 256,512 --threads 1
    """
    with _report_errors():
        from codec_server.actions.golden_build import run_build

        unchanged = run_build(flags, folder, fixtures, fixtures_file=fixtures_file, latents=latents, check=check)
    if not unchanged:
        raise typer.Exit(ExitStatus.FAILED)


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
    """Encode and decode golden latents with every encoding pipeline, and compare the results with the reference images.

    The exit status is 1 if an encoded byte differs from that of the
    reference encoder, or if a quality threshold of the latent-space map is
    not met.

    Example: codec-diffusers golden verify ./golden --report report.html
    """
    with _report_errors():
        from codec_server.actions.golden import run_verify

        passed = run_verify(flags, folder, fixtures, latent_map, pixels, json_file=json_file, report=report)
    if not passed:
        raise typer.Exit(ExitStatus.FAILED)


@app.command()
@with_settings(EVALUATION_SETTINGS)
def thresholds(
    folder: FolderArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="JSON file to write. The command `map thresholds` reads this file.")
    ],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Measure the quality of every encoding pipeline, add a margin, and write quality thresholds for a map.

    Example: codec-diffusers golden thresholds ./golden -o thresholds.json
    """
    with _report_errors():
        from codec_server.actions.golden import run_thresholds

        written = run_thresholds(flags, folder, fixtures, latent_map, output)
    if not written:
        raise typer.Exit(ExitStatus.FAILED)


@app.command()
@with_settings(name for name in EVALUATION_SETTINGS if name != "dtype")
def accelerate(
    output: Annotated[
        Path,
        typer.Argument(
            help="Directory to which the results are written, as a table, a plot and a JSON file.", show_default=False
        ),
    ],
    fixtures: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated names of the fixtures to use. Default: the smallest fixture that the model supports."
        ),
    ] = None,
    switches: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated sets of switches of fast mode to measure. The switches of one set are joined by "
            "+. For example, fused_qkv,vae_tiling+batch_size=8 has two sets: fused_qkv alone, and vae_tiling "
            "together with batch_size=8. Default: the command selects the sets."
        ),
    ] = None,
    images: Annotated[
        int, typer.Option(help="Number of images to generate for each fixture. The images have different seeds.", min=1)
    ] = 3,
    concurrent: Annotated[
        int,
        typer.Option(
            help="Number of requests that are sent at the same time to measure the images per second under load. All "
            "of these requests are for the first fixture, with different seeds. 0 omits this measurement.",
            min=0,
        ),
    ] = 8,
    **flags: Any,
) -> None:
    """Measure the speed of fast mode, and how much its images differ from those of reference mode.

    The results are also stored next to the model's latent-space map. By
    default, a server in fast mode refuses to start if its switches were not
    measured.

    Example: codec-diffusers golden accelerate ./fast --switches channels_last+compile=full
    """
    with _report_errors():
        from codec_server.actions.golden_accelerate import run_accelerate

        run_accelerate(flags, output, fixtures, switches, images=images, concurrent=concurrent)


@app.command()
@with_settings(("models_dir",))
def streams(
    folder: FolderArgument,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Directory to which the files FIXTURE/PIPELINE.msgpack and FIXTURE/PIPELINE.protobuf are written.",
        ),
    ],
    fixtures: FixturesOption = None,
    latent_map: MapOption = None,
    **flags: Any,
) -> None:
    """Encode golden latents to latent streams, with which other decoders can be tested.

    Example: codec-diffusers golden streams ./golden -o ./streams
    """
    with _report_errors():
        from codec_server.actions.golden import run_streams

        run_streams(flags, folder, fixtures, latent_map, output)


@app.command()
def vectors(
    folder: Annotated[
        Path, typer.Argument(help="Directory to which the conformance vectors are written.", show_default=False)
    ],
) -> None:
    """Write conformance vectors: the latents, encoded bytes and decoded latents of every encoding pipeline.

    Example: codec-diffusers golden vectors ./vectors
    """
    with _report_errors():
        from codec_golden.vectors import write_vectors

        typer.echo(
            f"wrote {folder}: {write_vectors(folder)} bytes; README.md describes how to check a decoder with them"
        )


@contextmanager
def _report_errors() -> Iterator[None]:
    """Report a CodecError or an OSError in one line on standard error."""
    with report_cli_errors():
        try:
            yield
        except OSError as error:
            raise InvalidSettings(f"{error.filename or 'a file'}: {error.strerror or error}") from None

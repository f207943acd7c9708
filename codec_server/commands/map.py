"""The `map` commands: build, show and verify latent-space map bundles."""

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from codec_client import fetch_map
from codec_maps import DictionaryTrial
from codec_maps.annotations import read_thresholds, require_image_digest, with_canonical_image, with_thresholds
from codec_maps.corpus import default_prompts
from codec_maps.scales import Quality
from codec_server.errors import report_cli_errors
from codec_server.flags import LOCAL_MODEL, with_settings
from codec_server.local_model import LocalModel
from codec_server.terminal.startup import configure_log
from codec_wire.errors import InvalidSettings
from codec_wire.maps import LatentMapBundle
from core.map_store import bundle_folder
from core.settings import Settings, read_settings

app = typer.Typer(no_args_is_help=True, help="Build, show and verify latent-space maps.")

BUILD_SETTINGS = (*LOCAL_MODEL, "calibration_images", "public_url", "log_level")
TABLE_WIDTH = 130


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
    """Calibrate a latent-space map for a model and write it to the models directory.

    Generates images, measures static scales and trains zstd dictionaries.

    Example: codec-diffusers map build --calibration-images 64
    """
    with report_cli_errors():
        settings = read_settings(flags)
        configure_log(settings.log_level)
        if canonical_image is not None:
            require_image_digest(canonical_image)
        asyncio.run(_build(settings, _read_prompts(prompts), canonical_image))


async def _build(settings: Settings, prompts: list[str], canonical_image: str | None) -> None:
    model = LocalModel(settings)
    console = Console(stderr=True)
    try:
        with Progress(console=console) as progress:
            images = progress.add_task("generating", total=settings.calibration_images)
            trials = progress.add_task("dictionaries", total=None)
            built = await model.build_map(
                prompts,
                lambda done: progress.update(images, completed=done),
                lambda done, total: progress.update(trials, completed=done, total=total),
            )
    finally:
        await asyncio.to_thread(model.free)
    bundle = built.bundle
    if canonical_image is not None:
        bundle = with_canonical_image(bundle, canonical_image)
    folder = bundle_folder(settings.models_dir, bundle.latent_map.id)
    bundle.write(folder)
    # On a narrow terminal, wrapped lines are more useful than columns that are cut off.
    Console(stderr=True, width=max(console.width, TABLE_WIDTH)).print(
        quality_table(built.qualities), dictionary_table(built.trials)
    )
    typer.echo(f"wrote {folder}: {bundle.latent_map.id} {bundle.hash}")


def quality_table(qualities: list[Quality]) -> Table:
    """Return a table of the signal-to-noise ratio and saturation of each pipeline."""
    table = Table("pipeline", "SNR (dB)", "saturated values", title="Quality of the calibrated pipelines")
    for quality in qualities:
        table.add_row(quality.pipeline, f"{quality.snr_db:.1f}", f"{quality.saturated:.2%}")
    return table


def dictionary_table(trials: list[DictionaryTrial]) -> Table:
    """Return a table of the compressed sizes with and without dictionaries."""
    names = ("identity", "gzip", "br", "zstd", "zstd+dict", "entropy")
    table = Table("format", "pipeline", *names, "saved", "used", title="Mean size of held-out responses (bytes)")
    for trial in trials:
        sizes = map(str, trial.sizes.rounded().values())
        used = "yes" if trial.accepted else "no"
        table.add_row(trial.wire_format, trial.pipeline, *sizes, f"{trial.saving:.1%}", used)
    return table


def _read_prompts(path: Path | None) -> list[str]:
    if path is None:
        return default_prompts()
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"--prompts: cannot read {path}: {error}") from None
    if not any(lines):
        raise InvalidSettings(f"--prompts: {path} contains no prompts")
    return [line for line in lines if line]


@app.command()
def thresholds(
    bundle: Annotated[Path, typer.Argument(help="Directory of a map bundle.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="JSON file written by `golden thresholds`.", show_default=False)],
) -> None:
    """Add measured quality thresholds to a map. This changes its hash.

    Example: codec-diffusers map thresholds BUNDLE thresholds.json
    """
    with report_cli_errors():
        bounds = read_thresholds(file)
        changed = with_thresholds(LatentMapBundle.from_folder(bundle), bounds)
        changed.write(bundle)
        typer.echo(f"wrote {bundle}: {changed.latent_map.id} {changed.hash}")


@app.command()
def show(bundle: Annotated[Path, typer.Argument(help="Directory of a map bundle.", show_default=False)]) -> None:
    """Verify a bundle, then print its map and the hashes of its files.

    Example: codec-diffusers map show models/latent-spaces/stabilityai/sd-vae-ft-mse
    """
    with report_cli_errors():
        found = LatentMapBundle.from_folder(bundle)
        typer.echo(json.dumps(json.loads(found.document), indent=2))
        typer.echo(f"{found.hash}  map.json, {len(found.document)} bytes")
        for digest, data in found.assets.items():
            typer.echo(f"{digest}  {len(data)} bytes")


@app.command()
def verify(
    bundle: Annotated[
        str, typer.Argument(help="Directory of a map bundle, or http://HOST:PORT of a server.", show_default=False)
    ],
) -> None:
    """Check a map against the schema, and its files against their hashes, on disk or on a server.

    Example: codec-diffusers map verify http://127.0.0.1:8080
    """
    with report_cli_errors():
        remote = bundle.startswith(("http://", "https://"))
        found = asyncio.run(fetch_map(bundle)) if remote else LatentMapBundle.from_folder(Path(bundle))
        typer.echo(f"{found.latent_map.id} is valid: {found.hash}, {len(found.assets)} files")

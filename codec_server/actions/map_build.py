"""Implementation of the `map build` command, which calibrates a latent-space map and writes its bundle."""

import asyncio
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from codec_maps import DictionaryTrial
from codec_maps.annotations import require_image_digest, with_canonical_image
from codec_maps.corpus import default_prompts
from codec_maps.scales import Quality
from codec_server.local_model import LocalModel
from codec_server.terminal.startup import configure_log
from codec_wire.errors import InvalidSettings
from core.map_store import bundle_folder, store_latent_rgb
from core.settings import Settings

TABLE_WIDTH = 130


def run_build(settings: Settings, prompts: Path | None, canonical_image: str | None) -> None:
    """Build the map of the model that `settings` select, and write the map to the models directory.

    `prompts` is a text file with one prompt per line, or None for the included prompts. Raises StartupError if the
    model cannot be loaded, and CodecError if a generation fails.
    """
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
    if built.latent_rgb is not None:
        store_latent_rgb(folder, built.latent_rgb)
    # On a narrow terminal, wrapped lines are more useful than columns that are cut off.
    Console(stderr=True, width=max(console.width, TABLE_WIDTH)).print(
        quality_table(built.qualities), dictionary_table(built.trials)
    )
    typer.echo(f"wrote {folder}: {bundle.latent_map.id} {bundle.hash}")


def quality_table(qualities: list[Quality]) -> Table:
    """Return a table with the signal-to-noise ratio and the saturation of each encoding pipeline."""
    table = Table("pipeline", "SNR (dB)", "saturated values", title="Quality of the calibrated pipelines")
    for quality in qualities:
        table.add_row(quality.pipeline, f"{quality.snr_db:.1f}", f"{quality.saturated:.2%}")
    return table


def dictionary_table(trials: list[DictionaryTrial]) -> Table:
    """Return a table of the sizes of latents that are compressed with and without zstd dictionaries."""
    names = ("identity", "gzip", "br", "zstd", "zstd+dict", "entropy")
    table = Table(
        "format",
        "pipeline",
        *names,
        "saved",
        "used",
        title="Mean size in bytes of responses that were not used for training",
    )
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

"""Implementation of the `golden accelerate` command, which measures the switches of fast mode."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from codec_golden.acceleration import SwitchMeter, default_sets, seeded
from codec_golden.acceleration_report import acceleration_table, plot_acceleration
from codec_golden.errors import NotMeasured
from codec_golden.evaluation import load_lpips_metric
from codec_golden.fixtures import Fixture, read_suite
from codec_golden.reference import ReferenceModel
from codec_server.actions.golden import read_golden_settings, split_names
from codec_server.terminal.golden import progress_bar
from codec_wire.errors import InvalidSettings
from core.acceleration_store import AccelerationKey, Accelerations, store_acceleration
from core.map_store import find_bundle
from core.switches import parse_switches

TABLE = "acceleration.md"
RESULTS = "acceleration.json"
PLOT = "acceleration.png"


def run_accelerate(
    flags: Mapping[str, Any], output: Path, fixtures: str | None, switches: str | None, *, images: int, concurrent: int
) -> None:
    """Measure sets of fast-mode switches, and write the results to the directory `output` as a table, a plot and JSON.

    The results are also stored next to the latent-space map.

    Raises a CodecError if an option or the model is invalid, and OSError if a file cannot be read or written.
    """
    settings = read_golden_settings(flags)
    sets = default_sets(concurrent) if switches is None else [parse_switches(text) for text in switches.split(",")]
    largest = max(one.batch_size for one in sets)
    if largest > 1 and largest > concurrent:
        raise InvalidSettings(
            f"--concurrent: must be at least {largest} (the largest batch_size that is measured), got {concurrent}"
        )
    reference = ReferenceModel(settings)
    try:
        info = reference.info
        bundle = find_bundle(settings.models_dir, info, reference.vae_scale_factor)
        if bundle is None:
            raise InvalidSettings(
                f"{info.latent_space} has no latent-space map, and the results are stored next to the map. "
                "Create a map with `codec-diffusers map build`"
            )
        selected = _select(reference, split_names(fixtures))
        requests, lpips = seeded(selected, images), load_lpips_metric(settings)
        first = dict([next(iter(selected.items()))])
        meter = SwitchMeter(settings, reference, requests, lpips, seeded(first, concurrent))
        with progress_bar() as progress:
            total = len(sets) * (len(requests) + (concurrent > 0))
            task = progress.add_task("loading", total=total)
            measured = meter.measure(sets, lambda label: progress.update(task, advance=1, description=label))
            progress.update(task, completed=total)
        entry = Accelerations.Entry(
            key=AccelerationKey.of(bundle.hash, info, reference.hardware_kind),
            fixtures=tuple(selected),
            reference_images_per_s=measured.reference_images_per_s,
            reference_images_per_s_concurrent=measured.reference_images_per_s_concurrent,
            reference_peak_bytes=measured.reference_peak_bytes,
            results=tuple(measured.results),
        )
    finally:
        reference.close()
    if not entry.results:
        reasons = "; ".join(measured.unavailable.values())
        raise InvalidSettings(f"--switches: nothing was measured: {reasons}")
    reason = str(lpips) if isinstance(lpips, NotMeasured) else None
    table = acceleration_table(entry, measured.unavailable, lpips_reason=reason, min_ssim=settings.fast_min_ssim)
    output.mkdir(parents=True, exist_ok=True)
    (output / TABLE).write_text(table)
    (output / RESULTS).write_text(entry.model_dump_json(indent=1) + "\n")
    plot_acceleration(entry, output / PLOT, settings.fast_min_ssim)
    typer.echo(table)
    stored = store_acceleration(settings.models_dir, info.latent_space, entry)
    for path in (output / TABLE, output / RESULTS, output / PLOT, stored):
        typer.echo(f"wrote {path}")


def _select(reference: ReferenceModel, names: list[str] | None) -> dict[str, Fixture]:
    """Return a dictionary of the fixtures that `names` lists, keyed by name.

    Without `names`, return only the smallest fixture that the model can generate.
    """
    selected, _ = read_suite(None).supported_by(reference.info, names)
    if names is not None:
        return selected
    smallest = min(selected, key=lambda name: selected[name].frames * selected[name].resolution ** 2)
    return {smallest: selected[smallest]}

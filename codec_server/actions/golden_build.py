"""Implementation of the `golden build` command, which builds or checks golden latents and reference images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from codec_golden.build import FixtureBuilder
from codec_golden.fixtures import read_suite
from codec_golden.reference import ReferenceModel
from codec_server.actions.golden import read_golden_settings, split_names
from codec_server.terminal.golden import progress_bar, step_callback
from core.settings import Settings


def run_build(
    flags: Mapping[str, Any],
    folder: Path,
    fixtures: str | None,
    *,
    fixtures_file: Path | None,
    latents: Path | None,
    check: bool,
) -> bool:
    """Write new fixtures to `folder`, or compare new fixtures with the existing fixtures if `check` is True.

    Return False if a checked fixture has changed. Raises a CodecError if the model or an option is invalid, and OSError
    if a file cannot be read or written.
    """
    settings = read_golden_settings(flags)
    suite = read_suite(fixtures_file)
    names = split_names(fixtures)
    suite.select(names)  # reports unknown names before the model is loaded
    with _open_model(settings) as model:
        builder = FixtureBuilder(model, suite.suite, folder, latents)
        selected, skipped = builder.select(suite, names)
        for line in skipped:
            typer.echo(line, err=True)
        if check:
            return _check(builder, selected)
        _build(builder, selected)
        return True


def _build(builder: FixtureBuilder, fixtures: dict[str, Any]) -> None:
    with progress_bar() as progress:
        for key, fixture in fixtures.items():
            task = progress.add_task(key, total=fixture.steps)
            built = builder.build(key, fixture, step_callback(progress, task))
            built.write()
            progress.update(task, completed=1, total=1)
            manifest = built.golden.manifest
            typer.echo(f"{key}  latents {manifest.input_latent_sha256}  pixels {manifest.pixels_sha256}")


def _check(builder: FixtureBuilder, fixtures: dict[str, Any]) -> bool:
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
        typer.echo(
            f"{changed} of {len(fixtures)} fixtures changed, so results that were measured with these fixtures "
            "are no longer valid"
        )
    return not changed


@contextmanager
def _open_model(settings: Settings) -> Iterator[ReferenceModel]:
    model = ReferenceModel(settings)
    try:
        yield model
    finally:
        model.close()

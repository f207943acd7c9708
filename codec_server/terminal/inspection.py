"""How `inspect` shows what a capture holds: as lines for people, as JSON for scripts."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from codec_client.inspection import Inspection
from codec_wire.latents import parse_scales

PIPE_WIDTH = 120
ROWS = 20
"""Frames that are printed one by one; the JSON has them all."""
SCALES = 16
"""Static scales that are printed one by one."""
_FIELDS = ("latent_space_id", "shape", "dtype", "pipeline", "fps", "total_frames", "vae_scale_factor")


def as_json(report: Inspection) -> dict[str, Any]:
    """Return everything in a report; static scales as numbers, one a channel, and as the bytes that travelled."""
    values = asdict(report) | {"sound": report.problem is None, "envelope_bytes": report.envelope_bytes}
    if report.header is not None and report.header.scales is not None:
        values["header"]["scales"] = report.header.scales.hex()
        values["header"]["scale_values"] = _static_scales(report)
    return values


def print_report(report: Inspection) -> None:
    """Print a report on standard output."""
    # What comes out of a file is shown as it is: no colours, no [markup], no :emoji:.
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=PIPE_WIDTH)
    console.print(
        f"{report.wire_format or 'unknown format'}, {report.encoding}: {report.received_bytes} bytes"
        + ("" if report.encoding == "identity" else f", {report.expanded_bytes} expanded"),
        markup=False,
    )
    if report.header is not None:
        console.print(f"header    {report.header_bytes} bytes", markup=False)
        for name in _FIELDS:
            value = getattr(report.header, name)
            if value is not None:
                console.print(f"  {name:<17}{list(value) if name == 'shape' else value}", markup=False)
        if report.header.scales is not None:
            numbers = _static_scales(report)
            shown = ", ".join(f"{number:.4g}" for number in numbers)
            if len(numbers) > SCALES:
                shown = f"{min(numbers):.4g} to {max(numbers):.4g}"
            console.print(f"  {'scales':<17}{len(report.header.scales)} bytes: {shown}", markup=False)
    if report.frame_count:
        console.print(
            f"frames    {report.frame_count}: {report.data_bytes} bytes of data, "
            f"{report.envelope_bytes} of envelope around them",
            markup=False,
        )
        console.print(_table(report))
        if report.frame_count > ROWS:
            console.print(f"... and {report.frame_count - ROWS} more", markup=False)
    if report.problem is None:
        console.print("sound     the stream ends as it should", markup=False)
    else:
        console.print(f"WRONG     at byte {report.problem_offset}: {report.problem}", markup=False, soft_wrap=True)


def _static_scales(report: Inspection) -> list[float]:
    if report.header is None or report.header.scales is None:
        return []
    return [float(scale) for scale in parse_scales(report.header.scales, report.header.shape[0])]


def _table(report: Inspection) -> Table:
    table = Table("seq", "at byte", "kind", "data", "scales", "min", "max", "mean", "deviation", box=None)
    for frame in report.frames[:ROWS]:
        kind = "key" if frame.keyframe else "residual"
        if frame.done:
            kind += f", done ({frame.finish_reason or 'no reason'})"
        scales = "-" if frame.smallest_scale is None else f"{frame.smallest_scale:.4g} to {frame.largest_scale:.4g}"
        numbers = (f"{value:.4g}" for value in (frame.minimum, frame.maximum, frame.mean, frame.deviation))
        table.add_row(str(frame.seq), str(frame.offset), kind, str(frame.data_bytes), scales, *numbers)
    return table

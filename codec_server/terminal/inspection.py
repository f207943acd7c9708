"""Output of the `inspect` command, as text or as JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from codec_client.inspection import Inspection
from codec_wire.latents import parse_scales

PIPE_WIDTH = 120
MAX_ROWS = 20
"""Maximum number of frames in the printed table. The JSON report contains all frames."""
MAX_SCALES = 16
"""Maximum number of static scales that are printed.

If the stream has more static scales, only the range of the scales is printed.
"""
_FIELDS = ("latent_space_id", "shape", "dtype", "pipeline", "fps", "total_frames", "vae_scale_factor")


def to_json(report: Inspection) -> dict[str, Any]:
    """Return the whole report as JSON-compatible values.

    The report contains static scales as numbers and as hexadecimal bytes.
    """
    values = asdict(report) | {"sound": report.problem is None, "envelope_bytes": report.envelope_bytes}
    if report.header is not None and report.header.scales is not None:
        values["header"]["scales"] = report.header.scales.hex()
        values["header"]["scale_values"] = _static_scales(report)
    return values


def print_report(report: Inspection) -> None:
    """Print `report` as text on standard output."""
    # Text from the file is printed as it is, without rich's colours, [markup] and :emoji:.
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, emoji=False, width=PIPE_WIDTH)
    console.print(
        f"{report.wire_format or 'unknown format'}, {report.encoding}: {report.received_bytes} bytes"
        + ("" if report.encoding == "identity" else f", {report.expanded_bytes} decompressed"),
        markup=False,
    )
    if report.header is not None:
        _print_header(console, report)
    if report.frame_count:
        console.print(
            f"frames    {report.frame_count}: {report.data_bytes} bytes of data, "
            f"{report.envelope_bytes} bytes of envelope",
            markup=False,
        )
        console.print(_frame_table(report))
        if report.frame_count > MAX_ROWS:
            console.print(f"... and {report.frame_count - MAX_ROWS} more", markup=False)
    if report.problem is None:
        console.print("valid     the stream is complete", markup=False)
    else:
        console.print(f"INVALID   at byte {report.problem_offset}: {report.problem}", markup=False, soft_wrap=True)


def _print_header(console: Console, report: Inspection) -> None:
    console.print(f"header    {report.header_bytes} bytes", markup=False)
    for name in _FIELDS:
        value = getattr(report.header, name)
        if value is not None:
            console.print(f"  {name:<17}{list(value) if name == 'shape' else value}", markup=False)
    scales = _static_scales(report)
    if scales:
        text = ", ".join(f"{scale:.4g}" for scale in scales)
        if len(scales) > MAX_SCALES:
            text = f"{min(scales):.4g} to {max(scales):.4g}"
        console.print(f"  {'scales':<17}{2 * len(scales)} bytes: {text}", markup=False)


def _static_scales(report: Inspection) -> list[float]:
    if report.header is None or report.header.scales is None:
        return []
    return [float(scale) for scale in parse_scales(report.header.scales, report.header.shape[0])]


def _frame_table(report: Inspection) -> Table:
    table = Table("seq", "offset", "kind", "bytes", "scales", "min", "max", "mean", "std", box=None)
    for frame in report.frames[:MAX_ROWS]:
        kind = "key" if frame.keyframe else "residual"
        if frame.done:
            kind += f", done ({frame.finish_reason or 'no reason'})"
        scales = "-" if frame.smallest_scale is None else f"{frame.smallest_scale:.4g} to {frame.largest_scale:.4g}"
        numbers = (f"{value:.4g}" for value in (frame.minimum, frame.maximum, frame.mean, frame.deviation))
        table.add_row(str(frame.seq), str(frame.offset), kind, str(frame.data_bytes), scales, *numbers)
    return table

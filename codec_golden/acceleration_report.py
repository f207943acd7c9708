"""The measured switches of fast mode as a Markdown table and as a plot."""

from collections.abc import Mapping
from pathlib import Path

from core.acceleration_store import AccelerationResult, Accelerations

MIB = 2**20


def acceleration_table(
    entry: Accelerations.Entry, unavailable: Mapping[str, str], *, lpips_reason: str | None, min_ssim: float
) -> str:
    """Return a Markdown table of the results in `entry`, and the reasons why sets of switches are missing.

    The table begins with reference mode. The rows below reference mode are sorted by speed, with the fastest set of
    switches first. `lpips_reason` is the reason why LPIPS was not measured, or None. A result can be named as the best
    only if the lowest SSIM of the result is at least `min_ssim`.
    """
    key, results = entry.key, sorted(entry.results, key=lambda one: -(one.speed_concurrent or one.speed))
    versions = ", ".join(f"{name} {version}" for name, version in sorted(key.versions.items()))
    concurrent = next((one.concurrent for one in results if one.concurrent), None)
    columns = ["switches", "speed, 1 request", "images/s, 1 request"]
    if concurrent:
        columns += [f"speed, {concurrent} requests", f"images/s, {concurrent} requests"]
    columns += ["memory", "lowest SSIM", "mean SSIM", "lowest PSNR", "highest LPIPS", "differs from the reference"]
    rows = [_reference_row(entry), *(_row(result) for result in results)]
    if concurrent is None:
        rows = [(*row[:3], *row[5:]) for row in rows]
    lines = [
        f"{key.model} on {key.device}, {versions}; fixtures {', '.join(entry.fixtures)}.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 2)}---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *_best(results, min_ssim),
    ]
    if lpips_reason is not None:
        lines += ["", f"LPIPS was not measured: {lpips_reason}."]
    if unavailable:
        lines += ["", "Not available for this model:", ""]
        lines += [f"* `{switches}`: {reason}" for switches, reason in unavailable.items()]
    return "\n".join(lines) + "\n"


def _best(results: list[AccelerationResult], min_ssim: float) -> list[str]:
    """Return lines that name the fastest results.

    A result is ignored if the lowest SSIM of the result is below `min_ssim`.
    """
    near = [result for result in results if result.ssim >= min_ssim]
    lines = [f"Fastest with an SSIM of at least {min_ssim:g}, in images/s relative to the reference:", ""]
    for count in ("1", "concurrent"):
        ratios = [
            (ratio, result)
            for result in near
            if (ratio := result.ratio if count == "1" else result.ratio_concurrent) is not None
        ]
        if ratios:
            ratio, best = max(ratios, key=lambda pair: pair[0])
            requests = "1 request" if count == "1" else f"{best.concurrent} concurrent requests"
            lines.append(f"* {requests}: {ratio:.2f}x, SSIM {best.ssim:.4f}, with `{_label(best)}`")
    return lines


def _reference_row(entry: Accelerations.Entry) -> tuple[str, ...]:
    alone, together = entry.reference_images_per_s, entry.reference_images_per_s_concurrent
    rates = "1.00x", _rate(alone, None), "1.00x", _rate(together, None)
    return ("reference", *rates, _memory(entry.reference_peak_bytes), "1", "1", "identical", "0", "no")


def _row(result: AccelerationResult) -> tuple[str, ...]:
    return (
        f"`{_label(result)}`",
        f"{result.speed:.2f}x",
        _rate(result.images_per_s, result.ratio),
        "" if result.speed_concurrent is None else f"{result.speed_concurrent:.2f}x",
        _rate(result.images_per_s_concurrent, result.ratio_concurrent),
        _memory(result.peak_bytes),
        f"{result.ssim:.4f}",
        f"{result.ssim_mean:.4f}",
        "identical" if result.psnr_db is None else f"{result.psnr_db:.1f} dB",
        "not measured" if result.lpips is None else f"{result.lpips:.4f}",
        "yes" if result.moves_reference else "no",
    )


def _label(result: AccelerationResult) -> str:
    return "+".join(result.switches) or "none"


def _rate(images_per_s: float | None, ratio: float | None) -> str:
    if images_per_s is None:
        return ""
    return f"{images_per_s:.3g}" if ratio is None else f"{images_per_s:.3g} ({ratio:.2f}x)"


def _memory(size: int | None) -> str:
    return "not measured" if size is None else f"{size / MIB:.0f} MiB"


def plot_acceleration(entry: Accelerations.Entry, path: Path, min_ssim: float) -> None:
    """Write a plot to `path`, a PNG or SVG file.

    For each set of switches, the plot shows the images/s relative to reference mode, and the lowest SSIM. A dashed line
    marks `min_ssim`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and in the extra `golden`

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=1)
    axes.axhline(min_ssim, color="0.6", linewidth=1, linestyle="--")
    axes.annotate("minimum", (0, min_ssim), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points")
    for number, result in enumerate(sorted(entry.results, key=lambda one: one.speed_concurrent or one.speed), start=1):
        alone, together = result.ratio or result.speed, result.ratio_concurrent
        (line,) = axes.plot(alone, result.ssim, "o", markersize=8, label=f"{number}  {_label(result)}")
        if together is not None:
            axes.plot([alone, together], [result.ssim] * 2, "-", linewidth=1, color=line.get_color())
            axes.plot(together, result.ssim, "s", markersize=8, color=line.get_color(), markerfacecolor="none")
        axes.annotate(str(number), (together or alone, result.ssim), (6, 6), textcoords="offset points")
    concurrent = next((one.concurrent for one in entry.results if one.concurrent), None)
    legend = "circle: 1 request" + (f"; square: {concurrent} concurrent requests" if concurrent else "")
    axes.set_xlabel(f"images/s relative to reference mode ({legend})")
    axes.set_ylabel("lowest SSIM to the reference")
    axes.set_title(f"{entry.key.model} on {entry.key.device}")
    axes.grid(alpha=0.3)
    axes.margins(0.1)
    figure.legend(loc="outside lower left", fontsize="small")
    figure.savefig(path, dpi=110)

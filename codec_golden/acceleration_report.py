"""The measured switches of fast mode as a Markdown table and as a plot."""

from pathlib import Path

from core.acceleration_store import AccelerationResult, Accelerations

MIB = 2**20
_COLUMNS = (
    "switches",
    "speed",
    "images/s",
    "images/s, concurrent",
    "memory",
    "lowest SSIM",
    "mean SSIM",
    "lowest PSNR",
    "highest LPIPS",
    "differs from the reference",
)


def acceleration_table(entry: Accelerations.Entry, unavailable: dict[str, str]) -> str:
    """Return the results in `entry` as a Markdown table, the fastest first, and the reasons for missing results."""
    key = entry.key
    versions = ", ".join(f"{name} {version}" for name, version in sorted(key.versions.items()))
    summary = (
        f"{key.model} on {key.device}, {versions}; fixtures {', '.join(entry.fixtures)}. The reference generates "
        f"{entry.reference_images_per_s:.3g} images/s and needs {_memory(entry.reference_peak_bytes)} for sampling."
    )
    rows = [_row(result) for result in sorted(entry.results, key=lambda one: -one.speed)]
    lines = [summary, "", f"| {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * (len(_COLUMNS) - 2)}---|", *rows]
    if unavailable:
        lines += ["", "Not available for this model:", ""]
        lines += [f"* `{switches}`: {reason}" for switches, reason in unavailable.items()]
    return "\n".join(lines) + "\n"


def _row(result: AccelerationResult) -> str:
    cells = (
        f"`{'+'.join(result.switches) or 'none'}`",
        f"{result.speed:.2f}x",
        f"{result.images_per_s:.3g}",
        "" if result.images_per_s_concurrent is None else f"{result.images_per_s_concurrent:.3g}",
        _memory(result.peak_bytes),
        f"{result.ssim:.4f}",
        f"{result.ssim_mean:.4f}",
        "identical" if result.psnr_db is None else f"{result.psnr_db:.1f} dB",
        "not measured" if result.lpips is None else f"{result.lpips:.4f}",
        "yes" if result.moves_reference else "no",
    )
    return f"| {' | '.join(cells)} |"


def _memory(size: int | None) -> str:
    return "not measured" if size is None else f"{size / MIB:.0f} MiB"


def plot_acceleration(entry: Accelerations.Entry, path: Path) -> None:
    """Write a plot of the speed ratio and the lowest SSIM of each set of switches to `path`, a PNG or SVG file."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and in the extra `golden`

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=1)
    axes.axhline(0.95, color="0.6", linewidth=1, linestyle="--")
    axes.annotate("default minimum", (0, 0.95), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points")
    for number, result in enumerate(sorted(entry.results, key=lambda one: one.speed), start=1):
        axes.plot(result.speed, result.ssim, "o", markersize=9, label=f"{number}  {'+'.join(result.switches)}")
        axes.annotate(str(number), (result.speed, result.ssim), (6, 6), textcoords="offset points")
    axes.set_xlabel("speed, relative to reference mode")
    axes.set_ylabel("lowest SSIM to the reference")
    axes.set_title(f"{entry.key.model} on {entry.key.device}")
    axes.grid(alpha=0.3)
    axes.margins(0.1)
    figure.legend(loc="outside lower left", fontsize="small")
    figure.savefig(path, dpi=110)

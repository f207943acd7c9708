"""VMAF, Netflix's measure of how a video looks, by an ffmpeg that has it (the packaged one of imageio-ffmpeg)."""

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from codec_golden.errors import NotMeasured
from codec_golden.storage import Pixels

MODEL = "vmaf_v0.6.1"
"""The library's default: made for full-HD video on a living room's screen. It reads small pictures as if they were
shown large."""
SMALLEST_SIDE = 16


def vmaf(reference: Pixels, pictures: Pixels, fps: int) -> float:
    """Return the mean VMAF of `pictures`, 0 to 100. Raises NotMeasured saying why it cannot be had."""
    height, width = reference.shape[1:3]
    if min(height, width) < SMALLEST_SIDE:
        raise NotMeasured(f"VMAF needs sides of {SMALLEST_SIDE} pixels or more")
    ffmpeg = _ffmpeg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for which, frames in (("reference", reference), ("pictures", pictures)):
            with (folder / which).open("wb") as file:
                for frame in frames:
                    file.write(frame.tobytes())
        raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps))
        # The first input is the one that is judged. 4:2:0 is what the model was made with.
        graph = "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf="
        graph += f"model=version={MODEL}:log_fmt=json:log_path=log"
        command = [ffmpeg, "-hide_banner", "-nostdin", *raw, "-i", "pictures", *raw, "-i", "reference"]
        done = subprocess.run(  # noqa: S603 - a program that a package brought, and numbers of our own
            [*command, "-lavfi", graph, "-f", "null", "-"], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise NotMeasured(f"ffmpeg could not measure VMAF: {reason}")
        score: float = json.loads((folder / "log").read_text())["pooled_metrics"]["vmaf"]["mean"]
    return float(score)


@cache
def _ffmpeg() -> str:
    """Return the path of an ffmpeg with libvmaf. Raises NotMeasured where there is none."""
    try:
        import imageio_ffmpeg  # noqa: PLC0415 - looks for its program when it is imported
    except ModuleNotFoundError:
        raise NotMeasured("imageio-ffmpeg is not installed") from None
    try:
        path: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise NotMeasured("there is no ffmpeg on this machine, and imageio-ffmpeg brought none") from None
    filters = subprocess.run([path, "-hide_banner", "-filters"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    if " libvmaf " not in filters:
        raise NotMeasured(f"{path} was built without libvmaf")
    return path

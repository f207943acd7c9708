"""The mode of a served model, the switches that are on, and the measured distance of fast mode from reference mode."""

from dataclasses import dataclass

from core.switches import Mode


@dataclass(frozen=True, slots=True)
class Distance:
    """The measured distance of images in fast mode from the images of the same requests in reference mode.

    The value of each metric is the worst value of all measured images.
    """

    ssim: float
    """Structural similarity, which is 1 for identical images."""
    psnr_db: float | None
    """Peak signal-to-noise ratio in dB, or None for identical images."""
    lpips: float | None = None
    """Learned perceptual distance, or None if it was not measured."""


@dataclass(frozen=True, slots=True)
class Acceleration:
    """The mode of a model, the switches that are on in fast mode, and the distance of fast mode from reference mode.

    An unknown distance has the value None.
    """

    mode: Mode = Mode.REFERENCE
    switches: tuple[str, ...] = ()
    distance: Distance | None = None

    def __str__(self) -> str:
        """Return this object as the text that is sent in the HTTP header MODE_HEADER (codec_wire.http)."""
        if self.mode is Mode.REFERENCE:
            return str(self.mode)
        parts = [str(self.mode), f'switches="{"+".join(self.switches)}"']
        if self.distance is None:
            return "; ".join((*parts, "unmeasured"))
        values = {"ssim": self.distance.ssim, "psnr_db": self.distance.psnr_db, "lpips": self.distance.lpips}
        return "; ".join((*parts, *(f"{name}={value:.4f}" for name, value in values.items() if value is not None)))

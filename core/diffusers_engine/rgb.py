"""Conversion of images of every Pillow mode to 8-bit RGB.

Opaque 8-bit images are converted by Pillow, as in diffusers. This module converts 16-bit greyscale images, images with
transparency, and L*a*b* images without Pillow. Pillow would clip 16-bit greyscale values instead of scaling the values.
Pillow would also ignore transparency, and does not convert L*a*b* images to RGB.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDE_MODES = frozenset(("I", "I;16", "I;16B", "I;16L", "I;16N"))
"""Modes in which Pillow opens 16-bit greyscale files."""
_STRAIGHT_ALPHA = {"La": "LA", "RGBa": "RGBA"}
"""Pillow modes with straight alpha, as a dictionary by the corresponding mode with premultiplied alpha."""


def to_rgb(image: "Image") -> "Image":
    """Return `image` as RGB.

    Values of 16-bit greyscale images are divided by 257 and rounded, so that 65535 becomes 255. Values outside the
    16-bit range are clipped. In mode F, values outside 0 to 255 are clipped. Transparent pixels are composited on
    black.
    """
    from PIL import Image, ImageCms  # noqa: PLC0415 - a gateway has no Pillow

    if image.mode in _WIDE_MODES:
        wide = np.asarray(image).astype(np.int64)
        if isinstance(transparent := image.info.get("transparency"), int):
            wide[wide == transparent] = 0
        return Image.fromarray(((np.clip(wide, 0, 65535) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0, posinf=255, neginf=0)
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
        assert converted is not None  # noqa: S101 - None only if it converts in place
        return converted
    image = image.convert(_STRAIGHT_ALPHA.get(image.mode, image.mode))
    if not image.has_transparency_data:
        return image.convert("RGB")
    background = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")

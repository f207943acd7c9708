"""Conversion of pixel formats from and to protobuf."""

from collections.abc import Mapping

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.pixel_format import PixelFormat

FORMATS: Mapping[int, PixelFormat] = {
    pb.PIXEL_FORMAT_UNSPECIFIED: PixelFormat.RGB,
    **{pb.PixelFormat.Value(f"PIXEL_FORMAT_{found.name}"): found for found in PixelFormat},
}
"""Dictionary of the pixel formats, keyed by the number of the protobuf enum value."""


def format_to_message(pixel_format: PixelFormat) -> pb.PixelFormat.ValueType:
    """Return the protobuf enum value of `pixel_format`."""
    return pb.PixelFormat.Value(f"PIXEL_FORMAT_{pixel_format.name}")

"""Small gRPC requests."""

from typing import Any

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

SIZE = pb.PixelSize(width=64, height=64)


def request(**fields: Any) -> pb.GenerateRequest:
    """Return a request for a 64x64 image in two steps; `fields` replace its fields or add to them."""
    values: dict[str, Any] = {"prompt": "a sea", "size": SIZE, "steps": 2}
    return pb.GenerateRequest(**(values | fields))

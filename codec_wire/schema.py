"""The .proto text of the stream's two messages, for clients that generate code from it."""

from importlib import resources


def stream_schema() -> str:
    """Return the text of stream.proto, as it was when the code beside it was generated."""
    return resources.files("codec_wire").joinpath("generated/codec/latents/v1/stream.proto").read_text()

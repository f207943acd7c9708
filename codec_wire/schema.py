"""The .proto file of the stream messages, for clients that generate code from the file."""

from importlib import resources


def stream_schema() -> str:
    """Return the text of stream.proto, from which the generated code of this package was built."""
    return resources.files("codec_wire").joinpath("generated/codec/latents/v1/stream.proto").read_text()

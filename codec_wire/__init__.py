"""The two envelopes of a latent stream: core messages as msgpack bytes and as protobuf messages or bytes."""

from codec_wire.formats import WireFormat, encode
from codec_wire.reader import StreamReader

__all__ = ["StreamReader", "WireFormat", "encode"]

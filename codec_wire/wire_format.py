"""The two wire formats of a latent stream."""

from enum import StrEnum


class WireFormat(StrEnum):
    """Encoding of the messages in an HTTP body."""

    MSGPACK = "msgpack"
    """Concatenated msgpack maps without delimiters."""
    PROTOBUF = "protobuf"
    """Protobuf messages, each preceded by its length as a 4-byte big-endian integer."""

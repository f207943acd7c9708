"""Errors that only a client raises, in addition to the errors in codec_wire.errors.

CodecError
├── ServerUnreachable    no server responded, or the connection was lost before the response
└── UnexpectedAnswer     the response is not a valid response of a Codec server
"""

from codec_wire.errors import CodecError


class ServerUnreachable(CodecError):
    """Raised when no server responds at the address, or when the connection is lost before the response starts."""

    code = "server_unreachable"


class UnexpectedAnswer(CodecError):
    """Raised when the response is not a valid response of a Codec server."""

    code = "unexpected_answer"

"""What can go wrong on the way to a server, beside what codec_wire.errors names and a server says.

CodecError
├── ServerUnreachable    nothing answers at the address, or the connection broke before an answer
└── UnexpectedAnswer     something answers, but not as a Codec server does
"""

from codec_wire.errors import CodecError


class ServerUnreachable(CodecError):
    """Nothing answers at the address, or the connection broke before an answer."""

    code = "server_unreachable"


class UnexpectedAnswer(CodecError):
    """Something answers, but not as a Codec server does."""

    code = "unexpected_answer"

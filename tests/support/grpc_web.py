"""The gRPC-Web protocol, as browsers use it: frames of a flag, a length and a message or the trailers."""

from dataclasses import dataclass, field

CONTENT_TYPE = "application/grpc-web+proto"
_TRAILERS = 0x80


def frame(message: bytes) -> bytes:
    """Return the body of a request with one message."""
    return b"\0" + len(message).to_bytes(4, "big") + message


@dataclass
class GrpcWebReader:
    """Reads a response body in chunks of any size: `messages` so far, and the `trailers` at its end."""

    messages: list[bytes] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    _rest: bytes = b""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the body."""
        self._rest += data
        while len(self._rest) >= 5 and len(self._rest) >= 5 + (size := int.from_bytes(self._rest[1:5], "big")):
            assert not self.trailers, "a frame after the trailers"
            flag, content, self._rest = self._rest[0], self._rest[5 : 5 + size], self._rest[5 + size :]
            if flag & _TRAILERS:
                fields = (line.partition(":") for line in content.decode().splitlines())
                self.trailers = {name.strip().lower(): value.strip() for name, _, value in fields}
            else:
                self.messages.append(content)

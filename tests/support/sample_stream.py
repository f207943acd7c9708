"""A short valid stream without randomness: a header and two frames of zeros."""

from codec_wire import WireFormat, encode
from codec_wire.latents import FinishReason, LatentDtype, LatentFrame, LatentStreamHeader

HEADER = LatentStreamHeader("a/b", (1, 2), LatentDtype.FP16, "raw", total_frames=2)
FRAMES = [
    LatentFrame(bytes(4), 0, keyframe=True, done=False),
    LatentFrame(bytes(4), 1, keyframe=True, done=True, finish_reason=FinishReason.OK),
]
BODY = encode(HEADER, WireFormat.MSGPACK) + b"".join(encode(frame, WireFormat.MSGPACK) for frame in FRAMES)
"""The stream in msgpack, uncompressed."""
HEADER_LENGTH = len(encode(HEADER, WireFormat.MSGPACK))
"""Length of the header message in BODY, which is the offset of the first frame."""

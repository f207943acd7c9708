"""Bit-exact check that encodes one stream with NumPy and torch in both wire formats, and decodes the stream."""

from typing import Any

import numpy as np

from codec_golden.storage import Latents
from codec_golden.wire import FixtureStream, encode_body, reconstruction
from codec_wire import WireFormat
from codec_wire.errors import CodecError


class WireCheck:
    """Encodes latents with NumPy and torch in both wire formats, decodes the streams, and compares the results.

    `faults` describes the differences, and is empty if there are no differences. `decoded` contains the decoded
    latents, float32 [frames, C, h, w], or None if decoding failed. `size` is the size of the msgpack body in bytes.
    """

    def __init__(self, stream: FixtureStream, latents: Latents, device: Any) -> None:
        self.faults: list[str] = []
        self.decoded: Any = None
        self.size: int | None = None
        try:
            self._run(stream, latents, device)
        except CodecError as error:
            self.faults.append(f"the stream cannot be encoded or decoded: {error}")

    def _run(self, stream: FixtureStream, latents: Latents, device: Any) -> None:
        import torch  # noqa: PLC0415 - not needed for evaluating the images of another decoder

        tensor = torch.from_numpy(latents).to(device)
        for wire_format in WireFormat:
            body = encode_body(stream, latents, wire_format)
            if body != encode_body(stream, tensor, wire_format):
                self.faults.append(f"NumPy and torch produce different {wire_format} bytes")
            decoded = reconstruction(body, wire_format)
            if self.decoded is None:
                self.decoded, self.size = decoded, len(body)
            elif not np.array_equal(self.decoded, decoded):
                self.faults.append("the two wire formats decode to different latents")
        if stream.header.pipeline == "raw" and not np.array_equal(self.decoded, latents.astype(np.float32)):
            self.faults.append("the pipeline raw does not decode to the latents that were encoded")

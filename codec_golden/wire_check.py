"""Whether one stream is what it must be, bit by bit."""

from typing import Any

import numpy as np

from codec_golden.storage import Latents
from codec_golden.wire import FixtureStream, body_of, reconstruction
from codec_wire import WireFormat
from codec_wire.errors import CodecError


class WireCheck:
    """One stream: made by NumPy and by torch, in both envelopes, read back, and compared where things must be the same.

    `complaints` says what is wrong; `arrived` is what a client gets, float32 [frames, C, h, w], None where it gets
    nothing; `size` is the msgpack body's, in bytes.
    """

    def __init__(self, plan: FixtureStream, latents: Latents, device: Any) -> None:
        self.complaints: list[str] = []
        self.arrived: Any = None
        self.size: int | None = None
        try:
            self._send(plan, latents, device)
        except CodecError as error:
            self.complaints.append(f"the stream cannot be made or read: {error}")

    def _send(self, plan: FixtureStream, latents: Latents, device: Any) -> None:
        import torch  # noqa: PLC0415 - judging others' pictures needs none of it

        tensor = torch.from_numpy(latents).to(device)
        for wire_format in WireFormat:
            body = body_of(plan, latents, wire_format)
            if body != body_of(plan, tensor, wire_format):
                self.complaints.append(f"NumPy and torch make other {wire_format} bytes")
            arrived = reconstruction(body, wire_format)
            if self.arrived is None:
                self.arrived, self.size = arrived, len(body)
            elif not np.array_equal(self.arrived, arrived):
                self.complaints.append("the two envelopes carry other latents")
        if plan.header.pipeline == "raw" and not np.array_equal(self.arrived, latents.astype(np.float32)):
            self.complaints.append("raw latents arrive changed")

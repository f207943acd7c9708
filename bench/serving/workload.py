"""The requests that the benchmark sends, and the messages that every server must send in response."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from codecai.server.latent_frame import LatentStreamEncoder
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1 import stream_pb2
from codec_wire.grpc import MODALITIES
from codec_wire.latents import Modality

GRPC_SERVICE = pb.DESCRIPTOR.services_by_name["LatentService"].full_name
GRPC_METHOD = f"/{GRPC_SERVICE}/Generate"
PROMPT = "a lighthouse on a cliff in a storm"
HELD_PROMPT = "hold"
"""Prompt of a generation that our server does not finish. It ends when the client disconnects."""
STEPS = 4
"""Number of steps that the replaced sampler reports."""
KEYFRAME_INTERVAL = 24
FPS = 24
SPATIAL_FACTOR = 8
"""Pixels per latent cell along each side."""
_FRAME_OFFSET = 16
"""Number of values by which a frame is shifted against the previous one. All frames are views of one array, so long
videos need little memory."""


@dataclass(frozen=True)
class Workload:
    """One kind of request. `shape` is that of a latent frame, [channels, height, width]."""

    latent_space: str
    shape: tuple[int, int, int]
    pipeline: str
    modality: Modality = Modality.IMAGE
    latent_frames: int = 1
    prompt: str = PROMPT

    def latents(self) -> NDArray[np.float32]:
        """Return the latents, float32 [latent_frames, *shape], which fp16 represents exactly. The frames overlap."""
        size = int(np.prod(self.shape))
        noise = np.random.default_rng(0).standard_normal(size + _FRAME_OFFSET * self.latent_frames)
        values = noise.astype(np.float16).astype(np.float32)
        _, height, width = self.shape
        strides = (_FRAME_OFFSET, height * width, width, 1)
        return as_strided(values, (self.latent_frames, *self.shape), [4 * stride for stride in strides])

    def is_keyframe(self, seq: int) -> bool:
        """Return whether frame `seq` is a keyframe."""
        return not self.pipeline.startswith("delta") or seq % KEYFRAME_INTERVAL == 0

    def messages(self, stream_format: str, latents: NDArray[Any] | None = None) -> Iterator[bytes]:
        """Yield the header and the frames as codecai encodes them. `latents` are fp16; the default is latents()."""
        is_video = self.modality is Modality.VIDEO
        encoder = LatentStreamEncoder(
            self.latent_space,
            self.shape,
            "fp16",
            self.pipeline,
            stream_format=stream_format,
            fps=FPS if is_video else None,
            total_frames=self.latent_frames,
        )
        yield encoder.header()
        values = self.latents() if latents is None else latents
        for seq in range(self.latent_frames):
            done = seq == self.latent_frames - 1
            yield encoder.frame(
                values[seq].astype(np.float16, copy=False),
                seq=seq,
                keyframe=self.is_keyframe(seq),
                done=done,
                finish_reason="ok" if done else None,
            )

    def grpc_messages(self) -> Iterator[bytes]:
        """Yield the serialized messages of a gRPC response."""
        messages = (message[4:] for message in self.messages("protobuf"))  # without the length prefix
        header = stream_pb2.LatentStreamHeader.FromString(next(messages))
        yield pb.GenerateResponse(header=header).SerializeToString()
        for frame in messages:
            yield pb.GenerateResponse(frame=stream_pb2.LatentFrame.FromString(frame)).SerializeToString()

    @cached_property
    def http_digest(self) -> bytes:
        """SHA-256 of the body of an HTTP response in msgpack, without a content coding."""
        return _digest(self.messages("msgpack"))

    @cached_property
    def grpc_digest(self) -> bytes:
        """SHA-256 of the concatenated serialized messages of a gRPC response."""
        return _digest(self.grpc_messages())

    @property
    def path(self) -> str:
        """Path of the HTTP endpoint."""
        return f"/v1/{'videos' if self.modality is Modality.VIDEO else 'images'}/generations"

    def json_body(self) -> bytes:
        """Return the body of an HTTP request."""
        _, height, width = self.shape
        fields: dict[str, object] = {
            "prompt": self.prompt,
            "stream_format": "msgpack",
            "latent_space": self.latent_space,
            "pipeline": self.pipeline,
            "size": f"{width * SPATIAL_FACTOR}x{height * SPATIAL_FACTOR}",
            "steps": STEPS,
        }
        if self.modality is Modality.VIDEO:
            fields |= {"frames": self.latent_frames, "fps": FPS, "keyframe_interval": KEYFRAME_INTERVAL}
        return json.dumps(fields).encode()

    def grpc_request(self) -> pb.GenerateRequest:
        """Return the gRPC request."""
        _, height, width = self.shape
        is_video = self.modality is Modality.VIDEO
        return pb.GenerateRequest(
            prompt=self.prompt,
            modality=MODALITIES[self.modality],
            latent_space=self.latent_space,
            pipeline=self.pipeline,
            size=pb.PixelSize(width=width * SPATIAL_FACTOR, height=height * SPATIAL_FACTOR),
            steps=STEPS,
            frames=self.latent_frames if is_video else None,
            fps=FPS if is_video else None,
            keyframe_interval=KEYFRAME_INTERVAL if is_video else None,
        )


def _digest(messages: Iterator[bytes]) -> bytes:
    digest = hashlib.sha256()
    for message in messages:
        digest.update(message)
    return digest.digest()


VIDEO_LATENT_SPACE = "bench/video"
IMAGE = Workload("codec-diffusers/scenes-vae", (4, 64, 64), "int8-adaptive")
"""An image of 512x512 pixels, 16 KB on the wire."""


def video(pipeline: str, latent_frames: int) -> Workload:
    """Return a video of 832x480 pixels with 16 latent channels."""
    return Workload(VIDEO_LATENT_SPACE, (16, 60, 104), pipeline, Modality.VIDEO, latent_frames)


def by_name(name: str) -> Workload:
    """Return the workload with this name: "image", or "video PIPELINE FRAMES"."""
    if name == "image":
        return IMAGE
    _, pipeline, frames = name.split()
    return video(pipeline, int(frames))

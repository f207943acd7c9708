"""Events of a latent stream while it is generated or received."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from codec_wire.latents import LatentFrame, LatentStreamHeader

PREVIEW_PIPELINE = "int4-adaptive"
"""Pipeline of the frames of previews. It needs no scales from the latent-space map."""


def preview_header(header: LatentStreamHeader) -> LatentStreamHeader:
    """Return the header that the frames of previews would have in a stream of their own, given that of the stream."""
    return replace(header, pipeline=PREVIEW_PIPELINE, scales=None)


@dataclass(frozen=True, slots=True)
class PromptTruncation:
    """Tokens at the end of a prompt that a text encoder of the model ignores, because it has a maximum length.

    `field` is the request field, "prompt" or "negative_prompt"; `encoder` is the component, e.g. "text_encoder_2".
    """

    field: str
    encoder: str
    dropped_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """First event of every generation: sampling starts, and the header can be sent.

    `is_followed` means that the next event is ready too, so that both can be sent at once.
    """

    header: LatentStreamHeader
    truncations: tuple[PromptTruncation, ...] = ()
    is_followed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """The sampler has finished `index` of `total` steps."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of the stream."""

    frame: LatentFrame


@dataclass(frozen=True, slots=True)
class Preview:
    """One latent frame of the clean estimate after step `index` of `total`: what the model expects the result to be.

    `frame` is encoded with PREVIEW_PIPELINE; its `seq` is that of the frame of the stream, and `done` is set for the
    last frame of the estimate.
    """

    index: int
    total: int
    frame: LatentFrame


StreamEvent: TypeAlias = Started | Step | Preview | Frame

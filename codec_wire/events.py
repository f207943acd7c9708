"""Events that report the progress of a latent stream while the stream is generated or received."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from codec_wire.latents import LatentFrame, LatentStreamHeader

PREVIEW_PIPELINE = "int4-adaptive"
"""Name of the encoding pipeline for preview frames.

This encoding pipeline needs no static scales from the latent-space map.
"""


def preview_header(header: LatentStreamHeader) -> LatentStreamHeader:
    """Return a copy of `header` in which the encoding pipeline is PREVIEW_PIPELINE, for a decoder of preview frames."""
    return replace(header, pipeline=PREVIEW_PIPELINE, scales=None)


@dataclass(frozen=True, slots=True)
class PromptTruncation:
    """Report that a prompt was too long, so that a text encoder ignored the last tokens of the prompt.

    `field` is the name of the request field, "prompt" or "negative_prompt". `encoder` is the name of the text encoder
    in the model, such as "text_encoder_2". `dropped_tokens` is the number of ignored tokens.
    """

    field: str
    encoder: str
    dropped_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """First event of every generation. The event contains the header of the stream.

    If `is_followed` is true, the next event is already available. The event Started and the next event can then be sent
    in one write.
    """

    header: LatentStreamHeader
    truncations: tuple[PromptTruncation, ...] = ()
    is_followed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """Event that reports that the sampler has completed `index` of `total` steps."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Frame:
    """Event that contains one frame of the stream."""

    frame: LatentFrame


@dataclass(frozen=True, slots=True)
class Preview:
    """Event that contains one latent frame of a preview.

    A preview is the model's estimate of the finished latents, made after step `index` of `total` steps.

    `frame` is encoded with PREVIEW_PIPELINE. `frame.seq` is the sequence number of the stream frame that the preview
    frame estimates. `frame.done` is true for the last frame of the preview.
    """

    index: int
    total: int
    frame: LatentFrame


StreamEvent: TypeAlias = Started | Step | Preview | Frame

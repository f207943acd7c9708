"""Events that report the generation or the reception of a latent stream."""

from dataclasses import dataclass, replace
from typing import TypeAlias

from codec_wire.latents import LatentFrame, LatentStreamHeader

PREVIEW_PIPELINE = "int4-adaptive"
"""Pipeline that encodes the frames of previews. This pipeline needs no static scales from the latent-space map."""


def preview_header(header: LatentStreamHeader) -> LatentStreamHeader:
    """Return `header` with the pipeline of previews. A decoder with this header decodes the frames of previews."""
    return replace(header, pipeline=PREVIEW_PIPELINE, scales=None)


@dataclass(frozen=True, slots=True)
class PromptTruncation:
    """The tokens at the end of a prompt that a text encoder ignored, because the prompt exceeds its maximum length.

    `field` is the request field, "prompt" or "negative_prompt". `encoder` is the component of the model, e.g.
    "text_encoder_2". `dropped_tokens` is the number of ignored tokens.
    """

    field: str
    encoder: str
    dropped_tokens: int


@dataclass(frozen=True, slots=True)
class Started:
    """First event of every generation: sampling starts, and the header can be sent.

    `is_followed` is true if the next event is ready too, so that both can be sent in one write.
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
    """One latent frame of a preview: the model's estimate, after step `index` of `total`, of the finished latents.

    `frame` is encoded with PREVIEW_PIPELINE. `frame.seq` is the sequence number of the corresponding frame of the
    stream. `frame.done` is set on the last frame of the preview.
    """

    index: int
    total: int
    frame: LatentFrame


StreamEvent: TypeAlias = Started | Step | Preview | Frame

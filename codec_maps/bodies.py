"""The bodies that clients would get of latents at hand: the server's own plan, encoder and envelope."""

from collections.abc import Sequence
from dataclasses import dataclass

from codec_maps.corpus import Sample
from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.maps import LatentMapBundle
from core.model import ModelInfo
from core.plan import plan


@dataclass(frozen=True, slots=True)
class Body:
    """One stream: its header and frames, and their bytes, message by message."""

    header: LatentStreamHeader
    frames: Sequence[LatentFrame]
    messages: Sequence[bytes]

    @property
    def identity(self) -> bytes:
        """The whole body as it is without a content coding."""
        return b"".join(self.messages)


def body_of(sample: Sample, pipeline: str, wire_format: WireFormat, bundle: LatentMapBundle, model: ModelInfo) -> Body:
    """Return the body that a request for `pipeline` in `wire_format` gets where the model makes `sample`'s latents.

    Raises InvalidRequest where `bundle` does not list the pipeline for the sample's modality.
    """
    wanted = plan(sample.request.model_copy(update={"pipeline": pipeline}), bundle, model)
    encoder = LatentEncoder(wanted.header)
    last = len(sample.latents) - 1
    frames = [
        encoder.encode(latent, keyframe=wanted.is_keyframe(seq), last=seq == last)
        for seq, latent in enumerate(sample.latents)
    ]
    messages = [encode(wanted.header, wire_format), *(encode(frame, wire_format) for frame in frames)]
    return Body(wanted.header, frames, messages)


def pipelines_for(sample: Sample, bundle: LatentMapBundle) -> list[str]:
    """Return the pipelines of the map that a request for that kind of sample may name."""
    return [entry.name for entry in bundle.latent_map.pipelines_for(sample.request.modality)]

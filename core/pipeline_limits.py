"""Checks of the encoding pipeline and the keyframe interval of a request."""

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle, MapPipeline
from codec_wire.pipelines import PIPELINES
from codec_wire.request import DEFAULT_KEYFRAME_INTERVAL, GenerationRequest


def require_pipeline(request: GenerationRequest, bundle: LatentMapBundle) -> MapPipeline:
    """Return the entry for the encoding pipeline of `request` in the latent-space map.

    Raises InvalidRequest if the encoding pipeline is unknown, is not in the map, or does not support the modality.
    """
    latent_map = bundle.latent_map
    entry = latent_map.pipeline(request.pipeline)
    if request.pipeline not in PIPELINES:
        reason = f"{truncated_repr(request.pipeline)} is unknown"
    elif PIPELINES[request.pipeline].video_only and request.modality is not Modality.VIDEO:
        reason = f"{request.pipeline} supports only videos"
    elif entry is None:
        reason = f"{request.pipeline} is not in the latent-space map of {latent_map.id}"
    else:
        return entry
    allowed = ", ".join(known.name for known in latent_map.pipelines_for(request.modality))
    raise InvalidRequest("pipeline", f"{reason}; allowed: {allowed}")


def require_keyframe_interval(request: GenerationRequest, pipeline: MapPipeline) -> int:
    """Return the number of frames from one keyframe to the next.

    Raises InvalidRequest if `request.keyframe_interval` exceeds the limit in the latent-space map.
    """
    limit = pipeline.keyframe_interval_frames
    if limit is None:
        return request.keyframe_interval or DEFAULT_KEYFRAME_INTERVAL
    if request.keyframe_interval is None:
        return min(DEFAULT_KEYFRAME_INTERVAL, limit)
    if request.keyframe_interval > limit:
        raise InvalidRequest(
            "keyframe_interval",
            f"must be at most {limit}, the limit of the latent-space map, got {request.keyframe_interval}",
        )
    return request.keyframe_interval

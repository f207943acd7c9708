"""From a request to everything that will be sent: decided once, before anything runs."""

from dataclasses import dataclass, replace

from core.errors import InvalidRequest, NotFound, TooLarge, UnsupportedModality, shown
from core.latents import LatentStreamHeader, Modality
from core.maps import LatentMapBundle, MapPipeline
from core.model import ModelInfo
from core.pipelines import PIPELINES
from core.request import (
    DEFAULT_FPS,
    DEFAULT_FRAMES,
    DEFAULT_KEYFRAME_INTERVAL,
    SEEDS,
    VIDEO_FIELDS,
    GenerationRequest,
)

RENDERING_STEPS = 2
"""What decoding to pixels costs, in sampler steps: 1.57 of Stable Diffusion 1's at 512x512 (docs/rendering.md)."""
MAX_RENDERED_PIXELS = 2**26
"""Pixels of one picture or video at most: 256 frames of 512x512. Unlike latents they are all in memory at once."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One admitted request, resolved: what to sample and the exact stream it becomes. Sizes in pixels.

    Where it is `rendered`, pixels are made of the latents as that stream would carry them.
    """

    model: str
    prompt: str
    negative_prompt: str | None
    modality: Modality
    width: int
    height: int
    steps: int
    seed: int
    guidance_scale: float | None
    frames: int
    keyframe_interval: int
    header: LatentStreamHeader
    rendered: bool = False

    @property
    def cost(self) -> int:
        """What it costs the device: pixels x frames x steps."""
        steps = self.steps + (RENDERING_STEPS if self.rendered else 0)
        return self.width * self.height * self.frames * steps

    def is_keyframe(self, seq: int) -> bool:
        """Return whether frame `seq` is one: always, but for the residuals of a delta pipeline."""
        return not self.header.row.delta or seq % self.keyframe_interval == 0


def plan(request: GenerationRequest, bundle: LatentMapBundle, model: ModelInfo) -> StreamPlan:
    """Return the plan for `request` on `model`, whose latents `bundle` describes.

    Raises InvalidRequest, NotFound or UnsupportedModality, each naming the field at fault.
    """
    if request.model is not None and not model.answers_to(request.model):
        names = ", ".join((model.name, *model.aliases))
        raise NotFound("model", f"this server runs {names}, got {shown(request.model)}")
    if request.latent_space is not None and request.latent_space != model.latent_space:
        raise NotFound("latent_space", f"this server has {model.latent_space}, got {shown(request.latent_space)}")
    if request.modality not in model.modalities:
        made = tuple(str(modality) for modality in model.modalities)
        raise UnsupportedModality(
            f"modality: {model.name} makes {', '.join(made)}, got {shown(str(request.modality))}", made
        )
    width, height = _size(request, model)
    _within("steps", request.steps, model.limits.max_steps)
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        if len(text) > model.limits.max_prompt_characters:
            limit = model.limits.max_prompt_characters
            raise InvalidRequest(field, f"must have at most {limit} characters, got {len(text)}")
    entry = _pipeline(request, bundle)
    fps, frames = _timing(request, model)
    return StreamPlan(
        model=model.name,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        modality=request.modality,
        width=width,
        height=height,
        steps=request.steps,
        seed=request.seed,
        guidance_scale=request.guidance_scale,
        frames=frames,
        keyframe_interval=_keyframe_interval(request, entry),
        header=LatentStreamHeader(
            latent_space_id=model.latent_space,
            shape=model.latent_shape(width, height),
            dtype=bundle.latent_map.dtype,
            pipeline=entry.name,
            scales=bundle.static_scales(entry.name),
            fps=fps,
            total_frames=frames,
        ),
    )


def plan_rendered(
    request: GenerationRequest, count: int, bundle: LatentMapBundle, model: ModelInfo
) -> tuple[StreamPlan, ...]:
    """Return the plans of `count` pictures or videos as pixels, with the seeds from the request's own upwards.

    Each is the plan of the one generation with that seed: its pixels do not depend on how many there are.
    Raises what `plan` raises; UnsupportedModality where the model's latents cannot be rendered; TooLarge.
    """
    first = plan(request, bundle, model)
    made = tuple(str(modality) for modality in model.modalities)
    if not model.renders:
        raise UnsupportedModality(
            f"no pixels are made of {model.name} here: ask for its latents (modality {' or '.join(made)})",
            made,
        )
    if first.header.row.bits is not None:
        raise InvalidRequest("pipeline", f"pixels are made of raw latents, got {first.header.pipeline}")
    if first.seed + count > SEEDS:
        raise InvalidRequest("seed", f"must leave room for {count} seeds below {SEEDS}, got {first.seed}")
    pixels = first.width * first.height * first.frames
    if pixels > MAX_RENDERED_PIXELS:
        raise TooLarge(
            f"{first.width}x{first.height}, {first.frames} frames, are {pixels} pixels; at most {MAX_RENDERED_PIXELS} "
            "are rendered: ask for a smaller size or fewer frames, or for latents"
        )
    return tuple(replace(first, seed=first.seed + index, rendered=True) for index in range(count))


def _within(field: str, value: int, limit: int) -> None:
    if value > limit:
        raise InvalidRequest(field, f"must be at most {limit} on this server, got {value}")


def _size(request: GenerationRequest, model: ModelInfo) -> tuple[int, int]:
    width, height = request.size or model.default_size
    multiple, limit = model.size_multiple, model.limits.max_side
    if width % multiple or height % multiple or not multiple <= min(width, height) or max(width, height) > limit:
        raise InvalidRequest(
            "size", f"width and height must be multiples of {multiple} from {multiple} to {limit}, got {width}x{height}"
        )
    return width, height


def _pipeline(request: GenerationRequest, bundle: LatentMapBundle) -> MapPipeline:
    latent_map = bundle.latent_map
    entry = latent_map.pipeline(request.pipeline)
    video = request.modality is Modality.VIDEO
    usable = [known.name for known in latent_map.pipelines_for(request.modality)]
    allowed = f"allowed are {', '.join(usable)}"
    if request.pipeline not in PIPELINES:
        raise InvalidRequest("pipeline", f"there is no pipeline {shown(request.pipeline)}; {allowed}")
    if PIPELINES[request.pipeline].video_only and not video:
        raise InvalidRequest("pipeline", f"{request.pipeline} is for video alone; {allowed}")
    if entry is None:
        raise InvalidRequest(
            "pipeline", f"the latent-space map of {latent_map.id} does not list {request.pipeline}; {allowed}"
        )
    return entry


def _timing(request: GenerationRequest, model: ModelInfo) -> tuple[int | None, int]:
    """Return (frames per second, number of frames); an image has no rate and one frame."""
    if request.modality is Modality.IMAGE:
        for field in VIDEO_FIELDS:
            if getattr(request, field) is not None:
                raise InvalidRequest(field, f"is for {Modality.VIDEO} alone, and modality is {request.modality}")
        return None, 1
    fps = request.fps or DEFAULT_FPS
    frames = request.frames or DEFAULT_FRAMES
    if request.duration_seconds is not None:
        if request.frames is not None:
            raise InvalidRequest("duration_seconds", "give either frames or duration_seconds, got both")
        # Bounded first: a huge duration must not become a huge integer.
        longest = model.limits.max_frames / fps
        if request.duration_seconds > longest:
            raise InvalidRequest(
                "duration_seconds", f"must be at most {longest:g} at {fps} fps, got {request.duration_seconds:g}"
            )
        frames = max(1, round(request.duration_seconds * fps))
    _within("frames", frames, model.limits.max_frames)
    return fps, frames


def _keyframe_interval(request: GenerationRequest, entry: MapPipeline) -> int:
    longest = entry.keyframe_interval_frames
    if longest is None:
        return request.keyframe_interval or DEFAULT_KEYFRAME_INTERVAL
    if request.keyframe_interval is None:
        return min(DEFAULT_KEYFRAME_INTERVAL, longest)
    if request.keyframe_interval > longest:
        raise InvalidRequest(
            "keyframe_interval", f"the latent-space map allows at most {longest}, got {request.keyframe_interval}"
        )
    return request.keyframe_interval

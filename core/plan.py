"""From a request to everything that will be sent: decided once, before anything runs."""

from dataclasses import dataclass

from codec_wire.errors import InvalidRequest, NotFound, UnsupportedModality, truncated_repr
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle, MapPipeline
from codec_wire.pipelines import PIPELINES
from codec_wire.request import (
    DEFAULT_FPS,
    DEFAULT_FRAMES,
    DEFAULT_KEYFRAME_INTERVAL,
    DEFAULT_STRENGTH,
    VIDEO_FIELDS,
    GenerationRequest,
)
from core.input_image import InputImage, read_input_image
from core.model import Form, ModelInfo

RENDERING_STEPS = 2
"""What decoding to pixels costs, in sampler steps: 1.57 of Stable Diffusion 1's at 512x512 (docs/rendering.md)."""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """One admitted request, resolved: what to sample and the exact stream it becomes. Sizes in pixels.

    `frames` are those on the wire, one latent each; `pictures` are what they decode to. Where it is `rendered`, pixels
    are made of the latents as that stream would carry them.
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
    pictures: int
    image: InputImage | None = None
    control_image: InputImage | None = None
    strength: float | None = None
    rendered: bool = False

    @property
    def cost(self) -> int:
        """What it costs the device: pixels x frames x steps."""
        steps = self.steps + (RENDERING_STEPS if self.rendered else 0)
        return self.width * self.height * self.frames * steps

    @property
    def form(self) -> tuple[Modality, bool, bool]:
        """How the model is asked: for what, with an image or without, with a control image or without."""
        return self.modality, self.image is not None, self.control_image is not None

    def file_parameters(self) -> dict[str, str | int | float | bytes | None]:
        """Return the request's part of the parameters that are written into a rendered file."""
        return {
            "model": self.model,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "image": None if self.image is None else self.image.data,
            "control_image": None if self.control_image is None else self.control_image.data,
            "strength": self.strength,
        }

    def is_keyframe(self, seq: int) -> bool:
        """Return whether frame `seq` is one: always, but for the residuals of a delta pipeline."""
        return not self.header.row.delta or seq % self.keyframe_interval == 0


def plan(request: GenerationRequest, bundle: LatentMapBundle, model: ModelInfo) -> StreamPlan:
    """Return the plan for `request` on `model`, whose latents `bundle` describes.

    Raises InvalidRequest, NotFound or UnsupportedModality, each naming the field at fault.
    """
    if request.model is not None and not model.answers_to(request.model):
        names = ", ".join((model.name, *model.aliases))
        raise NotFound("model", f"this server runs {names}, got {truncated_repr(request.model)}")
    if request.latent_space is not None and request.latent_space != model.latent_space:
        raise NotFound(
            "latent_space", f"this server has {model.latent_space}, got {truncated_repr(request.latent_space)}"
        )
    if request.modality not in model.modalities:
        made = tuple(str(modality) for modality in model.modalities)
        raise UnsupportedModality(
            f"modality: {model.name} makes {', '.join(made)}, got {truncated_repr(str(request.modality))}", made
        )
    image, control_image = (
        None if data is None else read_input_image(field, data)
        for field, data in (("image", request.image), ("control_image", request.control_image))
    )
    form = _require_form(request, model)
    width, height = _size(request, model)
    _within("steps", request.steps, model.limits.max_steps)
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        if len(text) > model.limits.max_prompt_characters:
            limit = model.limits.max_prompt_characters
            raise InvalidRequest(field, f"must have at most {limit} characters, got {len(text)}")
    entry = _pipeline(request, bundle)
    fps, pictures = _timing(request, model)
    frames = model.latent_frames(pictures)
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
        pictures=pictures,
        image=image,
        control_image=control_image,
        strength=_strength(request) if form.strength else None,
    )


def _require_form(request: GenerationRequest, model: ModelInfo) -> Form:
    """Return the form of `request`. Raises InvalidRequest naming the field that is missing or too many."""
    forms = model.forms_of(request.modality)
    for field in ("image", "control_image"):
        came = getattr(request, field) is not None
        matching = [form for form in forms if getattr(form, field) == came]
        if not matching:
            ways = "; ".join(str(form) for form in model.forms_of(request.modality))
            rule = "is not taken" if came else "is required"
            raise InvalidRequest(field, f"{rule}: {model.name} makes {ways}")
        forms = tuple(matching)
    form = forms[0]
    if request.strength is not None and not form.strength:
        raise InvalidRequest("strength", f"is not taken for {form} by {model.name}")
    if request.negative_prompt and not form.negative_prompt:
        raise InvalidRequest("negative_prompt", f"is not taken: {model.name} does not heed one")
    return form


def _strength(request: GenerationRequest) -> float:
    """Return how far the result may be from the image: that share of the steps is run, and it must be one at least."""
    strength = DEFAULT_STRENGTH if request.strength is None else request.strength
    if strength * request.steps < 1:
        raise InvalidRequest(
            "strength", f"must be at least 1/steps, here {1 / request.steps:g}, so that a step is run, got {strength:g}"
        )
    return strength


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
        raise InvalidRequest("pipeline", f"there is no pipeline {truncated_repr(request.pipeline)}; {allowed}")
    if PIPELINES[request.pipeline].video_only and not video:
        raise InvalidRequest("pipeline", f"{request.pipeline} is for video alone; {allowed}")
    if entry is None:
        raise InvalidRequest(
            "pipeline", f"the latent-space map of {latent_map.id} does not list {request.pipeline}; {allowed}"
        )
    return entry


def _timing(request: GenerationRequest, model: ModelInfo) -> tuple[int | None, int]:
    """Return (frames per second, number of pictures); an image has no rate and is one picture."""
    if request.modality is Modality.IMAGE:
        for field in VIDEO_FIELDS:
            if getattr(request, field) is not None:
                raise InvalidRequest(field, f"is for {Modality.VIDEO} alone, and modality is {request.modality}")
        return None, 1
    fps = request.fps or DEFAULT_FPS
    longest, multiple = model.limits.max_frames, model.frame_multiple
    if request.duration_seconds is not None:
        if request.frames is not None:
            raise InvalidRequest("duration_seconds", "give either frames or duration_seconds, got both")
        # Bounded first: a huge duration must not become a huge integer.
        if request.duration_seconds > longest / fps:
            raise InvalidRequest(
                "duration_seconds", f"must be at most {longest / fps:g} at {fps} fps, got {request.duration_seconds:g}"
            )
        return fps, min(_allowed(round(request.duration_seconds * fps), multiple), _last_allowed(longest, multiple))
    if request.frames is None:
        return fps, min(_allowed(DEFAULT_FRAMES, multiple), _last_allowed(longest, multiple))
    _within("frames", request.frames, longest)
    if (request.frames - 1) % multiple:
        near = _allowed(request.frames, multiple)
        raise InvalidRequest(
            "frames", f"must be 1 more than a multiple of {multiple}, e.g. {near}, got {request.frames}"
        )
    return fps, request.frames


def _allowed(frames: int, multiple: int) -> int:
    """Return the nearest number that is 1 more than a multiple; of two as near, the larger. At least 1."""
    return 1 + max(0, int((frames - 1) / multiple + 0.5)) * multiple


def _last_allowed(limit: int, multiple: int) -> int:
    return limit - (limit - 1) % multiple


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

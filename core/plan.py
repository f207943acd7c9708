"""Validation of a request against a model. A plan determines what will be sent to the client before the model runs."""

from dataclasses import dataclass
from functools import lru_cache

from codec_pixels.parameters import ParameterValue
from codec_wire.errors import InvalidRequest
from codec_wire.extra import ExtraParameters
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import DEFAULT_STRENGTH, GenerationRequest
from codec_wire.request_lora import RequestLora
from core.extra_limits import needs_second_pass, uses_true_guidance
from core.input_image import InputImage, read_input_image, require_same_size
from core.input_latents import InputLatents, read_input_latents
from core.lora_limits import require_loras
from core.model import INPUT_FIELDS, ModelInfo
from core.pipeline_limits import require_keyframe_interval, require_pipeline
from core.prompt_syntax import require_prompt_syntax
from core.request_mode import select_mode
from core.size_limits import require_at_most, require_size, require_timing, with_size_of
from core.step_limits import require_accepted_steps, require_scheduler

RENDERING_STEPS = 2
"""Number of sampling steps that cost as much as decoding latents to pixels.

With Stable Diffusion 1 at 512x512, decoding takes as long as 1.57 sampling steps (docs/rendering.md).
"""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A validated request with all default values, and the header of the resulting latent stream.

    `width` and `height` are in pixels. `num_frames` is the number of video frames, and `latent_frames` is the number of
    frames in the latent stream. For an image, `num_frames` and `latent_frames` are 1. If `rendered` is set, the latents
    are decoded to pixels instead of being sent. `preview_every` is the number of steps from one latent preview to the
    next, or None for a plan without latent previews. `partial_images` is the number of pixel previews if `rendered` is
    set. A plan with too few steps has fewer pixel previews than `partial_images`. `prompt_syntax` is the syntax of the
    prompts, or None for plain prompts. `passes` is 2 if `extra` makes the model run twice instead of once in each step.
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
    num_frames: int
    latent_frames: int
    keyframe_interval: int
    header: LatentStreamHeader
    image: InputImage | None = None
    control_image: InputImage | None = None
    mask: InputImage | None = None
    scheduler: str | None = None
    prompt_syntax: str | None = None
    loras: tuple[RequestLora, ...] = ()
    strength: float | None = None
    latents: InputLatents | None = None
    preview_every: int | None = None
    extra: ExtraParameters | None = None
    passes: int = 1
    rendered: bool = False
    partial_images: int = 0

    @property
    def cost(self) -> int:
        """Estimated cost of this plan on the device: the product of the numbers of pixels, latent frames and steps.

        The cost of a step includes the classifier-free guidance that a model always uses. Guidance that `extra` adds
        doubles the cost of the steps.
        """
        steps = self.steps * self.passes + (RENDERING_STEPS * (1 + self.partial_images) if self.rendered else 0)
        return self.width * self.height * self.latent_frames * steps

    @property
    def request_bytes(self) -> int:
        """Size of the input images and latents in bytes."""
        files = (self.image, self.control_image, self.mask, self.latents)
        return sum(len(file.data) for file in files if file is not None)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the image fields that have a value in the plan, in the order of INPUT_FIELDS.

        Input latents count as the field `image`.
        """
        given = {"image": self.image or self.latents, "control_image": self.control_image, "mask": self.mask}
        return tuple(name for name in INPUT_FIELDS if given[name] is not None)

    @property
    def has_previews(self) -> bool:
        """Whether the plan has previews."""
        return self.preview_every is not None or self.partial_images > 0

    def previews_step(self, done: int, total: int) -> bool:
        """Return whether there is a preview after `done` of `total` steps. The last step never has a preview."""
        if self.preview_every is not None:
            return done < total and done % self.preview_every == 0
        parts = self.partial_images + 1
        return done < total and done in {total * index // parts for index in range(1, parts)}

    def file_parameters(self) -> dict[str, ParameterValue]:
        """Return the request parameters that are stored in a rendered file (codec_pixels.parameters)."""
        return {
            "model": self.model,
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "steps": self.steps,
            "scheduler": self.scheduler,
            "prompt_syntax": self.prompt_syntax,
            "loras": self.loras,
            "guidance_scale": self.guidance_scale,
            "image": None if self.image is None else self.image.data,
            "control_image": None if self.control_image is None else self.control_image.data,
            "mask": None if self.mask is None else self.mask.data,
            "strength": self.strength,
            "latents": None if self.latents is None else self.latents.data,
            "extra": self.extra,
        }

    def is_keyframe(self, seq: int) -> bool:
        """Return whether latent frame `seq` is a keyframe.

        Only encoding pipelines whose name begins with "delta" have frames that are not keyframes.
        """
        return not self.header.pipeline_spec.delta or seq % self.keyframe_interval == 0


def plan(request: GenerationRequest, bundle: LatentMapBundle, model: ModelInfo) -> StreamPlan:
    """Return the plan for `request` on `model`. `bundle` is the latent-space map of `model`.

    `model` must be the model that core.model_selection.select_model has selected for `request`. Raises InvalidRequest
    with the name of the field if the request is not valid.
    """
    image = None if request.image is None else read_input_image("image", request.image)
    control_image = None if request.control_image is None else read_input_image("control_image", request.control_image)
    mask = None if request.mask is None else read_input_image("mask", request.mask)
    latents = None if request.latents is None else read_input_latents(request.latents, bundle.zstd_dictionaries())
    mode = select_mode(request, model)
    if image is not None and mask is not None:
        require_same_size("mask", mask, image)
    if latents is not None:
        request = with_size_of(latents, request, model)
    width, height = require_size(request, model)
    require_at_most("steps", request.steps, model.limits.max_steps)
    for field, text in (("prompt", request.prompt), ("negative_prompt", request.negative_prompt or "")):
        if len(text) > model.limits.max_prompt_characters:
            limit = model.limits.max_prompt_characters
            raise InvalidRequest(field, f"must have at most {limit} characters, got {len(text)}")
    strength = (DEFAULT_STRENGTH if request.strength is None else request.strength) if mode.strength else None
    prompt_syntax = require_prompt_syntax(request, model)
    require_scheduler(model, request.scheduler)
    require_accepted_steps(model, mode, request.steps, strength, request.scheduler)
    require_loras(model, request.loras)
    # Classes without negative prompts may not have the argument at all, not even for empty text.
    has_negative = mode.negative_prompt or uses_true_guidance(request.extra)
    negative_prompt = request.negative_prompt if has_negative else None
    pipeline = require_pipeline(request, bundle)
    fps, num_frames = require_timing(request, model)
    latent_frames = model.latent_frames(num_frames)
    return StreamPlan(
        model=model.name,
        prompt=request.prompt,
        negative_prompt=negative_prompt,
        modality=request.modality,
        width=width,
        height=height,
        steps=request.steps,
        seed=request.seed,
        guidance_scale=request.guidance_scale,
        num_frames=num_frames,
        latent_frames=latent_frames,
        keyframe_interval=require_keyframe_interval(request, pipeline),
        header=_header(
            model.latent_space,
            model.latent_shape(width, height),
            bundle.latent_map.dtype,
            pipeline.name,
            bundle.static_scales(pipeline.name),
            fps,
            latent_frames,
        ),
        image=image,
        control_image=control_image,
        mask=mask,
        scheduler=request.scheduler,
        prompt_syntax=prompt_syntax,
        loras=request.loras,
        strength=strength,
        latents=latents,
        preview_every=request.preview_every,
        extra=request.extra,
        passes=2 if needs_second_pass(request.extra, mode) else 1,
    )


_header = lru_cache(maxsize=256)(LatentStreamHeader)
"""Return a LatentStreamHeader with the given fields. The results are cached.

A header does not depend on the prompt or seed, so the header of most requests is already in the cache.
"""

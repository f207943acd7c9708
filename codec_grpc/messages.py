"""Conversion of requests, plans, models and states from and to protobuf messages."""

from dataclasses import asdict, fields
from typing import Any

from codec_wire.errors import InvalidRequest
from codec_wire.extra import ExtraParameters
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import MODALITIES
from codec_wire.latents import Modality
from codec_wire.request import PLAIN_SYNTAX, RANDOM_SEED, GenerationRequest, parse_request
from core.acceleration import Acceleration, Distance
from core.extra_field import ExtraField
from core.lifecycle import State
from core.model import GenerationMode, Lora, ModelInfo, RequestLimits
from core.pixel_checks import PixelCheck
from core.plan import StreamPlan
from core.served import ModelInstance
from core.switches import Mode

_STATES = {state: pb.ServerState.Value(f"SERVER_STATE_{state.name}") for state in State}


def request_from_message(message: pb.GenerateRequest) -> GenerationRequest:
    """Return the request in `message`. If a field is invalid, raises InvalidRequest with the name of the field."""
    values: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    values.pop("progress", None)
    if values.pop("random_seed", False):
        if "seed" in values:
            raise InvalidRequest("random_seed", f"must not be true if seed is given, got seed {values['seed']}")
        values["seed"] = RANDOM_SEED
    if message.HasField("extra"):
        values["extra"] = {field.name: value for field, value in message.extra.ListFields()}
    if message.HasField("size"):
        values["size"] = (message.size.width, message.size.height)
    if "modality" in values:
        names = {number: modality for modality, number in MODALITIES.items()}
        values["modality"] = names.get(message.modality, int(message.modality))
    if "loras" in values:
        values["loras"] = [{field.name: value for field, value in lora.ListFields()} for lora in message.loras]
    return parse_request(values)


def plan_to_message(plan: StreamPlan, *, progress: bool) -> pb.GenerateRequest:
    """Convert `plan` to a request.

    A server with the same model and latent-space map derives a plan equal to `plan` from the returned request.
    """
    is_video = plan.modality is Modality.VIDEO
    return pb.GenerateRequest(
        model=plan.model,
        prompt=plan.prompt,
        negative_prompt=plan.negative_prompt,
        modality=MODALITIES[plan.modality],
        latent_space=plan.header.latent_space_id,
        pipeline=plan.header.pipeline,
        size=pb.PixelSize(width=plan.width, height=plan.height),
        steps=plan.steps,
        seed=plan.seed,
        scheduler=plan.scheduler,
        prompt_syntax=plan.prompt_syntax,
        loras=[pb.RequestLora(name=lora.name, scale=lora.scale) for lora in plan.loras],
        guidance_scale=plan.guidance_scale,
        fps=plan.header.fps if is_video else None,
        frames=plan.num_frames if is_video else None,
        keyframe_interval=plan.keyframe_interval if is_video else None,
        progress=progress,
        image=None if plan.image is None else plan.image.data,
        control_image=None if plan.control_image is None else plan.control_image.data,
        mask=None if plan.mask is None else plan.mask.data,
        strength=plan.strength,
        latents=None if plan.latents is None else plan.latents.data,
        preview_every=plan.preview_every,
        extra=None if plan.extra is None else _extra_to_message(plan.extra),
    )


def _extra_to_message(extra: ExtraParameters) -> pb.ExtraParameters:
    return pb.ExtraParameters(
        true_cfg_scale=extra.true_cfg_scale,
        guidance_rescale=extra.guidance_rescale,
        max_sequence_length=extra.max_sequence_length,
        clip_skip=extra.clip_skip,
    )


def state_to_message(state: State) -> pb.ServerState.ValueType:
    """Return the protobuf enum value of `state`."""
    return _STATES[state]


def served_model_to_message(instance: ModelInstance) -> pb.ServedModel:
    """Return the protobuf description of a served model."""
    return pb.ServedModel(
        model=model_to_message(instance.model),
        latent_map_hash=instance.bundle.hash,
        device=instance.device,
        pixel_checks=[pb.PixelCheck(**asdict(check)) for check in instance.pixel_checks],
        decodes=instance.vae is not None,
        encodes=instance.vae is not None,
        generates=instance.engine is not None,
        acceleration=_acceleration_to_message(instance.acceleration),
    )


def _acceleration_to_message(acceleration: Acceleration) -> pb.Acceleration | None:
    if acceleration.mode is Mode.REFERENCE:
        return None
    distance = acceleration.distance
    return pb.Acceleration(
        switches=acceleration.switches, distance=None if distance is None else pb.Distance(**asdict(distance))
    )


def acceleration_from_message(message: pb.ServedModel) -> Acceleration:
    """Return the acceleration mode, the switches and the measured distance that `message` describes."""
    if not message.HasField("acceleration"):
        return Acceleration()
    found, distance = message.acceleration, None
    if found.HasField("distance"):
        distance = Distance(
            ssim=found.distance.ssim,
            psnr_db=found.distance.psnr_db if found.distance.HasField("psnr_db") else None,
            lpips=found.distance.lpips if found.distance.HasField("lpips") else None,
        )
    return Acceleration(Mode.FAST, tuple(found.switches), distance)


def pixel_checks_from_message(message: pb.ServedModel) -> tuple[PixelCheck, ...]:
    """Return the comparisons of decoded pixels that the description of a served model contains."""
    return tuple(
        PixelCheck(
            pipeline=check.pipeline,
            vae=check.vae,
            max_difference=check.max_difference if check.HasField("max_difference") else None,
            tolerance=check.tolerance,
            reason=check.reason if check.HasField("reason") else None,
        )
        for check in message.pixel_checks
    )


def model_to_message(model: ModelInfo) -> pb.ModelInfo:
    """Return the protobuf description of `model`."""
    limits, names = model.limits, model.lora_names()
    return pb.ModelInfo(
        name=model.name,
        aliases=model.aliases,
        modalities=[MODALITIES[modality] for modality in model.modalities],
        latent_space=model.latent_space,
        latent_channels=model.latent_channels,
        spatial_factor=model.spatial_factor,
        size_multiple=model.size_multiple,
        default_size=pb.PixelSize(width=model.default_size[0], height=model.default_size[1]),
        limits=pb.RequestLimits(
            max_side=limits.max_side,
            max_steps=limits.max_steps,
            max_frames=limits.max_frames,
            max_prompt_characters=limits.max_prompt_characters,
        ),
        temporal_factor=model.temporal_factor,
        frame_multiple=model.frame_multiple,
        forms=[
            pb.Form(
                modality=MODALITIES[mode.modality],
                image=mode.image,
                control_image=mode.control_image,
                mask=mode.mask,
                strength=mode.strength,
                negative_prompt=mode.negative_prompt,
                latents=mode.latents,
                previews=mode.previews,
                latents_only=mode.latents_only,
                extra=[pb.ExtraField(**asdict(field)) for field in mode.extra],
            )
            for mode in model.modes
        ],
        loras=[pb.Lora(name=lora.name, scale=lora.scale) for lora in model.loras],
        schedulers=model.schedulers,
        prompt_syntaxes=model.prompt_syntaxes,
        request_loras=None if names is None else pb.RequestLoras(names=names),
    )


def model_from_message(message: pb.ModelInfo) -> ModelInfo:
    """Return the model that `message` describes.

    Modalities, modes and extra parameters that this version of codec-diffusers does not know are omitted.
    """
    names = {number: modality for modality, number in MODALITIES.items()}
    return ModelInfo(
        name=message.name,
        aliases=tuple(message.aliases),
        modalities=tuple(names[number] for number in message.modalities if number in names),
        latent_space=message.latent_space,
        latent_channels=message.latent_channels,
        spatial_factor=message.spatial_factor,
        size_multiple=message.size_multiple,
        default_size=(message.default_size.width, message.default_size.height),
        limits=_limits_from_message(message.limits) if message.HasField("limits") else RequestLimits(),
        # 0 if the server does not know these fields.
        temporal_factor=message.temporal_factor or 1,
        frame_multiple=message.frame_multiple or 1,
        modes=tuple(
            GenerationMode(
                modality=names[form.modality],
                image=form.image,
                control_image=form.control_image,
                mask=form.mask,
                strength=form.strength,
                negative_prompt=form.negative_prompt,
                latents=form.latents,
                previews=form.previews,
                latents_only=form.latents_only,
                extra=tuple(_extra_field(field) for field in form.extra if field.name in ExtraParameters.model_fields),
            )
            for form in message.forms
            if form.modality in names
        ),
        loras=tuple(Lora(lora.name, lora.scale) for lora in message.loras),
        schedulers=tuple(message.schedulers),
        prompt_syntaxes=tuple(message.prompt_syntaxes) or (PLAIN_SYNTAX,),
        request_loras=tuple(message.request_loras.names) if message.HasField("request_loras") else None,
    )


def _extra_field(message: pb.ExtraField) -> ExtraField:
    same_as = message.same_as if message.HasField("same_as") else None
    return ExtraField(message.name, message.minimum, message.maximum, message.default, same_as)


def _limits_from_message(limits: pb.RequestLimits) -> RequestLimits:
    """Return the request limits that the message `limits` contains.

    A field with the value 0 is a limit of 0, not a missing limit. For example, a server that accepts no videos sends 0.
    """
    return RequestLimits(**{field.name: getattr(limits, field.name) for field in fields(RequestLimits)})

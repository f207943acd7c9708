"""Protobuf messages of requests and models. Every request field is covered by tests/test_request_fields.py."""

from dataclasses import fields, replace

import pytest

from codec_grpc.generate_call import response_message, serialized_response
from codec_grpc.messages import model_from_message, model_to_message, plan_to_message, request_from_message
from codec_wire.events import Frame
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import FinishReason, LatentFrame, Modality
from core.model import GenerationMode, Lora, ModelInfo, RequestLimits
from core.plan import plan
from tests.support.serving import LATENT_SPACE, VIDEO_MODEL, bundle_of

MODEL = replace(
    VIDEO_MODEL,
    aliases=("alias",),
    limits=RequestLimits(max_side=1024, max_steps=100, max_frames=50, max_prompt_characters=1000),
    temporal_factor=4,
    frame_multiple=4,
    modes=(GenerationMode(Modality.VIDEO, image=True, control_image=True, strength=True),),
    loras=(Lora("style", 0.5),),
    schedulers=("ddim", "euler"),
    prompt_syntaxes=("plain", "compel"),
)
IMAGE = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x40\0\0\0\x40"  # the header of a 64x64 PNG file
REQUEST = pb.GenerateRequest(
    model=MODEL.name,
    prompt="a sea",
    negative_prompt="fog",
    modality=pb.MODALITY_VIDEO_LATENTS,
    latent_space=LATENT_SPACE,
    pipeline="delta+int4",
    size=pb.PixelSize(width=128, height=64),
    steps=7,
    seed=11,
    scheduler="euler",
    prompt_syntax="compel",
    guidance_scale=2.5,
    fps=8,
    frames=17,
    keyframe_interval=3,
    progress=True,
    image=IMAGE,
    control_image=IMAGE + b"control",
    strength=0.5,
)


@pytest.mark.parametrize("duration_seconds", [2.125, 2.0])
def test_duration_is_sent_to_the_upstream_server_as_number_of_frames(duration_seconds: float) -> None:
    request = pb.GenerateRequest()
    request.CopyFrom(REQUEST)
    request.ClearField("frames")
    request.duration_seconds = duration_seconds
    upstream_request = plan_to_message(plan(request_from_message(request), bundle_of(MODEL), MODEL), progress=True)
    assert upstream_request == REQUEST


def test_every_model_field_is_received_by_a_gateway() -> None:
    sent = replace(MODEL, modalities=(Modality.IMAGE, Modality.VIDEO), request_loras=("ink",))
    defaults = ModelInfo(
        name="", latent_space="", latent_channels=0, spatial_factor=0, size_multiple=0, default_size=(0, 0)
    )
    unchanged = [field.name for field in fields(sent) if getattr(sent, field.name) == getattr(defaults, field.name)]
    # Not sent: a gateway has neither a VAE nor a scheduler nor LoRA files, and its upstream server checks the size.
    assert unchanged == [
        "renders",
        "unproven_pixels",
        "max_pixels",
        "has_fixed_size",
        "min_frames",
        "accepts_steps",
        "scheduler_checks",
        "lora_directory",
        "no_loras_reason",
    ]
    assert model_from_message(model_to_message(sent)) == sent


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16384, 2**21])
@pytest.mark.parametrize("seq", [0, 127, 128, 2**32 - 1])
@pytest.mark.parametrize(("done", "reason"), [(False, None), (True, FinishReason.OK), (True, FinishReason.ERROR)])
def test_serialized_frame_has_the_bytes_of_the_protobuf_library(
    size: int, seq: int, done: bool, reason: FinishReason | None
) -> None:
    event = Frame(LatentFrame(bytes(size), seq, keyframe=not done, done=done, finish_reason=reason))
    assert serialized_response(event) == response_message(event).SerializeToString()

"""Every request field reaches the server behind a gateway: request -> plan -> upstream request -> the same plan."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codec_client.grpc_client import message_of
from codec_grpc.messages import plan_to_message, request_from_message
from codec_http.video_job_body import LATENTS_ONLY
from codec_wire.errors import InvalidRequest
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest, parse_request
from core.extra_field import ExtraField
from core.model import GenerationMode
from core.model_selection import select_model
from core.plan import StreamPlan, plan
from core.probe import sample_image, sample_mask
from tests.support.fake_engine import FakeEngine
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of
from tests.support.video_jobs import VIDEO_JOBS, run_video_server

EXTRA_FIELDS = (
    ExtraField("true_cfg_scale", 1, 100, 1),
    ExtraField("guidance_rescale", 0, 1, 0),
    ExtraField("max_sequence_length", 1, 512, 256),
    ExtraField("clip_skip", 0, 11, 0),
)
IMAGE_MODEL = replace(
    MODEL,
    schedulers=("ddim", "euler"),
    prompt_syntaxes=("plain", "compel"),
    request_loras=("fog", "ink"),
    modes=(
        GenerationMode(Modality.IMAGE, previews=True, extra=EXTRA_FIELDS),
        GenerationMode(Modality.IMAGE, image=True, strength=True, latents=True),
        GenerationMode(Modality.IMAGE, control_image=True),
        GenerationMode(Modality.IMAGE, image=True, mask=True, strength=True),
    ),
)
OTHER_MODEL = replace(IMAGE_MODEL, name="other", aliases=(), latent_space="a/b")
MODELS = (IMAGE_MODEL, OTHER_MODEL, VIDEO_MODEL)

IMAGE = {"prompt": "a sea"}
IMAGE_TO_IMAGE = IMAGE | {"image": sample_image(0)}
EXTRA = {"true_cfg_scale": 2.5, "guidance_rescale": 0.5, "max_sequence_length": 77, "clip_skip": 0}
VIDEO = IMAGE | {"modality": Modality.VIDEO}
CASES: dict[str, tuple[Mapping[str, object], object]] = {
    "prompt": (IMAGE, "a mountain"),
    "negative_prompt": (IMAGE, "fog"),
    "model": (IMAGE, "other"),
    "modality": (IMAGE, Modality.VIDEO),
    "latent_space": (IMAGE, "a/b"),
    "pipeline": (IMAGE, "int8"),
    "size": (IMAGE, (64, 32)),
    "steps": (IMAGE, 7),
    "seed": (IMAGE, 2**64 - 1),
    "scheduler": (IMAGE, "euler"),
    "prompt_syntax": (IMAGE, "compel"),
    "loras": (IMAGE, ({"name": "ink", "scale": 0.5}, {"name": "fog"})),
    "guidance_scale": (IMAGE, 3.5),
    "fps": (VIDEO, 8),
    "num_frames": (VIDEO, 5),
    "duration_seconds": (VIDEO, 0.5),
    "keyframe_interval": (VIDEO, 2),
    "image": (IMAGE, sample_image(0)),
    "control_image": (IMAGE, sample_image(1)),
    "mask": (IMAGE_TO_IMAGE, sample_mask()),
    "strength": (IMAGE_TO_IMAGE, 0.5),
    "latents": (IMAGE, body_of(random_stream())),
    "preview_every": (IMAGE, 3),
    "extra": (IMAGE | {"negative_prompt": ""}, EXTRA),
}
"""For each field, the other fields of a request, and a value that is not the default."""


def plan_for(request: GenerationRequest) -> StreamPlan:
    model = select_model(request, MODELS)
    return plan(request, bundle_of(model), model)


def request_with(field: str) -> GenerationRequest:
    fields, value = CASES[field]
    return parse_request({**fields, wire_name(field): value})


def wire_name(field: str) -> str:
    return GenerationRequest.model_fields[field].alias or field


def test_every_request_field_has_a_case() -> None:
    assert CASES.keys() == GenerationRequest.model_fields.keys(), "add the new field to CASES"


def test_every_request_field_has_a_protobuf_field_of_its_wire_name() -> None:
    names = {wire_name(field) for field in GenerationRequest.model_fields}
    assert set(pb.GenerateRequest.DESCRIPTOR.fields_by_name) == names | {"progress", "random_seed"}


@pytest.mark.parametrize("field", GenerationRequest.model_fields)
def test_gateway_sends_the_field_upstream(field: str) -> None:
    without, with_field = parse_request(CASES[field][0]), request_with(field)
    sent_without, sent = (plan_to_message(plan_for(request), progress=True) for request in (without, with_field))
    assert sent != sent_without, f"{field} is not part of the upstream request"
    assert plan_for(request_from_message(sent)) == plan_for(with_field)


@pytest.mark.parametrize("field", GenerationRequest.model_fields)
def test_grpc_client_sends_the_field(field: str) -> None:
    request = request_with(field)
    assert request_from_message(message_of(request)) == request


def test_number_of_frames_is_called_frames_on_the_wire_and_num_frames_in_python() -> None:
    assert GenerationRequest(prompt="x", frames=5).num_frames == 5
    assert GenerationRequest.model_validate({"prompt": "x", "num_frames": 5}).num_frames == 5
    with pytest.raises(InvalidRequest, match="^num_frames: .* did you mean 'frames'"):
        parse_request({"prompt": "x", "num_frames": 5})
    with pytest.raises(InvalidRequest, match="^frames: "):
        parse_request({"prompt": "x", "frames": 0})


def test_grpc_request_for_a_random_seed_gets_a_different_one_each_time() -> None:
    message = pb.GenerateRequest(prompt="x", random_seed=True)
    seeds = {request_from_message(message).seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_random_seed_must_not_be_combined_with_a_seed() -> None:
    with pytest.raises(InvalidRequest, match="^random_seed: must not be true if seed is given, got seed 0$"):
        request_from_message(pb.GenerateRequest(prompt="x", seed=0, random_seed=True))
    assert request_from_message(pb.GenerateRequest(prompt="x", seed=5, random_seed=False)).seed == 5


def test_gateway_sends_upstream_the_random_seed_that_it_reports() -> None:
    planned = plan_for(parse_request(IMAGE | {"seed": -1}))
    sent = plan_to_message(planned, progress=True)
    assert (sent.seed, sent.HasField("seed"), sent.random_seed) == (planned.seed, True, False)


def test_grpc_client_sends_the_random_seed_that_it_selects() -> None:
    request = parse_request(IMAGE | {"seed": -1})
    assert message_of(request).seed == request.seed


def video_fields_with(field: str, model: str, seed: int) -> dict[str, Any]:
    """Return the fields of a request for a video, with another value of `field`."""
    fields, value = CASES[field]
    value = {"model": model, "modality": Modality.VIDEO}.get(field, value)
    small = {"size": (64, 48), "steps": 2, "seed": seed}
    return {**small, **fields, "modality": Modality.VIDEO, wire_name(field): value}


def json_of(fields: dict[str, Any]) -> dict[str, Any]:
    body = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in fields.items()
    }
    return body | {"size": "{}x{}".format(*fields["size"])}


async def test_every_field_of_a_queued_video_job_survives_a_restart(tmp_path: Path) -> None:
    modes = tuple(replace(mode, modality=Modality.VIDEO) for mode in IMAGE_MODEL.modes)
    model = replace(IMAGE_MODEL, modalities=(Modality.VIDEO,), modes=modes, aliases=("alias",), renders=True)
    stored = [field for field in GenerationRequest.model_fields if field not in LATENTS_ONLY]
    requests = [video_fields_with(field, "alias", seed) for seed, field in enumerate(stored)]
    async with run_video_server(FakeEngine(), tmp_path, model=model) as server:
        for fields in requests:
            response = await server.http.post(VIDEO_JOBS, json=json_of(fields))
            assert response.status == 200, await response.text()
    engine = FakeEngine(free_running=True)
    async with run_video_server(engine, tmp_path, model=model) as server:
        jobs = (await (await server.http.get(VIDEO_JOBS, params={"limit": 100})).json())["data"]
        for job in jobs:
            await server.wait_for(job["id"], "completed")
    expected = [plan(parse_request(fields), bundle_of(model), model) for fields in requests]
    for field, started, planned in zip(stored, engine.started, expected, strict=True):
        assert started == planned, f"{field} is lost"
    default = parse_request({"prompt": "a sea", "size": (64, 48), "steps": 2, "modality": Modality.VIDEO})
    without = replace(plan(default, bundle_of(model), model), seed=0)
    same = [field for field, one in zip(stored, expected, strict=True) if replace(one, seed=0) == without]
    assert same == ["model", "modality", "seed"], "the other values must not be the defaults"

"""bench.wire measures every pipeline and format of a model, and exactly the bytes that a server sends."""

from bench.wire import HEADING, requests_for, rows_of
from codec_maps.corpus import Sample, generate_latents
from codec_wire import WireFormat
from codec_wire.maps import LatentMapBundle
from core.model import ModelInfo
from core.served import ModelInstance
from tests.support.dictionaries import with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of, run_servers

IMAGE_PIPELINES = {"raw", "int8", "int4", "int8-adaptive", "int4-adaptive"}


async def samples_of(model: ModelInfo, bundle: LatentMapBundle) -> list[tuple[str, list[Sample], ModelInstance]]:
    served = ModelInstance(model, bundle, FakeEngine(free_running=True), "test device")
    return [
        (
            label,
            [Sample(request, await generate_latents(served, request), held_out=True) for request in requests],
            served,
        )
        for label, requests in requests_for(model, 2)
    ]


async def test_measured_image_bodies_have_the_sizes_that_the_server_sends() -> None:
    bundle = with_dictionary(bundle_of(MODEL))
    kinds = await samples_of(MODEL, bundle)
    assert [label for label, _, _ in kinds] == ["256x256", "512x512"]
    async with run_servers(FakeEngine(free_running=True), bundle=bundle) as servers:
        for label, samples, served in kinds:
            rows = rows_of(label, samples, served)
            assert {(row.pipeline, row.wire_format) for row in rows} == {
                (name, wire_format) for name in IMAGE_PIPELINES for wire_format in WireFormat
            }
            for row in rows:
                has_dictionary = (row.pipeline, row.wire_format) == ("int8", WireFormat.MSGPACK)
                assert (row.sizes.zstd_dictionary is not None) == has_dictionary
                assert len(row.cells()) == len(HEADING)
                body = {"prompt": "x", "pipeline": row.pipeline, "stream_format": row.wire_format, "size": label}
                sizes = {"identity": row.sizes.identity, "gzip": row.sizes.gzip, "br": row.sizes.br}
                if row.sizes.zstd_dictionary is not None:
                    sizes["zstd"] = row.sizes.zstd_dictionary
                for coding, size in sizes.items():
                    response = await servers.http.post(
                        "/v1/images/generations", json=body, headers={"Accept-Encoding": coding}
                    )
                    assert len(await response.read()) == size, (row, coding)


async def test_video_model_is_measured_with_24_frames() -> None:
    ((label, samples, served),) = await samples_of(VIDEO_MODEL, bundle_of(VIDEO_MODEL))
    assert label == "64x64, 24 frames"
    assert {len(sample.latents) for sample in samples} == {24}
    rows = rows_of(label, samples, served)
    assert {row.pipeline for row in rows} == IMAGE_PIPELINES | {"delta+int8", "delta+int4"}
    assert all(row.sizes.identity > 24 * 128 for row in rows)

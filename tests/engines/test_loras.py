"""LoRA weights in requests to replicas, which have the LoRA files."""

from pathlib import Path

import pytest

from codec_server.local_model import LocalModel
from codec_wire.errors import InvalidRequest
from core.admission import Admission
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings
from tests.support.service_calls import generate

pytestmark = pytest.mark.slow

INK = [{"name": "ink", "scale": 0.5}]


async def test_loras_of_a_replica_have_the_bytes_and_errors_of_the_local_engine(
    ray_service: LatentService, lora_dir: Path, empty_dir: Path
) -> None:
    (served,) = (one for one in ray_service.models if "tiny_sd" in one.model.name)
    name, local = served.model.name, LatentService(Lifecycle(), Admission(8, 10**12))
    settings = Settings(
        device="cpu", threads=1, models_dir=empty_dir, calibration_images=0, pipeline=name, lora_dir=lora_dir
    )
    model = LocalModel(settings)
    try:
        await model.start_serving(local)
        assert served.model.lora_names() == ("ink",)
        plain, with_lora, after = [
            [(await generate(each, model=name, loras=loras))[1][0].data for each in (ray_service, local)]
            for loras in ([], INK, [])
        ]
        assert plain[0] == plain[1] == after[0] == after[1]
        assert with_lora[0] == with_lora[1] != plain[0]
        raised = []
        for each in (ray_service, local):
            with pytest.raises(
                InvalidRequest, match=r"^loras\[0\]\.name: 'inc' not found; did you mean 'ink'"
            ) as caught:
                await generate(each, model=name, loras=[{"name": "inc"}])
            raised.append((str(caught.value), caught.value.field))
        assert raised[0] == raised[1]
    finally:
        model.free()
    (other,) = (one.model.name for one in ray_service.models if one is not served)
    with pytest.raises(InvalidRequest, match=r"^loras: got 'ink', but .* is not supported by .*; remove the field$"):
        await generate(ray_service, model=other, loras=INK)

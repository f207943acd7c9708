"""The registry of served models: defaults, lookups, and errors before a model is loaded."""

from dataclasses import replace

import pytest

from codec_wire.errors import MapMismatch, NotFound, NotReady
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.lifecycle import Lifecycle, State
from core.model import ModelInfo
from core.plan import plan
from core.served import ModelInstance, ServedModels
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, VIDEO_MODEL, bundle_of

OTHER_SPACE_MODEL = replace(VIDEO_MODEL, latent_space="a/b")


def serve(*models: ModelInfo) -> ServedModels:
    lifecycle = Lifecycle()
    lifecycle.transition_to(State.SERVING)
    served = ServedModels(lifecycle)
    served.replace(ModelInstance(model, bundle_of(model), FakeEngine(), "cpu") for model in models)
    return served


def test_empty_registry_has_no_default_and_raises_not_ready() -> None:
    models = ServedModels(Lifecycle())
    assert (len(models), models.default) == (0, None)
    for lookup in (models.require_default, models.require_all, models.modalities, models.maps):
        with pytest.raises(NotReady, match="the server is loading"):
            lookup()


def test_first_model_is_the_default() -> None:
    models = serve(MODEL, OTHER_SPACE_MODEL)
    assert models.default is models.require_default() is models.require_all()[0]
    assert models.require_default().model is MODEL
    assert models.modalities() == ("image-latents", "video-latents")


def test_model_is_found_by_request_and_by_plan() -> None:
    models = serve(MODEL, OTHER_SPACE_MODEL)
    request = GenerationRequest(prompt="x", modality=Modality.VIDEO)
    instance = models.for_request(request)
    assert instance.model is OTHER_SPACE_MODEL
    planned = plan(request, instance.bundle, instance.model)
    assert models.for_plan(planned) is instance
    models.replace([])
    with pytest.raises(NotReady):
        models.for_plan(planned)


def test_map_is_found_by_latent_space() -> None:
    models = serve(MODEL, OTHER_SPACE_MODEL)
    assert list(models.maps()) == [LATENT_SPACE, "a/b"]
    assert models.require_map(None) is models.require_default().bundle
    assert models.require_map("a/b") is models.maps()["a/b"]
    with pytest.raises(NotFound, match=f"allowed: {LATENT_SPACE}, a/b"):
        models.require_map("x/y")


def test_models_in_one_latent_space_share_the_map_of_the_first() -> None:
    models = serve(MODEL, VIDEO_MODEL)
    assert list(models.maps().values()) == [models.require_default().bundle]
    assert models.require_map(LATENT_SPACE) is models.require_default().bundle


def test_other_map_hash_than_the_expected_one_raises_with_both() -> None:
    served = serve(MODEL).require_default()
    digest = served.bundle.hash
    served.require_map_hash(None)
    served.require_map_hash(digest)
    with pytest.raises(MapMismatch, match=f"requires the latent-space map sha256:0, but this server has {digest}"):
        served.require_map_hash("sha256:0")

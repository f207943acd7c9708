"""Repeated prompts do not run the text encoders again and give the same latents; the cache has a limit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from core.diffusers_engine.prompt_cache import PromptCache
from tests.support.tiny_sd import build_pipeline

TEXTS = ("a sea", "a mountain")


class Counted:
    """A pipeline with a cache, and the number of times that its text encoder has run."""

    def __init__(self, max_bytes: int = 1 << 20, build: Callable[[], Any] = build_pipeline) -> None:
        self.pipeline = build()
        self.pipeline.set_progress_bar_config(disable=True)
        self.cache = PromptCache(max_bytes)
        self.runs = 0
        self.pipeline.text_encoder.register_forward_hook(self._count)
        self.cache.attach(self.pipeline)

    def _count(self, *_arguments: Any) -> None:
        self.runs += 1

    def latents(self, prompt: str, **arguments: Any) -> torch.Tensor:
        generator = torch.Generator("cpu").manual_seed(1)
        options = {"num_inference_steps": 2, "height": 32, "width": 32, "output_type": "latent"}
        output = self.pipeline(prompt=prompt, generator=generator, **options | arguments)
        latents: torch.Tensor = output.images
        return latents


def test_repeated_prompt_runs_no_text_encoder_and_gives_the_same_latents() -> None:
    counted, uncached = Counted(), Counted(max_bytes=0)
    expected = {text: uncached.latents(text) for text in TEXTS}
    runs = uncached.runs
    for _ in range(3):
        for text in TEXTS:
            assert torch.equal(counted.latents(text), expected[text])
    assert counted.runs == runs > 0
    assert (counted.cache.hits, uncached.cache.hits, uncached.cache.nbytes) == (4, 0, 0)


def test_every_argument_of_the_encoding_is_part_of_the_key() -> None:
    counted = Counted()
    variations: list[dict[str, Any]] = [
        {},
        {"negative_prompt": "fog"},
        {"guidance_scale": 1.0},
        {"num_images_per_prompt": 2},
    ]
    for arguments in variations:
        counted.latents("a sea", **arguments)
    assert counted.cache.hits == 0
    for arguments in variations:
        assert torch.equal(counted.latents("a sea", **arguments), Counted().latents("a sea", **arguments))
    assert counted.cache.hits == len(variations)


def test_embeddings_that_were_used_last_stay_within_the_limit() -> None:
    size = Counted()
    size.latents("a sea")
    counted = Counted(max_bytes=2 * size.cache.nbytes)
    for text in ("a sea", "a mountain", "a sea", "a field"):
        counted.latents(text)
    assert counted.cache.nbytes == 2 * size.cache.nbytes
    for text, hits in (("a sea", 2), ("a field", 3), ("a mountain", 3)):
        counted.latents(text)
        assert counted.cache.hits == hits


def test_prompts_of_a_batch_have_an_entry_each_and_the_embeddings_that_they_have_alone() -> None:
    counted = Counted()
    device = torch.device("cpu")
    alone = [
        counted.pipeline.encode_prompt(text, device, 1, True, negative) for text, negative in (("a", "b"), ("c", ""))
    ]
    runs = counted.runs
    together = counted.pipeline.encode_prompt(["a", "c"], device, 1, True, ["b", ""])
    assert counted.runs == runs
    assert counted.cache.hits == 2
    for index, embeddings in enumerate(together):
        assert torch.equal(embeddings, torch.cat([one[index] for one in alone]))


def test_embeddings_that_a_pipeline_changes_stay_as_they_were() -> None:
    counted = Counted()
    arguments = ("a sea", torch.device("cpu"), 1, True)
    expected = counted.pipeline.encode_prompt(*arguments)[0].clone()
    for _ in range(2):
        embeddings = counted.pipeline.encode_prompt(*arguments)[0]
        assert torch.equal(embeddings, expected)
        embeddings.zero_()


def test_given_embeddings_are_not_kept() -> None:
    counted = Counted()
    given = torch.zeros(1, 77, counted.pipeline.text_encoder.config.hidden_size)
    for _ in range(2):
        counted.pipeline.encode_prompt(None, torch.device("cpu"), 1, False, prompt_embeds=given)
    assert (counted.cache.hits, counted.cache.nbytes) == (0, 0)


def test_pipeline_class_with_its_own_encoding_is_left_alone() -> None:
    def build() -> Any:
        class Own(type(build_pipeline())):  # type: ignore[misc]
            def encode_prompt(self, *args: Any, **kwargs: Any) -> Any:
                return super().encode_prompt(*args, **kwargs)

        return Own(**build_pipeline().components)

    counted = Counted(build=build)
    for _ in range(2):
        counted.latents("a sea")
    assert counted.cache.hits == 0
    assert counted.runs == 4


@pytest.mark.parametrize("value", [object(), {"a": object()}, [object()], torch.zeros(1)])
def test_argument_without_a_value_as_text_is_not_kept(value: object) -> None:
    counted = Counted()
    cache = counted.cache
    for _ in range(2):
        assert cache._encode("Any", lambda _value: torch.zeros(1), (value,), {}) is not None
    assert (cache.hits, cache.nbytes) == (0, 0)

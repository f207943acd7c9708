"""Prompts that are longer than a text encoder allows: what is dropped is counted as the pipeline itself drops it."""

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from codec_pixels.device_thread import DeviceThread
from codec_wire.events import PromptTruncation, Started
from codec_wire.extra import ExtraParameters
from codec_wire.latents import Modality
from codec_wire.request import parse_request
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.prompt_truncation import prompt_truncations
from core.diffusers_engine.variants import PipelineVariant
from core.engine import Job
from core.plan import StreamPlan, plan
from core.probe import sample_image
from tests.support.families.cases import CASES, pipeline_class_name
from tests.support.serving import MODEL, VIDEO_MODEL, bundle_of

CUT_EMBEDDINGS = ("QwenImagePipeline",)
"""Classes that drop the embeddings of the last tokens after encoding, so that the tokenizer drops none."""
CUT_TEXTS = ("Kandinsky5T2IPipeline", "Kandinsky5T2VPipeline")
"""Classes that remove most of the text before the tokenizer drops the rest."""
LONG, SHORT = "a house near the sea " * 60, "a sea"
FAMILIES_WITH_PROMPTS = [
    name for name, case in CASES.items() if case.has_prompt and not case.images and "," not in name
]


def planned(mode: Any, prompt: str, negative_prompt: str | None) -> StreamPlan:
    model = VIDEO_MODEL if mode.modality is Modality.VIDEO else MODEL
    values = {"prompt": prompt, "negative_prompt": negative_prompt, "modality": mode.modality, "size": (64, 64)}
    return plan(parse_request({key: value for key, value in values.items() if value}), bundle_of(model), model)


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The calls of tokenizers with a limit: (identity of the tokenizer, number of tokens that it dropped)."""
    from transformers import PreTrainedTokenizerBase

    calls: list[tuple[int, int]] = []
    original = PreTrainedTokenizerBase.__call__

    def record(self: Any, text: Any = None, **options: Any) -> Any:
        if options.get("truncation"):
            limit = options.get("max_length") or self.model_max_length
            whole = original(self, text, truncation=False, add_special_tokens=options.get("add_special_tokens", True))
            batch = [whole.input_ids] if isinstance(text, str) else whole.input_ids
            calls.extend((id(self), len(ids) - limit) for ids in batch if len(ids) > limit)
        return original(self, text, **options)

    monkeypatch.setattr(PreTrainedTokenizerBase, "__call__", record)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES_WITH_PROMPTS)
def test_reported_truncation_is_that_of_the_pipeline(name: str, dropped: list[tuple[int, int]]) -> None:
    required = CASES[name].requires
    if required is not None:
        pytest.importorskip(required)
    pipeline = CASES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    variant = PipelineVariant(pipeline, FAMILIES[pipeline_class_name(name)])
    negative = LONG + "x" if variant.mode.negative_prompt else None
    reported = prompt_truncations(variant, planned(variant.mode, LONG, negative))
    assert reported
    assert not dropped  # this is not the pipeline's own call
    arguments = {"prompt": LONG, "num_inference_steps": 2, "width": 64, "height": 64, "output_type": "latent"}
    if negative is not None:
        arguments |= {"negative_prompt": negative}
    if CASES[name].num_frames is not None:
        arguments |= {CASES[name].frames_argument: CASES[name].num_frames}
    pipeline(**arguments, **CASES[name].arguments)
    if name in (*CUT_EMBEDDINGS, *CUT_TEXTS):
        return
    own = sorted(count for _, count in set(dropped))
    assert sorted({item.dropped_tokens for item in reported}) == sorted(set(own))
    if name != "HunyuanVideoPipeline":  # its template alone is too long for a tokenizer with one token per letter
        assert not prompt_truncations(variant, planned(variant.mode, SHORT, SHORT if negative else None))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["FluxPipeline", "HiDreamImagePipeline", "LTXPipeline", "Lumina2Pipeline", "SanaPipeline"]
)
def test_truncation_depends_on_the_requested_maximum(name: str, dropped: list[tuple[int, int]]) -> None:
    pipeline = CASES[name].build()
    pipeline.set_progress_bar_config(disable=True)
    variant = PipelineVariant(pipeline, FAMILIES[name])
    default = planned(variant.mode, LONG, None)
    reported = prompt_truncations(variant, replace(default, extra=ExtraParameters(max_sequence_length=50)))
    assert sum(item.dropped_tokens for item in reported) > sum(
        item.dropped_tokens for item in prompt_truncations(variant, default)
    )
    arguments = {"num_inference_steps": 2, "width": 64, "height": 64, "output_type": "latent"}
    pipeline(LONG, **arguments, **CASES[name].arguments, max_sequence_length=50)
    own = {count for _, count in dropped if count > 0}
    assert {item.dropped_tokens for item in reported} <= own


def test_model_that_reads_the_whole_prompt_reports_no_truncation() -> None:
    pipeline = CASES["QwenImageEditPipeline"].build()
    variant = PipelineVariant(pipeline, FAMILIES["QwenImageEditPipeline"])
    model = replace(MODEL, modes=(variant.mode,))
    request = parse_request({"prompt": LONG, "size": (64, 64), "image": sample_image(0)})
    assert prompt_truncations(variant, plan(request, bundle_of(model), model)) == ()


async def test_started_event_and_log_name_the_encoder_and_the_number_of_tokens(
    tiny_model: LoadedModel, device_thread: DeviceThread, caplog: pytest.LogCaptureFixture
) -> None:
    engine = DiffusersEngine(tiny_model, device_thread)
    with caplog.at_level(logging.WARNING):
        request = parse_request({"prompt": "x" * 80, "negative_prompt": "y" * 76, "size": (64, 64), "steps": 1})
        events = [
            event async for event in engine.generate(plan(request, bundle_of(tiny_model.info), tiny_model.info), Job())
        ]
    started = events[0]
    assert isinstance(started, Started)
    # The tokenizer has one token per character, and two of the 77 tokens are its start and end.
    assert started.truncations == (
        PromptTruncation("prompt", "text_encoder", 5),
        PromptTruncation("negative_prompt", "text_encoder", 1),
    )
    assert "the prompt is too long for text_encoder" in caplog.text
    assert "its last 5 tokens are ignored" in caplog.text


class CLIPTokenizer:
    """A tokenizer with one token per character, except for added tokens, and a limit of 20 tokens."""

    model_max_length = 20

    def __init__(self, *added_tokens: str) -> None:
        self.added_tokens_encoder = {token: number for number, token in enumerate(added_tokens)}
        self.tokenized: list[str] = []

    def __call__(self, text: str, **_options: Any) -> SimpleNamespace:
        self.tokenized.append(text)
        words = [[word] if word in self.added_tokens_encoder else list(word) for word in text.split()]
        return SimpleNamespace(input_ids=[token for word in words for token in word])


class EmbeddingPipeline:
    """A pipeline with a textual inversion embedding <sea> of 30 vectors, if its tokenizer has these tokens."""

    scheduler = None

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = object()

    def __call__(self, prompt: str) -> None: ...

    def maybe_convert_prompt(self, prompt: str, tokenizer: CLIPTokenizer) -> str:
        return prompt.replace("<sea>", " ".join(tokenizer.added_tokens_encoder))


def truncations_of(tokenizer: CLIPTokenizer, prompt: str) -> list[int]:
    variant = PipelineVariant(EmbeddingPipeline(tokenizer), FAMILIES["StableDiffusionPipeline"])
    return [item.dropped_tokens for item in prompt_truncations(variant, planned(variant.mode, prompt, None))]


@pytest.mark.parametrize(("prompt", "is_tokenized"), [("x" * 12, False), ("x" * 13, True), ("\u00e9", True)])
def test_prompt_that_cannot_be_too_long_is_not_tokenized(prompt: str, is_tokenized: bool) -> None:
    tokenizer = CLIPTokenizer("<start>", "<end>")
    assert truncations_of(tokenizer, prompt) == []
    assert tokenizer.tokenized == [prompt] * is_tokenized


def test_vectors_of_textual_inversion_embeddings_are_counted() -> None:
    vectors = ["<sea>", *(f"<sea>_{number}" for number in range(1, 30))]
    assert truncations_of(CLIPTokenizer(*vectors), "<sea>") == [10]
    assert truncations_of(CLIPTokenizer("<sea>"), "<sea>") == []

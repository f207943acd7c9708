"""Embeddings of weighted and long prompts, which compel computes with the text encoders of a pipeline."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from codec_wire.errors import InvalidRequest
from codec_wire.request import COMPEL_SYNTAX, PLAIN_SYNTAX
from core.diffusers_engine.call_signature import call_defaults
from core.diffusers_engine.compel_parser import flattened_prompts, parse_prompt
from core.diffusers_engine.prompt_cache import PromptCache
from core.diffusers_engine.prompt_truncation import has_embeddings_of_several_vectors
from core.diffusers_engine.variants import PipelineVariant
from core.plan import StreamPlan

MAX_CHUNKS = 8
"""Maximum number of chunks of a prompt.

A chunk has as many tokens as the text encoder can process at once (77 tokens for CLIP).
"""
MAX_ENCODER_RUNS = 64
"""Maximum number of runs of a text encoder for one prompt.

Each chunk needs one run of the text encoder, and one additional run for each text with a weight of less than 1.
"""
EMBEDDING_ARGUMENTS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)
"""Arguments of a pipeline call that replace the prompts."""


def prompt_syntaxes(variants: Sequence[PipelineVariant]) -> tuple[str, ...]:
    """Return the values of the request field `prompt_syntax` that all `variants` of a model support."""
    is_supported = importlib.util.find_spec("compel") is not None and all(map(_has_clip_encoders, variants))
    return (PLAIN_SYNTAX, COMPEL_SYNTAX) if is_supported else (PLAIN_SYNTAX,)


def _has_clip_encoders(variant: PipelineVariant) -> bool:
    """Return whether the pipeline has the text encoders of Stable Diffusion 1, 2 or XL, and accepts embeddings."""
    pipeline = variant.pipeline
    if variant.family.is_inferred or "prompt_embeds" not in call_defaults(pipeline):
        return False
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    encoders = [type(getattr(pipeline, name, None)).__name__ for name in names]
    if encoders == ["CLIPTextModel", "NoneType", "NoneType"]:
        return True
    return encoders == ["CLIPTextModel", "CLIPTextModelWithProjection", "NoneType"] and (
        "pooled_prompt_embeds" in call_defaults(pipeline)
    )


def check_prompts(variant: PipelineVariant, plan: StreamPlan) -> None:
    """Parse the prompts of `plan` if the prompts have weights. Raises InvalidRequest if a prompt is not valid.

    This function can take seconds for a long prompt. This function does not use the text encoders, so that any thread
    may call this function.
    """
    if plan.prompt_syntax is None:
        return
    adapter = getattr(variant.pipeline, "motion_adapter", None)
    limit = plan.num_frames if adapter is None else int(adapter.config.motion_max_seq_length)
    if plan.num_frames > limit:  # FreeNoise encodes the prompts of the frames itself
        raise InvalidRequest(
            "prompt_syntax",
            f"must be {PLAIN_SYNTAX} for videos of {plan.model} with more than {limit} frames, "
            f"got {plan.prompt_syntax} and {plan.num_frames} frames",
        )
    for field, text in _prompts(variant, plan):
        parse_prompt(field, text)


def embedding_arguments(variant: PipelineVariant, plan: StreamPlan, cached: PromptCache) -> dict[str, Tensor]:
    """Return the arguments of the pipeline call that replace the prompts of `plan`.

    For plain prompts, the returned dictionary is empty. The text encoders run, unless the embeddings are in `cached`.
    Call this function only on the device thread. Raises InvalidRequest if a prompt is not valid, or needs too many
    chunks or too many runs of a text encoder.
    """
    if plan.prompt_syntax is None:
        return {}
    prompts = dict(_prompts(variant, plan))
    key = (plan.prompt_syntax, type(variant.pipeline).__name__, tuple(prompts.items()))
    values = cached.get(key, partial(_encode, variant.pipeline, prompts))
    return {name: value for name, value in zip(EMBEDDING_ARGUMENTS, values, strict=True) if value is not None}


def _prompts(variant: PipelineVariant, plan: StreamPlan) -> list[tuple[str, str]]:
    """Return a list of (request field, text) with the prompts that must be encoded.

    Without a negative prompt, most pipelines use the embeddings of an empty text. Some pipelines of Stable Diffusion XL
    use embeddings of zeros instead, and create the zeros from the embeddings of the prompt.
    """
    prompts = [("prompt", plan.prompt)]
    uses_zeros = plan.negative_prompt is None and variant.pipeline.config.get("force_zeros_for_empty_prompt", False)
    if "negative_prompt" in variant.family.arguments and not uses_zeros:
        prompts.append(("negative_prompt", plan.negative_prompt or ""))
    return prompts


def _encode(pipeline: Any, prompts: dict[str, str]) -> tuple[Tensor | None, ...]:
    """Return the embeddings of `prompts` in the order of EMBEDDING_ARGUMENTS."""
    from compel import CompelForSD, CompelForSDXL, DiffusersTextualInversionManager  # noqa: PLC0415 - optional

    inversions = None
    if has_embeddings_of_several_vectors(pipeline.tokenizer):
        inversions = DiffusersTextualInversionManager(pipeline)
    is_xl = getattr(pipeline, "text_encoder_2", None) is not None
    encode = (CompelForSDXL if is_xl else CompelForSD)(pipeline, inversions, device=pipeline._execution_device)
    encoders = [encode.compel_1, encode.compel_2] if is_xl else [encode.compel]
    for one in encoders:
        for field, text in prompts.items():
            _require_encodable(field, text, one.conditioning_provider)
        one.parse_prompt_string = partial(parse_prompt, "prompt")  # bounds the time, and uses the results above
    found = encode(prompts["prompt"], negative_prompt=prompts.get("negative_prompt"))
    embeddings = (found.embeds, found.negative_embeds, found.pooled_embeds, found.negative_pooled_embeds)
    if not all(one is None or one.isfinite().all() for one in embeddings):
        raise InvalidRequest("prompt", "must have smaller weights: its embeddings are not finite numbers")
    return embeddings


def _require_encodable(field: str, text: str, provider: Any) -> None:
    """Check that the prompt `text` does not need too many chunks or too many runs of the text encoder.

    `provider` is the embeddings provider of the package compel.

    Raises InvalidRequest.
    """
    chunks = runs = 0
    for part in parse_prompt(field, text).prompts:
        lengths = []
        for prompt in flattened_prompts(part):
            texts = [fragment.text for fragment in prompt.children]
            reduced = [fragment.weight < 1 for fragment in prompt.children]
            length = _number_of_chunks(field, provider, texts, reduced)
            lengths.append(length)
            runs += length * (1 + sum(reduced))
        chunks += max(lengths)
    size = provider.max_token_count
    if chunks > MAX_CHUNKS:
        raise InvalidRequest(field, f"must have at most {MAX_CHUNKS} chunks of {size} tokens, got {chunks}")
    if runs > MAX_ENCODER_RUNS:
        raise InvalidRequest(
            field,
            f"must need at most {MAX_ENCODER_RUNS} runs of the text encoder, got {runs}. For each chunk of {size} "
            "tokens, the text encoder runs once, and once more for each text with a weight of less than 1",
        )


def _number_of_chunks(field: str, provider: Any, texts: list[str], reduced: list[bool]) -> int:
    """Return the number of chunks of a prompt that consists of `texts`.

    `reduced` contains True for each text with a weight of less than 1. Raises InvalidRequest if compel cannot find the
    tokens of a text with a weight of less than 1.
    """
    size: int = provider.max_token_count
    tokens = provider.get_token_ids(texts, include_start_and_end_markers=False)
    lower_bound = sum(map(len, tokens)) // size
    if lower_bound > MAX_CHUNKS:  # finding the ends of the chunks would take long
        return lower_bound
    all_tokens, _, _ = provider.get_token_ids_and_expand_weights(texts, [1.0] * len(texts), device="cpu")
    if any(is_reduced and not found for is_reduced, found in zip(reduced, tokens, strict=False)):
        raise InvalidRequest(field, "must not contain an empty text with a weight of less than 1")
    if any(reduced):
        _require_ranges(field, lambda: provider._get_token_ranges_for_fragments(all_tokens.tolist(), texts))
    return len(all_tokens) // size


def _require_ranges(field: str, find: Callable[[], Any]) -> None:
    try:
        find()
    except RuntimeError as error:
        raise InvalidRequest(field, f"must be a prompt that {COMPEL_SYNTAX} can encode: {error}") from None

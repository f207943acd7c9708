"""Counting of the prompt tokens that a pipeline drops because a text encoder has a maximum length."""

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from codec_wire.events import PromptTruncation
from core.diffusers_engine.call_signature import call_defaults
from core.diffusers_engine.variants import PipelineVariant
from core.plan import StreamPlan

log = logging.getLogger(__name__)

_ENCODERS = {f"tokenizer{suffix}": f"text_encoder{suffix}" for suffix in ("", "_2", "_3", "_4")}
"""Names of the text encoders in diffusers pipelines, as a dictionary by the name of the tokenizer."""
_MAX_ADDED_TOKENS = 8
"""Maximum number of tokens that a tokenizer adds to a text (start, end, prefix and padding)."""


def prompt_truncations(variant: PipelineVariant, plan: StreamPlan) -> tuple[PromptTruncation, ...]:
    """Return one truncation for each pair of a prompt field and a text encoder that drops tokens of the field.

    Each truncation is also logged. Prompts whose syntax is not plain text, such as prompts with weights, are never
    truncated. Call this function only on the device thread.
    """
    if plan.prompt_syntax is not None:
        return ()
    pipeline, arguments = variant.pipeline, variant.family.arguments
    components = vars(pipeline)  # getattr takes long for names that a diffusers pipeline does not have
    requested = None if plan.extra is None else plan.extra.max_sequence_length
    max_tokens = requested or int(call_defaults(pipeline).get("max_sequence_length") or 0)
    found = []
    for field, text in (("prompt", plan.prompt), ("negative_prompt", plan.negative_prompt)):
        if not text or field not in arguments:
            continue
        for name, encoder in _ENCODERS.items():
            tokenizer = components.get(name)
            if tokenizer is None or components.get(encoder) is None:
                continue
            tokenized = None
            if variant.family.tokenized is not None:
                tokenized = variant.family.tokenized(pipeline, name, field, text, max_tokens)
            if tokenized is None:
                dropped = _dropped_tokens(pipeline, tokenizer, field, text, max_tokens)
            else:  # a processor, e.g. of FLUX.2, contains the tokenizer
                dropped = _excess(getattr(tokenizer, "tokenizer", tokenizer), *tokenized)
            if dropped > 0:
                found.append(PromptTruncation(field, encoder, dropped))
    for truncation in found:
        log.warning(
            "the %s is too long for %s of %s: its last %d tokens are ignored",
            truncation.field,
            truncation.encoder,
            plan.model,
            truncation.dropped_tokens,
        )
    return tuple(found)


def _dropped_tokens(pipeline: Any, tokenizer: Any, field: str, text: str, max_tokens: int) -> int:
    """Return the number of tokens by which `text` exceeds the limit that the pipeline passes to `tokenizer`.

    `max_tokens` is the `max_sequence_length` of the call, or 0 if the pipeline does not have this argument.
    """
    # Replaces the names of textual inversion embeddings that have several vectors. It tokenizes the text to find them.
    if hasattr(type(pipeline), "maybe_convert_prompt") and has_embeddings_of_several_vectors(tokenizer):
        text = pipeline.maybe_convert_prompt(text, tokenizer)
    if hasattr(type(pipeline), "_text_preprocessing"):
        text = pipeline._text_preprocessing(text, clean_caption=False)[0]
    if "CLIP" in type(tokenizer).__name__:
        return _excess(tokenizer, text, int(tokenizer.model_max_length))
    defaults = call_defaults(pipeline)
    limit = max_tokens or int(tokenizer.model_max_length)
    template, instruction = defaults.get("prompt_template"), defaults.get("complex_human_instruction")
    if isinstance(template, Mapping):  # HunyuanVideo
        text, limit = template["template"].format(text), limit + int(template.get("crop_start") or 0)
    elif instruction and field == "prompt":  # Sana
        prefix = "\n".join(instruction)
        text, limit = prefix + text, len(tokenizer.encode(prefix)) + limit - 2
    return _excess(tokenizer, text, limit)


@lru_cache(maxsize=16)
def has_embeddings_of_several_vectors(tokenizer: Any) -> bool:
    """Return whether `tokenizer` has a textual inversion of several vectors, i.e. the tokens NAME, NAME_1, NAME_2...

    The result is cached, because transformers copies all added tokens for the answer. Textual inversions are loaded
    with the model, before the first request.
    """
    return any(token.endswith("_1") for token in tokenizer.added_tokens_encoder)


def _excess(tokenizer: Any, text: str, limit: int) -> int:
    """Return the number of tokens of `text` minus `limit`. A result of 0 or less means that `text` is not too long.

    A short ASCII text is not tokenized, because an ASCII character results in at most one token. A character that is
    not ASCII can result in several tokens.
    """
    if text.isascii() and len(text) + _MAX_ADDED_TOKENS <= limit:
        return 0
    return len(tokenizer(text, truncation=False, add_special_tokens=True).input_ids) - limit

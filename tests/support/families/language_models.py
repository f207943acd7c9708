"""Tiny language models with random weights, which encode the prompts of newer pipelines, and their tokenizers."""

from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLTextModel,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from core.diffusers_engine.image_text_processor import ImageTextProcessor

WIDTH = 16
"""Width of the hidden states of all models in this module."""
_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_VOCABULARY = {token: number for number, token in enumerate([*sorted(ByteLevel.alphabet()), *_SPECIAL])}
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Return a tokenizer with one token per byte, and a chat template."""
    tokenizer = Qwen2Tokenizer(
        vocab=_VOCABULARY, merges=[], additional_special_tokens=_SPECIAL[1:], model_max_length=4096
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def qwen_vl() -> Qwen2_5_VLForConditionalGeneration:
    config = Qwen2_5_VLConfig(
        text_config={
            **_sizes(num_layers=3),
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
        },
        vision_config={
            "depth": 1,
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_heads": 2,
            "out_hidden_size": WIDTH,
        },
        image_token_id=_VOCABULARY["<|image_pad|>"],
        video_token_id=_VOCABULARY["<|video_pad|>"],
        vision_start_token_id=_VOCABULARY["<|vision_start|>"],
        vision_end_token_id=_VOCABULARY["<|vision_end|>"],
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def qwen_vl_text() -> Qwen2_5_VLTextModel:
    return qwen_vl().model.language_model


def qwen_processor() -> ImageTextProcessor:
    return ImageTextProcessor(Qwen2VLImageProcessorPil(), qwen_tokenizer())


def qwen3(num_layers: int = 2) -> Qwen3Model:
    return Qwen3Model(Qwen3Config(**_sizes(num_layers))).eval()


def qwen3_for_causal_lm(num_layers: int) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**_sizes(num_layers))).eval()


def mistral3(num_layers: int) -> Mistral3ForConditionalGeneration:
    config = Mistral3Config(
        text_config={"model_type": "mistral", **_sizes(num_layers)},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": WIDTH,
            "image_size": 30,
            "patch_size": 6,
        },
    )
    return Mistral3ForConditionalGeneration(config).eval()


def _sizes(num_layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(_VOCABULARY),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
    }

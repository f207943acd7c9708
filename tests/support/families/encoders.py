"""Tiny text and image encoders and tokenizers with random weights, built without network access."""

from typing import Any

from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    LlamaTokenizer,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.support.tiny_sd import build_pipeline, text_config

WIDTH = 32
"""Width of the hidden states of all text encoders in this module."""
LETTERS = [chr(code) for code in range(33, 127)]


def clip_tokenizer() -> CLIPTokenizer:
    return build_pipeline().tokenizer


def clip_config() -> CLIPTextConfig:
    return text_config(clip_tokenizer())


def clip() -> CLIPTextModel:
    return CLIPTextModel(clip_config()).eval()


def clip_with_projection() -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(clip_config()).eval()


def long_clip() -> CLIPTextModelWithProjection:
    """Return a CLIP text encoder for 248 tokens, as in HiDream."""
    config = clip_config()
    config.max_position_embeddings = 248
    return CLIPTextModelWithProjection(config).eval()


def t5_tokenizer() -> T5Tokenizer:
    """Return a unigram tokenizer with one token per character."""
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -10.0),
        ("\u2581", -2.0),
        *((letter, -3.0) for letter in LETTERS),
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=64)


def t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(**_t5_sizes())).eval()


def byt5_tokenizer() -> ByT5Tokenizer:
    return ByT5Tokenizer()


def byt5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(**{**_t5_sizes(), "vocab_size": 384})).eval()


def umt5() -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(**_t5_sizes())).eval()


def _t5_sizes() -> dict[str, Any]:
    return {
        "vocab_size": len(LETTERS) + 4,
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
    }


_LLAMA_SIZES = {
    "vocab_size": 128,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 3,
}


def _letters_vocabulary(special: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate([*special, "\u2581", *LETTERS, "\n"])}


def gemma_tokenizer() -> GemmaTokenizer:
    return GemmaTokenizer(vocab=_letters_vocabulary(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]), merges=[])


def gemma() -> Gemma2Model:
    config = Gemma2Config(
        vocab_size=128,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return Gemma2Model(config).eval()


def llama_tokenizer() -> LlamaTokenizer:
    vocabulary = _letters_vocabulary(["<unk>", "<s>", "</s>", "<pad>"])
    return LlamaTokenizer(vocab=vocabulary, merges=[], pad_token="<pad>")


def llama() -> LlamaModel:
    return LlamaModel(LlamaConfig(**_LLAMA_SIZES)).eval()


def llama_for_causal_lm() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**_LLAMA_SIZES)).eval()


def glm() -> GlmModel:
    return GlmModel(GlmConfig(**_LLAMA_SIZES, num_key_value_heads=2, head_dim=16)).eval()


def clip_vision() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=224,  # the pipeline resizes every image to this
        patch_size=56,
    )
    return CLIPVisionModelWithProjection(config).eval()


def clip_image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(crop_size={"height": 224, "width": 224}, size={"shortest_edge": 224})


def siglip_vision() -> SiglipVisionModel:
    config = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
    )
    return SiglipVisionModel(config).eval()


def siglip_image_processor() -> SiglipImageProcessorPil:
    return SiglipImageProcessorPil(size={"height": 64, "width": 64})

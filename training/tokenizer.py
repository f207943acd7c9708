"""Byte-level CLIP tokenizer whose merges are learned from the caption grammar."""

import json
from pathlib import Path

import numpy as np
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from training.scenes.clip_captions import clip_caption
from training.scenes.details import detailed_caption
from training.scenes.labels import sample_moving_scene, sample_varied_scene

MAX_TOKENS = 77
_START, _END = "<|startoftext|>", "<|endoftext|>"


def grammar_captions(count: int, seed: int = 0) -> list[str]:
    """Return captions of `count` random scenes; every fourth scene is a video."""
    rng = np.random.default_rng((seed, 6))
    return [
        detailed_caption(sample_varied_scene(index), rng)
        if index % 4
        else clip_caption(sample_moving_scene(index), rng)
        for index in range(count)
    ]


def build_tokenizer(size: int = 1024) -> CLIPTokenizer:
    """Return a tokenizer with one token per byte and, after merges, one token per word of the caption grammar.

    `size` is the maximum size of the vocabulary. It allows more merges than the grammar needs.
    """
    blank = CLIPTokenizer(vocab={_START: 0, _END: 1}, merges=[])
    learned = blank.train_new_from_iterator(grammar_captions(4000), size, show_progress=False)
    merges = _merges(learned)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(first + second for first, second in merges),
        _START,
        _END,
    ]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Save the tokenizer to `folder`, including vocab.json and merges.txt for older transformers versions."""
    tokenizer.save_pretrained(folder)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in _merges(tokenizer))]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")


def _merges(tokenizer: CLIPTokenizer) -> list[tuple[str, str]]:
    return [(first, second) for first, second in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders
from transformers import CLIPTokenizer

from training.tokenizer import build_tokenizer, grammar_captions, save_tokenizer

tokenizer = build_tokenizer()


@settings(deadline=None)
@given(st.text("abcz ,.'-!?09éß漢🙂", max_size=30))
def test_tokens_decode_to_the_original_text_without_spaces(text: str) -> None:
    inside = tokenizer(text).input_ids[1:-1]
    assert tokenizer.eos_token_id not in inside  # the end token is also the unknown token
    letters = [token.removesuffix("</w>") for token in tokenizer.convert_ids_to_tokens(inside)]
    assert decoders.ByteLevel().decode(letters) == "".join(text.split())


def test_each_word_of_the_caption_grammar_is_one_token() -> None:
    words = {word for line in grammar_captions(400) for word in line.replace(",", " ").split()}
    alphabetic = [word for word in words if word.isalpha()]
    assert len(alphabetic) > 80
    assert all(len(tokenizer(word).input_ids) == 3 for word in alphabetic)  # start, word, end


def test_captions_have_at_most_40_tokens() -> None:
    assert max(len(tokenizer(line).input_ids) for line in grammar_captions(400)) <= 40


@pytest.mark.parametrize("with_fast_file", [True, False])
def test_tokenizer_loaded_from_files_returns_the_same_tokens(tmp_path: Path, with_fast_file: bool) -> None:
    save_tokenizer(tokenizer, tmp_path)
    if not with_fast_file:
        (tmp_path / "tokenizer.json").unlink()
    loaded = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a bird's-eye view of a snowy mountain at dusk — 3 écrans!"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert loaded.model_max_length == 77
    assert len(json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))) == len(tokenizer)

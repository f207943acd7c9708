"""Syntaxes of prompts that a plan refuses."""

from dataclasses import replace
from typing import Any

import pytest

from codec_wire.errors import InvalidRequest
from codec_wire.request import parse_request
from core.prompt_syntax import MAX_NESTING, require_prompt_syntax
from tests.support.serving import MODEL

COMPEL_MODEL = replace(MODEL, prompt_syntaxes=("plain", "compel"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "(" * 9}, "prompt: must have at most 8 nested parentheses with prompt_syntax compel, got 9"),
        ({"negative_prompt": "(a" * 9}, "negative_prompt: must have at most 8 nested parentheses"),
    ],
)
def test_request_that_cannot_be_encoded_is_refused(fields: dict[str, Any], message: str) -> None:
    request = parse_request({"prompt": "a sea", "prompt_syntax": "compel", **fields})
    with pytest.raises(InvalidRequest) as error:
        require_prompt_syntax(request, COMPEL_MODEL)
    assert message in str(error.value)


@pytest.mark.parametrize("syntax", [None, "plain"])
def test_plain_prompts_may_contain_anything(syntax: str | None) -> None:
    request = parse_request({"prompt": "(" * 8000, "prompt_syntax": syntax, "loras": [{"name": "ink"}]})
    assert require_prompt_syntax(request, MODEL) is None


def test_model_without_compel_refuses_it_with_the_reason() -> None:
    request = parse_request({"prompt": "a sea", "prompt_syntax": "compel"})
    with pytest.raises(InvalidRequest, match="must be plain for .*, got compel. compel needs .* the extra `weighting`"):
        require_prompt_syntax(request, MODEL)


def test_closed_and_escaped_parentheses_are_not_nested() -> None:
    text = "(a) " * 100 + r"\(" * 100 + "(" * MAX_NESTING + "a" + ")" * MAX_NESTING
    assert require_prompt_syntax(parse_request({"prompt": text, "prompt_syntax": "compel"}), COMPEL_MODEL) == "compel"

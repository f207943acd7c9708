"""Parsing of weighted prompts: the result is that of compel, and no prompt of the allowed length takes long."""

import random

import pytest
from compel.prompt_parser import PromptParser

from codec_wire.errors import InvalidRequest
from core.diffusers_engine.compel_parser import MAX_MATCHES, parse_prompt

PROMPTS = (
    "a cat, sitting on a chair. It is big",
    "a (cat)1.3 on a chair++ next to a (red (dog)0.8)1.1",
    "a cat-- :) smiles (",
    '("a cat", "a (dog)1.2").blend(0.5, 0.7)',
    '("a cat", "a dog").blend(1, -0.5, no_normalize)',
    '("a cat", "a dog").and(1, 0.5)',
    r"a \(literal\) parenthesis and \"quotes\"",
    "a cat.attend(1.4) 3.5 -2 x+y=z.",
    "ein Bär, 熊 und ümläute++",
)
CHARACTERS = ("(", ")", '"', "+", "-", ",", ".", " ", "\\", "a", "cat ", "1.3", "(b)0.5", ".and()", ".blend(1)", "=")


@pytest.mark.parametrize("text", PROMPTS)
def test_result_is_that_of_the_parser_of_compel(text: str) -> None:
    assert parse_prompt("prompt", text) == PromptParser().parse_conjunction(text)


def test_random_prompts_are_parsed_as_by_compel_or_refused() -> None:
    parser, rng, parsed = PromptParser(), random.Random(3), 0
    for _ in range(200):
        text = "".join(rng.choices(CHARACTERS, k=rng.randint(1, 10)))
        try:
            found = parse_prompt("prompt", text)
        except InvalidRequest as error:
            assert error.field == "prompt"
        else:
            assert found == parser.parse_conjunction(text), text
            parsed += 1
    assert parsed > 130


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a cat.swap(dog)", "must not contain .swap(), which compel ignores"),
        ("a cat withLora(style, 0.5)", "must not contain withLora or useLora, which compel ignores"),
        ('("a", "b").and() and more', "Expected end of text"),
        ('("a", "b").blend(1)', "mismatched prompts/weights counts"),
        ('("a", "b").blend(1, -1)', "whose sum is not 0"),
        ("(a)1000", "must have weights of at most 100, got 1000"),
        ("(a)1" + "0" * 400, "must have weights of at most 100, got inf"),
        ("a" + "+" * 8000, "must have the syntax of compel, got .*Numerical result out of range"),
        ("()1.2", "must contain text"),
    ],
)
def test_unsupported_prompt_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^negative_prompt: .*{message}".replace("(", r"\(").replace(")", r"\)")):
        parse_prompt("negative_prompt", text)


@pytest.mark.parametrize(
    "text",
    ["(" * 8192, "(a, " * 2048, '"(a" ' * 1600, "(" * 400 + "a" + ")1.1" * 400],
    ids=["parentheses", "nested words", "quotes", "nested weights"],
)
def test_parsing_stops_after_a_number_of_steps(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_prompt("prompt", text)
    assert f"at most {MAX_MATCHES} parsing steps with " in caught.value.message
    assert f"got a prompt of {len(text)} characters that needs more steps" in caught.value.message

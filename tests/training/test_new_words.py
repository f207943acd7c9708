"""Training of new words: what changes for captions with them, and what stays as it is for all others."""

import pytest
import torch

from training.denoiser import Denoiser
from training.new_words import label_captions, new_word_tokens, train_only_new_words
from training.optimizer import Optimizer
from training.published import load_published_denoiser
from training.tokenizer import build_tokenizer

NEW = ["a city at night, zooming in", "a field by day, in autumn", "the sea at dusk, the camera panning left"]


@pytest.fixture
def model() -> Denoiser:
    """The published denoiser, with the vocabulary of the caption grammar."""
    torch.manual_seed(0)
    model = Denoiser(build_tokenizer())
    load_published_denoiser(model)
    return model


def predictions(model: Denoiser, captions: list[str]) -> torch.Tensor:
    noisy = torch.randn(len(captions), 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        predicted: torch.Tensor = model(noisy, torch.full((len(captions),), 700), captions)
    return predicted


def relative_change(before: torch.Tensor, after: torch.Tensor) -> float:
    return float((after - before).norm() / before.norm())


def test_new_words_are_those_of_motions_and_details(model: Denoiser) -> None:
    tokenizer = model.tokenizer
    words = {tokenizer.decode([token]).strip() for token in new_word_tokens(tokenizer)}
    assert {"panning", "left", "zooming", "drifting", "autumn", "sail"} <= words
    assert not {"mountain", "sea", "dusk", "snow", "clouds", "the", "a"} & words


def test_training_changes_only_captions_with_new_words(model: Denoiser) -> None:
    labels = ["", *label_captions(40)[-5:]]
    with torch.no_grad():
        embeddings = model.encode_captions(labels)
    before = {"labels": predictions(model, labels), "new": predictions(model, NEW)}
    train_only_new_words(model)
    optimizer = Optimizer(model, 1e-3, muon=True, weight_decay=False, embedding_rate=5.0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(80):  # the published weights know the new words already, so their outputs change slowly
        noisy = torch.randn(len(NEW), 4, 16, 16, generator=generator)
        model(noisy, torch.full((len(NEW),), 700), NEW).square().mean().backward()
        optimizer.step(1e-3)
    with torch.no_grad():
        assert torch.equal(model.encode_captions(labels), embeddings)
    changed = relative_change(before["new"], predictions(model, NEW))
    kept = relative_change(before["labels"], predictions(model, labels))
    assert changed > 0.2
    assert kept < 0.02


def test_embeddings_of_tokens_have_their_own_learning_rate(model: Denoiser) -> None:
    weights = {"embeddings": model.text.get_input_embeddings().weight, "others": model.unet.conv_in.weight}
    model.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True).grad = torch.ones_like(weight)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    Optimizer(model, 1e-3, muon=True, weight_decay=False, embedding_rate=5.0).step(1e-3)
    moved = {name: (before[name] - weight).mean().item() for name, weight in weights.items()}
    assert moved == pytest.approx({"embeddings": 5e-3, "others": 1e-3}, rel=0.01)  # the first step of AdamW

"""Training of new words that leaves the images of all other captions as they are.

`captions.caption` names only labels; the published denoiser was trained with these captions. Words that they do not
have, for motions and details, are new. The outputs of the text encoder for captions without new words use only some
directions of its 192: those with the highest energy, 128 of them, contain 99.97 % of it. Of the UNet, only the keys and
values are trained that the cross-attention reads from the other 64 directions, and of the text encoder only the
embeddings of the new words. So new words have keys and values of their own.
"""

import numpy as np
import torch
from transformers import CLIPTokenizer

from training.denoiser import Denoiser
from training.scenes.captions import caption
from training.scenes.labels import sample_scene
from training.tokenizer import grammar_captions

CAPTIONS = 4000  # number of random captions whose words are collected
ENCODED_CAPTIONS = 1000  # number of random captions whose directions are measured
FREE_DIRECTIONS = 64  # number of directions of the text embeddings from which the UNet reads new words
READS_TEXT = (".attn2.to_k.", ".attn2.to_v.")  # contained in the names of the weights that read the text


def train_only_new_words(model: Denoiser) -> None:
    """Let only those weights of the text encoder and the UNet be trained that captions of labels do not depend on."""
    model.text.requires_grad_(False)
    embeddings = model.text.get_input_embeddings().weight.requires_grad_(True)
    is_new = torch.zeros(len(embeddings), 1, device=embeddings.device)
    is_new[new_word_tokens(model.tokenizer)] = 1
    embeddings.register_hook(lambda gradient: gradient * is_new)
    model.unet.requires_grad_(False)
    projection = free_projection(model)
    for name, weight in model.unet.named_parameters():
        if any(part in name for part in READS_TEXT):
            weight.requires_grad_(True).register_hook(lambda gradient: gradient @ projection)


def new_word_tokens(tokenizer: CLIPTokenizer) -> list[int]:
    """Return the sorted ids of the tokens of the caption grammar that captions of labels never have."""
    known, all_tokens = (
        {token for ids in tokenizer(captions).input_ids for token in ids}
        for captions in (label_captions(CAPTIONS), grammar_captions(CAPTIONS))
    )
    return sorted(all_tokens - known)


@torch.no_grad()
def free_projection(model: Denoiser) -> torch.Tensor:
    """Return the projection, float32 [width, width], to the directions that captions of labels use least.

    These are the eigenvectors of the embeddings' second moments with the smallest eigenvalues.
    """
    captions = ["", *label_captions(ENCODED_CAPTIONS)]
    encoded = torch.cat([model.encode_captions(captions[first : first + 64]) for first in range(0, len(captions), 64)])
    positions = encoded.flatten(0, 1).double()
    _, directions = torch.linalg.eigh(positions.T @ positions)  # in ascending order of the eigenvalues
    free = directions[:, :FREE_DIRECTIONS]
    projection: torch.Tensor = (free @ free.T).float()
    return projection


def label_captions(count: int) -> list[str]:
    """Return `count` random captions of still images that name only labels."""
    rng = np.random.default_rng(7)
    return [caption(sample_scene(index).moving("still"), rng) for index in range(count)]

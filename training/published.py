"""Start of a training stage from the published weights, for which no checkpoints of the first training exist."""

from pathlib import Path

import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from codec_scenes import MODEL_FOLDER
from training.denoiser import Denoiser


@torch.no_grad()
def load_published_denoiser(model: Denoiser, path: Path = MODEL_FOLDER) -> None:
    """Load the UNet and the text encoder of the pipeline at `path` into `model`, in float32.

    The two tokenizers may differ, because the caption grammar grows. A token of both keeps its embedding. A new token
    starts with the mean embedding of the published tokens of its text.
    """
    model.unet.load_state_dict(UNet2DConditionModel.from_pretrained(path / "unet").float().state_dict())
    published = CLIPTextModel.from_pretrained(path / "text_encoder").float().state_dict()
    tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer")
    name = next(name for name in published if name.endswith("token_embedding.weight"))
    published[name] = _moved_embeddings(published[name], tokenizer, model.tokenizer)
    model.text.load_state_dict(published)


def load_published_adapter(adapter: MotionAdapter, path: Path = MODEL_FOLDER) -> None:
    """Load the motion adapter of the pipeline at `path` into `adapter`, in float32."""
    adapter.load_state_dict(MotionAdapter.from_pretrained(path / "motion_adapter").float().state_dict())


def _moved_embeddings(embeddings: torch.Tensor, before: CLIPTokenizer, after: CLIPTokenizer) -> torch.Tensor:
    """Return an embedding [width] for each token of `after` from the embeddings of the tokens of `before`."""
    known = before.get_vocab()
    rows = []
    for token, _ in sorted(after.get_vocab().items(), key=lambda item: item[1]):
        text = after.decode([after.convert_tokens_to_ids(token)]).strip()
        indices = [known[token]] if token in known else before(text, add_special_tokens=False).input_ids
        rows.append(embeddings[indices].mean(dim=0))
    return torch.stack(rows)

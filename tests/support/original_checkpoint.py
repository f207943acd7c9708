"""Stable Diffusion pipelines as one file, with the keys of the first releases of Stable Diffusion.

`from_single_file` of diffusers reads such files. The conversion is the inverse of the one in diffusers.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_VAE = {
    "conv_norm_out": "norm_out",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0.group_norm": "mid.attn_1.norm",
    "mid_block.attentions.0.to_q": "mid.attn_1.q",
    "mid_block.attentions.0.to_k": "mid.attn_1.k",
    "mid_block.attentions.0.to_v": "mid.attn_1.v",
    "mid_block.attentions.0.to_out.0": "mid.attn_1.proj_out",
}


def save_original_checkpoint(pipeline: Any, file: Path) -> None:
    """Write the weights of `pipeline`, a Stable Diffusion 1 pipeline of any size, to `file`."""
    tensors = {
        f"model.diffusion_model.{_unet_key(key, pipeline.unet.config)}": value
        for key, value in pipeline.unet.state_dict().items()
    }
    for key, value in pipeline.vae.state_dict().items():
        name = _vae_key(key, len(pipeline.vae.config.block_out_channels))
        # The attention of the VAE was a convolution with a 1x1 kernel.
        is_convolution = "attn_1" in name and value.ndim == 2
        tensors[f"first_stage_model.{name}"] = value[:, :, None, None] if is_convolution else value
    for key, value in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    save_file({key: value.contiguous() for key, value in tensors.items()}, file)


def _renamed(key: str, names: dict[str, str]) -> str:
    for name, original in names.items():
        if key.startswith(f"{name}."):
            return original + key.removeprefix(name)
    return key


def _unet_key(key: str, config: Any) -> str:
    layers = config.layers_per_block
    part, _, rest = key.partition(".")
    if part == "down_blocks":
        block, kind, layer, name = rest.split(".", 3)
        if kind == "downsamplers":
            return f"input_blocks.{(layers + 1) * (int(block) + 1)}.0.{name.replace('conv', 'op', 1)}"
        base, first = "input_blocks", (layers + 1) * int(block) + 1
    elif part == "up_blocks":
        block, kind, layer, name = rest.split(".", 3)
        base, first = "output_blocks", (layers + 1) * int(block)
        if kind == "upsamplers":
            after_attention = 2 if "CrossAttn" in config.up_block_types[int(block)] else 1
            return f"{base}.{first + layers}.{after_attention}.{name}"
    else:
        renamed = _renamed(key, _UNET)
        is_resnet = part == "mid_block" and ".resnets." in key
        prefix, name = renamed.split(".", 2)[:2], renamed.split(".", 2)[-1]
        return f"{'.'.join(prefix)}.{_renamed(name, _RESNET)}" if is_resnet else renamed
    position = first + int(layer)
    return f"{base}.{position}.0.{_renamed(name, _RESNET)}" if kind == "resnets" else f"{base}.{position}.1.{name}"


def _vae_key(key: str, blocks: int) -> str:
    half, _, rest = key.partition(".")
    if half not in ("encoder", "decoder"):
        return key
    if rest.startswith(("down_blocks", "up_blocks")):
        direction, block, kind, layer, name = rest.split(".", 4)
        level = int(block) if direction == "down_blocks" else blocks - 1 - int(block)
        side = direction.removesuffix("_blocks")
        rest = f"{side}.{level}.block.{layer}.{name}" if kind == "resnets" else f"{side}.{level}.{side}sample.{name}"
    return f"{half}.{_renamed(rest, _VAE)}".replace("conv_shortcut", "nin_shortcut")

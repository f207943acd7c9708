"""Tiny pipelines of LCM, SD3 ControlNet, AuraFlow, SanaSprint, Lumina 2, CogView 4, HiDream and HunyuanImage."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AdaptiveProjectedMixGuidance,
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKLHunyuanImage,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    SanaSprintPipeline,
    SCMScheduler,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
)

from tests.support.families import encoders, language_models
from tests.support.families.images import build_sana, build_sd3, shifted_vae
from tests.support.tiny_sd import build_pipeline, build_vae


def changed(part: Any, **settings: Any) -> Any:
    """Return a part of the class of `part` with its configuration, except for `settings`, and random weights."""
    config = {name: value for name, value in part.config.items() if not name.startswith("_")}
    return type(part)(**{**config, **settings}).eval()


def build_lcm() -> LatentConsistencyModelPipeline:
    parts = {name: part for name, part in build_pipeline().components.items() if part is not None}
    torch.manual_seed(61)
    parts["unet"] = changed(parts["unet"], time_cond_proj_dim=32)
    parts["scheduler"] = LCMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction")
    return LatentConsistencyModelPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def build_sd3_controlnet() -> StableDiffusion3ControlNetPipeline:
    parts = build_sd3(2).components
    torch.manual_seed(62)
    controlnet = SD3ControlNetModel.from_config({**parts["transformer"].config, "extra_conditioning_channels": 0})
    for block in controlnet.controlnet_blocks:
        torch.nn.init.normal_(block.weight, std=0.1)
    torch.nn.init.normal_(controlnet.pos_embed_input.proj.weight, std=0.1)
    return StableDiffusion3ControlNetPipeline(**parts, controlnet=controlnet.eval())


def build_aura_flow() -> AuraFlowPipeline:
    torch.manual_seed(63)
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=encoders.WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=256,
    )
    return AuraFlowPipeline(
        tokenizer=encoders.t5_tokenizer(),
        text_encoder=encoders.umt5(),
        vae=build_vae(scaling_factor=0.13025),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


def build_sana_sprint() -> SanaSprintPipeline:
    parts = build_sana().components
    torch.manual_seed(64)
    parts["transformer"] = changed(parts["transformer"], guidance_embeds=True)
    parts["scheduler"] = SCMScheduler()
    return SanaSprintPipeline(**parts)


def build_lumina2() -> Lumina2Pipeline:
    torch.manual_seed(65)
    transformer = Lumina2Transformer2DModel(
        sample_size=16,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(512, 64, 64),
        cap_feat_dim=encoders.WIDTH,
    )
    return Lumina2Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=encoders.gemma(),
        tokenizer=encoders.gemma_tokenizer(),
    )


def build_cogview4() -> CogView4Pipeline:
    torch.manual_seed(66)
    transformer = CogView4Transformer2DModel(
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=encoders.WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        sample_size=16,
        rope_axes_dim=(64, 64),
    )
    return CogView4Pipeline(
        tokenizer=encoders.t5_tokenizer(),
        text_encoder=encoders.glm(),
        vae=shifted_vae(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def build_hidream() -> HiDreamImagePipeline:
    torch.manual_seed(67)
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=[encoders.WIDTH, encoders.WIDTH],
        text_emb_dim=2 * encoders.WIDTH,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=[0, 1],
        force_inference_output=True,
    )
    tokenizer = encoders.clip_tokenizer()
    return HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=encoders.long_clip(),
        tokenizer=tokenizer,
        text_encoder_2=encoders.long_clip(),
        tokenizer_2=tokenizer,
        text_encoder_3=encoders.t5(),
        tokenizer_3=encoders.t5_tokenizer(),
        text_encoder_4=encoders.llama_for_causal_lm(),
        tokenizer_4=encoders.llama_tokenizer(),
        transformer=transformer.eval(),
    )


def prepare_hidream(pipeline: Any) -> None:
    """Change the area to which the pipeline scales every size to that of the tests, 64x96."""
    pipeline.default_sample_size = (64 * 96) ** 0.5 * (1 + 1e-9) / pipeline.vae_scale_factor


def build_hunyuan_image() -> HunyuanImagePipeline:
    torch.manual_seed(68)
    vae = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=1,
        spatial_compression_ratio=8,
        sample_size=64,
        scaling_factor=0.75,
    )
    transformer = HunyuanImageTransformer2DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=language_models.WIDTH,
        text_embed_2_dim=encoders.WIDTH,
        rope_axes_dim=(4, 4),
    )
    return HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        vae=vae.eval(),
        text_encoder=language_models.qwen_vl(),
        tokenizer=language_models.qwen_tokenizer(),
        text_encoder_2=encoders.byt5(),
        tokenizer_2=encoders.byt5_tokenizer(),
        transformer=transformer.eval(),
        guider=AdaptiveProjectedMixGuidance(),
    )


def build_distilled_hunyuan_image() -> HunyuanImagePipeline:
    parts = build_hunyuan_image().components
    torch.manual_seed(69)
    parts["transformer"] = changed(parts["transformer"], guidance_embeds=True)
    return HunyuanImagePipeline(**parts | {"guider": None, "ocr_guider": None})

"""Settings of fast mode: its switches, and the distance from the reference that they may have."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.setting_field import setting

_PANEL = "Fast mode"
_ON_OFF_PANEL = "Fast mode: on or off"
"""Flags with a second name, --no-..., in their own panel, because the second column makes the others too narrow."""


class FastSettings(BaseSettings):
    """Settings of the mode and its switches. core.settings.Settings contains these fields.

    The value None of a switch selects the default of the mode: off in reference mode, and core.switches.FAST_DEFAULTS
    in fast mode.
    """

    mode: Literal["reference", "fast"] = setting(
        _PANEL,
        "reference",
        "How the model generates. reference: as diffusers does without any acceleration, so that the same request "
        "always gives the same bytes. fast: with the switches below, which change the pixels. Their distance from "
        "the reference must have been measured with `codec-diffusers golden accelerate`.",
    )
    channels_last: bool | None = setting(
        _ON_OFF_PANEL,
        None,
        "Store the weights of the UNet and the VAE in the memory format channels_last. Default in fast mode: on, if "
        "the model has a UNet.",
    )
    compile: Literal["auto", "none", "regional", "full"] | None = setting(
        _PANEL,
        None,
        "Compile the denoiser with torch.compile. full: the denoiser as a whole. regional: its repeated blocks, "
        "which compiles faster. auto: regional for transformers that define such blocks, otherwise full, and none "
        "without a C++ compiler. Default in fast mode: auto.",
    )
    compile_sizes: str | None = setting(
        _PANEL,
        None,
        "Sizes in pixels for which the denoiser is compiled at the start, WIDTHxHEIGHT separated by commas. Requests "
        "for other sizes run without compilation. Default: the default size of the model.",
        pattern=r"^\d+x\d+(,\d+x\d+)*$",
    )
    fused_qkv: bool | None = setting(
        _ON_OFF_PANEL,
        None,
        "Compute the projections to queries, keys and values in one matrix multiplication. Default in fast mode: off.",
    )
    attention_backend: str | None = setting(
        _PANEL,
        None,
        "Attention backend of diffusers, e.g. native, flash or sage, for transformers that support backends. Default: "
        "the backend that diffusers selects.",
    )
    step_cache: Literal["none", "faster", "first_block", "mag", "pyramid_attention", "taylorseer"] | None = setting(
        _PANEL,
        None,
        "Reuse results of earlier sampling steps, for transformers that support caches: none, faster (FasterCache), "
        "first_block (FirstBlockCache), mag (MagCache), pyramid_attention (PyramidAttentionBroadcast) or taylorseer "
        "(TaylorSeer). Default in fast mode: none.",
    )
    guidance_cutoff: float | None = setting(
        _PANEL,
        None,
        "Share of the sampling steps that use classifier-free guidance; the steps after it do half of the work. 1 "
        "uses guidance in all steps. Default in fast mode: 0.6, if the pipeline supports it.",
        gt=0,
        le=1,
    )
    quantization: Literal["none", "int8wo", "int4wo", "float8wo"] | None = setting(
        _PANEL,
        None,
        "Quantize the weights of the denoiser with torchao: none, int8wo, int4wo or float8wo. Needs the extra speed. "
        "Default in fast mode: none.",
    )
    offload: Literal["none", "model", "group", "sequential"] | None = setting(
        _PANEL,
        None,
        "Keep the weights in main memory and move them to the GPU when they are used: none, or one model, group of "
        "layers or layer at a time. Default in fast mode: none.",
    )
    vae_tiling: bool | None = setting(
        _ON_OFF_PANEL,
        None,
        "Decode and encode large images in tiles, which needs less memory. Default in fast mode: off.",
    )
    vae_slicing: bool | None = setting(
        _ON_OFF_PANEL,
        None,
        "Decode and encode the images of a batch one after another, which needs less memory. Default in fast mode: "
        "off.",
    )
    fast_min_ssim: float = setting(
        _PANEL,
        0.95,
        "Minimum SSIM of the measured images in fast mode to those in reference mode. With a lower measured value, the "
        "server refuses to start.",
        ge=0,
        le=1,
    )
    fast_min_psnr_db: float | None = setting(
        _PANEL, None, "Minimum PSNR in dB, like --fast-min-ssim. Default: PSNR is not checked.", ge=0
    )
    fast_max_lpips: float | None = setting(
        _PANEL,
        None,
        "Maximum LPIPS, like --fast-min-ssim. If LPIPS was not measured, the server refuses to start. Default: LPIPS "
        "is not checked.",
        ge=0,
    )
    fast_unmeasured: Literal["refuse", "allow"] = setting(
        _PANEL,
        "refuse",
        "What happens if the distance of the switches was not measured. refuse: the server refuses to start. allow: it "
        "logs a warning and reports the distance as unknown.",
    )

    @property
    def compile_size_list(self) -> tuple[tuple[int, int], ...]:
        """The sizes (width, height) in `compile_sizes`; empty if it is not set."""
        if self.compile_sizes is None:
            return ()
        pairs = (size.split("x") for size in self.compile_sizes.split(","))
        return tuple((int(width), int(height)) for width, height in pairs)

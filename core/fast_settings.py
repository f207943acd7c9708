"""Settings of the switches of fast mode, and of the largest allowed difference from reference mode."""

from typing import Literal

from pydantic_settings import BaseSettings

from core.guidance_interval import PATTERN
from core.setting_field import setting

_PANEL = "Fast mode"
_ON_OFF_PANEL = "Fast mode: on or off"
"""Heading in --help of the flags that can be negated with --no-.

Flags that can be negated are listed separately, because the column with the negated names leaves less space for the
help texts.
"""


class FastSettings(BaseSettings):
    """Settings of the mode (reference mode or fast mode) and of the switches of fast mode.

    The class core.settings.Settings contains the fields of this class. For a switch that is not set, the default of the
    mode applies. In reference mode, all switches are off by default. The defaults of fast mode are
    core.switches.FAST_DEFAULTS.
    """

    mode: Literal["reference", "fast"] = setting(
        _PANEL,
        "reference",
        "Mode in which the model generates. In 'reference' mode, the model generates like diffusers without "
        "acceleration, so that the same request always gives the same bytes. In 'fast' mode, the model "
        "generates with optimizations that change the pixels. These optimizations are called the switches of fast "
        "mode. The difference between fast mode and reference mode must be measured first with `codec-diffusers golden "
        "accelerate`, unless --fast-unmeasured has the value 'allow'.",
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
        "Compile the denoiser with torch.compile. 'full' compiles the denoiser as a whole. 'regional' compiles the "
        "repeated blocks of the denoiser, which takes less time. 'auto' selects 'regional' for transformers that "
        "define repeated blocks, and 'full' for all other models. If no C++ compiler is installed, 'auto' does "
        "not compile, like 'none'. Default in fast mode: auto.",
    )
    compile_sizes: str | None = setting(
        _PANEL,
        None,
        "Comma-separated sizes in pixels, each WIDTHxHEIGHT, for which the denoiser is compiled when the server "
        "starts. Requests for other sizes run without compilation. Default: the default size of the model.",
        pattern=r"^\d+x\d+(,\d+x\d+)*$",
    )
    fused_qkv: bool | None = setting(
        _ON_OFF_PANEL,
        None,
        "Compute the query, key and value projections of attention layers in one matrix multiplication. Default "
        "in fast mode: off.",
    )
    attention_backend: str | None = setting(
        _PANEL,
        None,
        "Attention backend of diffusers, e.g. native, flash or sage. The transformer of the model must support "
        "attention backends. Default: the backend that diffusers selects.",
    )
    step_cache: (
        Literal["none", "cache_dit", "faster", "first_block", "mag", "pyramid_attention", "taylorseer"] | None
    ) = setting(
        _PANEL,
        None,
        "Cache with which a transformer reuses results of earlier sampling steps: none, faster (FasterCache), "
        "first_block (FirstBlockCache), mag (MagCache), pyramid_attention (PyramidAttentionBroadcast), "
        "taylorseer (TaylorSeer), or cache_dit (DBCache). cache_dit needs the optional "
        "dependencies codec-diffusers[speed]. Default in fast mode: none.",
    )
    guidance_interval: str | None = setting(
        _PANEL,
        None,
        "Sampling steps that use classifier-free guidance, as intervals BEGIN-END separated by /. BEGIN and END "
        "are fractions of the number of steps, and the first BEGIN must be 0. All other steps run without "
        "guidance, which halves the computation in these steps. The value 0-1 selects all steps. Default in fast "
        "mode: 0-0.04/0.12-0.68/0.84-1, if the pipeline supports this setting.",
        pattern=PATTERN,
    )
    quantization: Literal["none", "int8wo", "int4wo", "float8wo", "bnb_int8", "bnb_nf4"] | None = setting(
        _PANEL,
        None,
        "Quantization of the weights of the denoiser. 'int8wo', 'int4wo' and 'float8wo' use torchao. 'bnb_int8' and "
        "'bnb_nf4' use bitsandbytes, which needs a GPU. Both libraries are optional dependencies: "
        "codec-diffusers[speed]. Default in fast mode: none.",
    )
    gguf: str | None = setting(
        _PANEL,
        None,
        "GGUF file, given as a path or as the name of a file in the models directory. Its weights replace the "
        "weights of the model's denoiser. This setting needs the optional dependencies codec-diffusers[speed]. "
        "Default in fast mode: the weights of the model.",
        pattern=r"^[^+,]+\.gguf$",
    )
    offload: Literal["none", "model", "group", "sequential"] | None = setting(
        _PANEL,
        None,
        "Keep the weights in main memory and move them to the GPU only when they are used. 'model' moves "
        "one component of the pipeline at a time, 'group' moves one group of layers, and 'sequential' moves one "
        "layer. Default in fast mode: none.",
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
        "Minimum structural similarity (SSIM) between images in fast mode and the same images in reference mode. "
        "If the measured SSIM is lower, the server refuses to start.",
        ge=0,
        le=1,
    )
    fast_min_psnr_db: float | None = setting(
        _PANEL,
        None,
        "Minimum peak signal-to-noise ratio (PSNR) in dB, checked like --fast-min-ssim. Default: PSNR is not checked.",
        ge=0,
    )
    fast_max_lpips: float | None = setting(
        _PANEL,
        None,
        "Maximum learned perceptual distance (LPIPS), checked like --fast-min-ssim. If LPIPS was not measured, "
        "the server refuses to start. Default: LPIPS is not checked.",
        ge=0,
    )
    fast_unmeasured: Literal["refuse", "allow"] = setting(
        _PANEL,
        "refuse",
        "Behaviour of the server if the difference between fast mode and reference mode was not measured. With "
        "'refuse', the server refuses to start. With 'allow', the server logs a warning and reports the difference "
        "as unknown.",
    )

    @property
    def compile_size_list(self) -> tuple[tuple[int, int], ...]:
        """The sizes (width, height) in `compile_sizes`, or an empty tuple if `compile_sizes` is not set."""
        if self.compile_sizes is None:
            return ()
        pairs = (size.split("x") for size in self.compile_sizes.split(","))
        return tuple((int(width), int(height)) for width, height in pairs)

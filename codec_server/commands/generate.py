"""The `generate` command, which generates an image, a video or a latent stream, on a server or in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codec_server.commands.capture_options import DOWNLOAD_HELP
from codec_server.commands.target_options import with_target
from codec_server.errors import report_cli_errors
from codec_wire.pipelines import PIPELINES
from codec_wire.wire_format import WireFormat

_OUTPUT, _REQUEST, _WIRE = "Output", "Image or video", "Latent stream"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, **more)


@with_target
def generate(
    prompt: Annotated[
        str, typer.Argument(help="Text that describes the image or video to generate.", show_default=False)
    ],
    *,
    output: Annotated[
        str,
        _option(
            _OUTPUT,
            "Output file: .png, .jpg, .webp, .gif, .mp4, or .bin for the latent stream. '-' writes to standard output.",
            "--output",
            "-o",
        ),
    ],
    file_format: Annotated[
        str | None, _option(_OUTPUT, "Format of the output file. Default: the extension of --output.", "--format")
    ] = None,
    as_json: Annotated[
        bool, _option(_OUTPUT, "Print a report about the generation as JSON on standard output.", "--json")
    ] = False,
    preview: Annotated[
        bool,
        _option(
            _OUTPUT,
            "While the model samples, write a preview of the result to the output file about five times. If the "
            "generation fails, the file keeps the last preview.",
            "--preview",
        ),
    ] = False,
    decoder: Annotated[
        Path | None,
        _option(_OUTPUT, "Directory of the VAE. Default: the VAE that the latent-space map names."),
    ] = None,
    download_decoder: Annotated[bool, _option(_OUTPUT, DOWNLOAD_HELP, "--download-decoder")] = False,
    seed: Annotated[
        int | None,
        _option(
            _REQUEST,
            "Seed of the random noise from which the model starts. The same seed gives the same result. Default: 42.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        _option(_REQUEST, "Size of the result as WIDTHxHEIGHT in pixels. Default: the model's default size."),
    ] = None,
    steps: Annotated[int | None, _option(_REQUEST, "Number of sampling steps. Default: 25.")] = None,
    scheduler: Annotated[
        str | None,
        _option(
            _REQUEST,
            "Scheduler that samples the latents, e.g. euler or dpm++-2m-karras. Default: the model's own scheduler.",
        ),
    ] = None,
    prompt_syntax: Annotated[
        str | None,
        _option(
            _REQUEST,
            "Syntax of the prompts: plain, or compel for weights like (word)1.3 and for long prompts. Default: plain.",
        ),
    ] = None,
    lora: Annotated[
        list[str] | None,
        _option(
            _REQUEST,
            "LoRA weights to add to the model, as NAME or NAME=SCALE, e.g. watercolor=0.8. Default scale: 1. Repeat "
            "this option to add several LoRAs. GET /v1/models of a server lists the names of its LoRAs. For a model in "
            "this process, --lora-dir sets the directory of the LoRA files.",
            metavar="NAME[=SCALE]",
        ),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        _option(_REQUEST, "Classifier-free guidance scale. Default: the model's default scale."),
    ] = None,
    negative_prompt: Annotated[
        str | None, _option(_REQUEST, "Text that describes what the result should not show.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        _option(
            _REQUEST,
            "Parameter that only some models have, as NAME=VALUE. NAME is true_cfg_scale, guidance_rescale, "
            "max_sequence_length or clip_skip. Repeat this option to set several parameters. GET "
            "/v1/models of a server lists the parameters of its models and their bounds.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    image: Annotated[
        Path | None,
        _option(_REQUEST, "Image file from which the generation starts. The model must support input images."),
    ] = None,
    latents: Annotated[
        Path | None,
        _option(
            _REQUEST,
            "File (.bin) with the latent stream of an image from which the generation starts, instead of --image.",
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        _option(
            _REQUEST,
            "Image file with the inpainting mask, of the same size as --image. Where the mask is white, the image is "
            "repainted. Where the mask is black, the image is kept. The model must support inpainting.",
        ),
    ] = None,
    strength: Annotated[
        float | None,
        _option(
            _REQUEST,
            "How much the image in --image or --latents is changed, as a number above 0 and up to 1. The value 1 "
            "replaces the whole image. Default: 0.8.",
        ),
    ] = None,
    video: Annotated[
        bool | None,
        _option(
            _REQUEST,
            "Generate a video instead of an image. By default, a video is generated if the output is .mp4 or .gif.",
            "--video/--no-video",
        ),
    ] = None,
    frames: Annotated[int | None, _option(_REQUEST, "Number of video frames. Default: 24.")] = None,
    fps: Annotated[int | None, _option(_REQUEST, "Frame rate of the video in frames per second. Default: 24.")] = None,
    pipeline: Annotated[
        str | None,
        _option(
            _WIRE,
            f"Encoding of the latents: {', '.join(PIPELINES)}. Encodings whose name begins with delta are only "
            "for videos. Default: raw.",
        ),
    ] = None,
    keyframe_interval: Annotated[
        int | None, _option(_WIRE, "Number of frames from one keyframe of a video to the next. Default: 24.")
    ] = None,
    wire_format: Annotated[
        WireFormat,
        _option(
            _WIRE,
            "Wire format of HTTP responses and .bin files: msgpack or protobuf. Default: msgpack.",
            metavar="<choice>",
        ),
    ] = WireFormat.MSGPACK,
    target: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> None:
    """Generate an image or a video from PROMPT, on a server or with a model in this process.

    Examples:
      codec-diffusers generate "a snowy mountain at dusk" -o a.png

      codec-diffusers generate "a desert" -o a.png --server http://127.0.0.1:8080

      codec-diffusers generate "a desert" -o a.png --preview --grpc 127.0.0.1:50051

      codec-diffusers generate "a sea" -o b.png --image a.png --strength 0.6

      codec-diffusers generate "a boat" -o b.png --image a.png --mask mask.png

      codec-diffusers generate "a sea" -o a.png --extra clip_skip=1 --extra guidance_rescale=0.7

      codec-diffusers generate "a sea" -o b.bin --latents a.bin --strength 0.6

      codec-diffusers generate "waves" -o a.mp4 --frames 16 --grpc 127.0.0.1:50051

      codec-diffusers generate "a desert" -o - | codec-diffusers inspect -

    """
    with report_cli_errors():
        from codec_server.actions.generate import run_generate
        from codec_server.target import Target

        fields = {
            "pipeline": pipeline,
            "seed": seed,
            "size": size,
            "steps": steps,
            "scheduler": scheduler,
            "prompt_syntax": prompt_syntax,
            "loras": lora or None,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
            "extra": extra,
            "frames": frames,
            "fps": fps,
            "keyframe_interval": keyframe_interval,
            "image": image,
            "latents": latents,
            "mask": mask,
            "strength": strength,
        }
        run_generate(
            prompt,
            fields,
            Target(**target, wire_format=wire_format),
            flags,
            output=output,
            file_format=file_format,
            is_video=video,
            decoder=decoder,
            download=download_decoder,
            as_json=as_json,
            preview=preview,
        )

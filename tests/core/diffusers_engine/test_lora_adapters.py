"""LoRA weights of requests: the latents are those of diffusers with these LoRA weights, and nothing remains after."""

import asyncio
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire.errors import Cancelled, InvalidRequest
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.loras import LoraSource, apply_loras
from core.diffusers_engine.sampler import sample, sample_batch
from core.engine import Job
from core.lora_directory import LoraDirectory
from core.plan import StreamPlan, plan
from core.probe import sample_image
from core.switches import Switches
from tests.support.families import flux, images
from tests.support.families.videos import build_motion_adapter
from tests.support.loras import UNET, UNET_AND_TEXT, load_with_loras, write_lora
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

XL = {"unet": ("to_q", "ff.net.2"), "text_encoder": ("k_proj",), "text_encoder_2": ("out_proj",)}
TRANSFORMER = {"transformer": ("to_q", "to_k", "proj_out")}


def plan_of(model: LoadedModel, loras: Mapping[str, float] | None = None, **fields: Any) -> StreamPlan:
    chosen = [{"name": name, "scale": scale} for name, scale in (loras or {}).items()]
    common = {"prompt": "a sea", "steps": 2, "size": (64, 64), "seed": 5, "modality": Modality.IMAGE}
    request = GenerationRequest(**{**common, **fields, "loras": chosen})
    return plan(request, bundle_with_dtype(model, "fp32"), model.info)


class Sampler:
    """Samples plans of one model on the device thread."""

    def __init__(self, model: LoadedModel, thread: DeviceThread) -> None:
        self.model = model
        self._thread = thread

    def __call__(self, loras: Mapping[str, float] | None = None, **fields: Any) -> torch.Tensor:
        planned = plan_of(self.model, loras, **fields)
        return self._thread.submit(lambda: sample(self.model, planned, Job(), lambda _done, _total: None)).result()

    @property
    def names(self) -> list[str]:
        """The names of the loaded LoRA weights."""
        assert self.model.lora_adapters is not None
        return self.model.lora_adapters.names


def expected(
    thread: DeviceThread, build: Callable[[], Any], folder: Path, loras: Mapping[str, float], **arguments: Any
) -> torch.Tensor:
    """Return the latents of a new pipeline after load_lora_weights and set_adapters."""

    def run() -> torch.Tensor:
        pipeline = build()
        pipeline.set_progress_bar_config(disable=True)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # about further adapters
            for name in loras:
                pipeline.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
        pipeline.set_adapters(list(loras), list(loras.values()))
        generator = torch.Generator().manual_seed(5)
        options = {"prompt": "a sea", "width": 64, "height": 64, "num_inference_steps": 2, **arguments}
        latents: torch.Tensor = pipeline(**options, generator=generator, output_type="latent").images
        return latents

    return thread.submit(run).result()


def modules_of(model: LoadedModel) -> dict[str, int]:
    """Return the ids of all parameters and modules of the model's components, by name."""
    parts = [part for part in model.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return {
        f"{number}.{name}": id(item)
        for number, part in enumerate(parts)
        for name, item in (*part.named_parameters(), *part.named_modules())
    }


@pytest.mark.parametrize(
    ("factory", "build", "targets"),
    [
        ("tests.support.tiny_sd:build_pipeline", build_pipeline, (UNET, UNET_AND_TEXT)),
        ("tests.support.tiny_sdxl:build_sdxl", build_sdxl, (XL, XL)),
        ("tests.support.families.images:build_flux", images.build_flux, (TRANSFORMER, TRANSFORMER)),
    ],
    ids=["sd", "sdxl", "flux"],
)
def test_latents_equal_those_of_diffusers_and_nothing_remains(
    factory: str,
    build: Callable[[], Any],
    targets: Sequence[Mapping[str, Sequence[str]]],
    tmp_path: Path,
    device: Device,
    device_thread: DeviceThread,
) -> None:
    for seed, (name, layers) in enumerate(zip(("ink", "fog"), targets, strict=True)):
        write_lora(tmp_path, name, seed=seed, build=build, targets=layers)
    generate = Sampler(load_with_loras(tmp_path, device, factory), device_thread)
    modules = modules_of(generate.model)
    plain = generate()
    found = [plain]
    for loras in ({"ink": 1.0}, {"fog": 0.5}, {"fog": 0.75, "ink": -0.5}):
        latents = generate(loras)
        reference = expected(device_thread, build, tmp_path, loras)
        if factory.endswith("build_flux"):  # the pipeline packs its latents
            pipeline = generate.model.pipeline
            reference = pipeline._unpack_latents(reference, 64, 64, pipeline.vae_scale_factor)
        assert torch.equal(latents, reference), loras
        assert torch.equal(generate(), plain), loras
        found.append(latents)
    assert len({latents.numpy().tobytes() for latents in found}) == len(found)
    unload(generate, device_thread)
    assert modules_of(generate.model) == modules
    assert torch.equal(generate(), plain)


def unload(generate: Sampler, thread: DeviceThread) -> None:
    """Unload all LoRA weights of requests."""
    loras = generate.model.lora_adapters
    assert loras is not None
    for key in list(loras._adapters):
        thread.submit(loras._delete, key).result()


def test_merged_loras_of_the_settings_stay_applied(tmp_path: Path, device: Device, device_thread: DeviceThread) -> None:
    merged = LoraSource(str(write_lora(tmp_path / "settings", "style", seed=3)), 0.5)
    write_lora(tmp_path, "ink", seed=1)

    def build() -> Any:
        pipeline = build_pipeline()
        apply_loras(pipeline, (merged,), allow_pickle=False)
        return pipeline

    generate = Sampler(load_with_loras(tmp_path, device, loras=(merged,)), device_thread)
    plain = generate()
    assert not torch.equal(plain, Sampler(load_with_loras(tmp_path, device), device_thread)())
    assert torch.equal(generate({"ink": 1.0}), expected(device_thread, build, tmp_path, {"ink": 1.0}))
    assert torch.equal(generate(), plain)


def test_input_image_uses_the_loras(tmp_path: Path, device: Device, device_thread: DeviceThread) -> None:
    write_lora(tmp_path, "ink", seed=1, targets=UNET_AND_TEXT)
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    fields: dict[str, Any] = {"image": sample_image(0), "strength": 1.0}
    plain = generate(**fields)
    changed = generate({"ink": 1.0}, **fields)
    assert not torch.equal(changed, plain)
    assert generate.names == ["ink"]  # the pipelines share the adapter
    assert torch.equal(generate({"ink": 1.0}), expected(device_thread, build_pipeline, tmp_path, {"ink": 1.0}))
    assert torch.equal(generate(**fields), plain)


def test_least_recently_used_weights_are_unloaded_at_the_limit(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    for seed in range(5):
        size = write_lora(tmp_path, f"lora{seed}", seed=seed).stat().st_size
    limit = size * 2
    generate = Sampler(load_with_loras(tmp_path, device, max_bytes=limit), device_thread)
    loras = generate.model.lora_adapters
    assert loras is not None
    plain, alone = generate(), [generate({f"lora{index}": 1.0}) for index in range(5)]
    assert len({latents.numpy().tobytes() for latents in alone}) == 5
    for index in (0, 1, 0, 2, 4, 3, 0, 1):
        assert torch.equal(generate({f"lora{index}": 1.0}), alone[index])
        assert len(loras.names) <= 2
        assert loras.nbytes <= limit
    assert loras.names == ["lora0", "lora1"]
    generate({"lora0": 1.0})
    generate({"lora3": 1.0})
    assert loras.names == ["lora0", "lora3"]
    with pytest.raises(InvalidRequest, match=r"^loras: must need at most .* MiB .*CODEC_LORA_CACHE_MIB.*, got LoRA"):
        generate({"lora1": 1.0, "lora2": 1.0, "lora4": 1.0})
    assert loras.names == ["lora0", "lora3"]  # those of other requests stay loaded
    assert torch.equal(generate(), plain)
    assert torch.equal(generate({"lora4": 1.0}), alone[4])


def test_files_can_be_added_replaced_and_removed_while_the_server_runs(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    assert generate.model.info.lora_names() == ()
    with pytest.raises(InvalidRequest, match=r"^loras\[0\]\.name: 'ink' not found; this server has no LoRA weights$"):
        generate({"ink": 1.0})
    write_lora(tmp_path, "ink", seed=1)
    assert generate.model.info.lora_names() == ("ink",)
    first = generate({"ink": 1.0})
    new = write_lora(tmp_path / "new", "ink", seed=2)
    shutil.move(new, tmp_path / "ink.safetensors")
    second = generate({"ink": 1.0})
    assert not torch.equal(first, second)
    assert generate.names == ["ink"]
    planned = plan_of(generate.model, {"ink": 1.0})
    (tmp_path / "ink.safetensors").unlink()
    with pytest.raises(InvalidRequest, match="'ink' not found"):
        generate({"ink": 1.0})
    with pytest.raises(InvalidRequest, match="'ink' not found"):  # removed after the request was planned
        device_thread.submit(lambda: sample(generate.model, planned, Job(), lambda _done, _total: None)).result()


def test_overwritten_file_does_not_change_loaded_weights(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    file = write_lora(tmp_path, "ink", seed=1)
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    first, status = generate({"ink": 1.0}), file.stat()
    file.write_bytes(b"\xff" * status.st_size)  # in place, as a copy does
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert torch.equal(generate({"ink": 1.0}), first)


def test_names_that_a_request_cannot_contain_are_not_listed(tmp_path: Path) -> None:
    for file_name in (b"\xff", b"a\nb", b"\\", b".hidden", b"x" * 129, b"a b", "ü".encode(), b"x" * 128):
        (tmp_path / os.fsdecode(file_name + b".safetensors")).write_bytes(b"")
    directory = LoraDirectory(tmp_path, 2**20)
    assert directory.names() == ("a b", "x" * 128, "ü")
    assert all(directory.find(name) is not None for name in directory.names())
    for name in ("\udcff", "a\nb", "\\", ".hidden", "x" * 129, "../a b", "", ".", "..", "\0", f"{tmp_path}/a b"):
        assert directory.find(name) is None, name
    assert LoraDirectory(tmp_path / "missing", 2**20).names() == ()


def wrong_shapes(folder: Path) -> None:
    file = write_lora(folder, "bad", seed=1)
    save_file({key: weight[:, :-1].contiguous() for key, weight in load_file(file).items()}, file)


def wider_layers(folder: Path) -> None:
    file = write_lora(folder, "bad", seed=1)
    save_file({key: torch.cat([weight, weight], dim=1) for key, weight in load_file(file).items()}, file)


def other_layers(folder: Path) -> None:
    save_file({"unet.nowhere.lora_A.weight": torch.ones(2, 2)}, folder / "bad.safetensors")


def some_other_layers(folder: Path) -> None:
    stray = "unet.down_blocks.7.attentions.0.transformer_blocks.0.attn1.to_q"
    file = write_lora(folder, "bad", seed=1)
    more = {f"{stray}.lora_A.weight": torch.ones(2, 16), f"{stray}.lora_B.weight": torch.ones(16, 2)}
    save_file(load_file(file) | more, file)


def broken_file(folder: Path) -> None:
    (folder / "bad.safetensors").write_bytes(b"not weights")


def truncated_file(folder: Path) -> None:
    file = write_lora(folder, "bad", seed=1)
    file.write_bytes(file.read_bytes()[:-100])


def other_weights(folder: Path) -> None:
    save_file({"unet.conv_in.weight": torch.ones(2, 2)}, folder / "bad.safetensors")


def no_weights(folder: Path) -> None:
    save_file({}, folder / "bad.safetensors")


def kronecker_weights(folder: Path) -> None:
    weights = {f"unet.mid_block.attentions.0.proj_in.lokr_w{side}": torch.ones(2, 2) for side in "12"}
    save_file(weights, folder / "bad.safetensors")


FAULTS = (
    wrong_shapes, wider_layers, other_layers, some_other_layers, broken_file, truncated_file, other_weights,
    kronecker_weights, no_weights,
)  # fmt: skip


def test_weights_that_do_not_fit_are_refused_and_the_next_request_works(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "good", seed=7, targets=UNET_AND_TEXT)
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    modules, plain, good = modules_of(generate.model), generate(), generate({"good": 1.0})
    for fault in FAULTS:
        fault(tmp_path)
        for loras, index in (({"bad": 1.0}, 0), ({"good": 0.5, "bad": 0.5}, 1)):
            with pytest.raises(InvalidRequest) as caught:
                generate(loras)
            message = str(caught.value)
            assert message.startswith(f"loras[{index}].name: 'bad' cannot be applied to StableDiffusionPipeline: ")
            assert "request_" not in message
            assert str(tmp_path) not in message
            assert "\n" not in message
            assert torch.equal(generate(), plain), fault
            assert torch.equal(generate({"good": 1.0}), good), fault
            assert generate.names == ["good"]
        unload(generate, device_thread)
        with pytest.raises(InvalidRequest):
            generate({"bad": 1.0})
        assert modules_of(generate.model) == modules, fault
        assert torch.equal(generate({"good": 1.0}), good), fault


def test_control_lora_that_would_replace_layers_of_flux_is_refused(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "control", seed=1, build=flux.build_flux_control, targets={"transformer": ("x_embedder",)})
    generate = Sampler(load_with_loras(tmp_path, device, "tests.support.families.images:build_flux"), device_thread)
    modules, plain = modules_of(generate.model), generate()
    with pytest.raises(
        InvalidRequest, match=r"x_embedder\.lora_A\.weight has \d+ input features, but the layer of the model has"
    ):
        generate({"control": 1.0})
    assert modules_of(generate.model) == modules
    assert torch.equal(generate(), plain)


def test_partly_fitting_weights_are_applied_if_the_settings_allow_it(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    whole = write_lora(tmp_path, "whole", seed=1)
    some_other_layers(tmp_path)
    generate = Sampler(load_with_loras(tmp_path, device, allow_partial=True), device_thread)
    assert whole.is_file()
    assert torch.equal(generate({"bad": 1.0}), generate({"whole": 1.0}))


def test_batch_applies_the_loras_to_every_generation(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "ink", seed=1, targets=UNET_AND_TEXT)
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    plans = [plan_of(generate.model, {"ink": 1.0}, prompt=prompt, seed=seed) for seed, prompt in enumerate("ab")]
    members = [BatchMember(one, Job(), {}, lambda _done, _total: None) for one in plans]
    together = device_thread.submit(lambda: sample_batch(generate.model, members)).result()
    for seed, (latents, prompt) in enumerate(zip(together, "ab", strict=True)):
        assert latents is not None
        torch.testing.assert_close(latents, generate({"ink": 1.0}, prompt=prompt, seed=seed), atol=1e-3, rtol=0)


def test_images_and_videos_of_one_model_use_the_loras(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "ink", seed=1, targets=UNET_AND_TEXT)
    build_motion_adapter().save_pretrained(tmp_path / "adapter")
    model = load_with_loras(tmp_path, device, motion_adapter=tmp_path / "adapter")
    generate = Sampler(model, device_thread)
    video: dict[str, Any] = {"modality": Modality.VIDEO, "num_frames": 4}
    plain = [generate(), generate(**video)]
    # The pipelines have different UNets and the same text encoder.
    found = [generate({"ink": 1.0}), generate({"ink": 1.0}, **video)]
    assert generate.names == ["ink", "ink"]
    for _ in range(2):
        assert torch.equal(generate({"ink": 1.0}), found[0])
        assert torch.equal(generate({"ink": 1.0}, **video), found[1])
        assert torch.equal(generate(), plain[0])
        assert torch.equal(generate(**video), plain[1])
    assert torch.equal(found[0], expected(device_thread, build_pipeline, tmp_path, {"ink": 1.0}))
    assert not torch.equal(found[1], plain[1])


def test_embeddings_of_weighted_prompts_use_the_loras(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "text", seed=1, targets={"text_encoder": ("q_proj", "v_proj")})
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    weighted: dict[str, Any] = {"prompt": "a (sea)1.3", "prompt_syntax": "compel"}
    for fields in ({}, weighted):
        plain = generate(**fields)
        changed = generate({"text": 1.0}, **fields)
        assert not torch.equal(changed, plain)
        assert torch.equal(generate(**fields), plain)
        assert not torch.equal(generate({"text": 0.5}, **fields), changed)
        assert torch.equal(generate({"text": 1.0}, **fields), changed)


def test_fast_mode_supports_loras_only_with_unchanged_layers(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "ink", seed=1)
    allowed = load_with_loras(tmp_path, device, switches=Switches(guidance_interval="0-0.5", batch_size=2))
    generate = Sampler(allowed, device_thread)
    assert not torch.equal(generate({"ink": 1.0}), generate())
    refused = load_with_loras(tmp_path, device, switches=Switches(fused_qkv=True))
    with pytest.raises(
        InvalidRequest, match=r"^loras: got .* is not supported by .*, because fast mode runs with fused_qkv;"
    ):
        plan_of(refused, {"ink": 1.0})


async def test_cancelled_generation_leaves_no_loras(
    tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    write_lora(tmp_path, "ink", seed=1)
    generate = Sampler(load_with_loras(tmp_path, device), device_thread)
    plain, job = generate(), Job()
    planned = plan_of(generate.model, {"ink": 1.0})
    with pytest.raises(Cancelled):
        await asyncio.get_running_loop().run_in_executor(
            device_thread,
            lambda: sample(generate.model, planned, job, lambda _done, _total: job.cancel(Cancelled("stop"))),
        )
    assert torch.equal(generate(), plain)

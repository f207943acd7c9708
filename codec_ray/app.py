"""The Ray Serve application that runs one model.

`codec-diffusers serve --engine ray` deploys the application. A Serve config file can also deploy the application:

    applications:
    - name: scenes
      import_path: codec_ray.app:build
      route_prefix: null
      args: {model: embedded, threads: 2, replicas: 4}
"""

from typing import Any

import ray
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import LoggingConfig

from codec_ray.model_loader import LOADER
from codec_ray.replica import ModelReplica
from codec_wire.errors import InvalidSettings
from core.batch_settings import BatchSettings
from core.fast_settings import FastSettings
from core.lora_settings import LoraSettings
from core.settings import Settings, read_settings

DEPLOYMENT = "DiffusersModel"
"""Name of the Ray Serve deployment in every application.

By this name, the server recognizes the applications that run models.
"""
APPLICATION = "codec-diffusers"
"""Name of the application that `codec-diffusers serve` deploys."""

BATCHES_PER_REPLICA = 2
"""Number of batches of jobs that a replica accepts at once. If batches are off, BATCHES_PER_REPLICA is the number of
jobs that a replica accepts at once.

A replica runs one batch and queues one more batch. When the running batch ends, the replica can start the queued batch
immediately, without waiting for the server to send jobs. If a replica queued more jobs, jobs would wait for a busy
replica while another replica is idle.
"""
TARGET_ONGOING_REQUESTS = 2
"""Average number of running and waiting jobs per replica that the autoscaler aims at."""
UPSCALE_DELAY_S = 10.0
DOWNSCALE_DELAY_S = 300.0
"""Time in seconds after which idle replicas are stopped.

Because a model takes long to load, a short pause between requests must not stop replicas.
"""
LOOK_BACK_PERIOD_S = 20.0
HEALTH_CHECK_PERIOD_S = 2.0
"""Interval between health checks in seconds. A health check also detects a replica whose process has ended."""
MAX_LOAD_ATTEMPTS = 2

REPLICA_SETTINGS = (
    "model",
    "variant",
    "pipeline",
    "video_model",
    "loras",
    "partial_loras",
    "role",
    "models_dir",
    "allow_pickle",
    "latent_space",
    "latent_map_url",
    "latent_map_sha256",
    "latent_dicts_dir",
    "calibration_images",
    "device",
    "dtype",
    "threads",
    *FastSettings.model_fields,
    *BatchSettings.model_fields,
    *LoraSettings.model_fields,
    "public_url",
    "max_memory_mib",
    "request_timeout_s",
    "step_timeout_s",
    "require_pins",
    "image_digest",
    "log_level",
)
"""Names of the settings that are sent to the replicas. Replicas do not need the other settings, such as the API
keys."""


def build(arguments: dict[str, Any]) -> Application:
    """Return the Ray Serve application of a model.

    `arguments` is a dictionary of the values of settings by name, with names such as `model` and `max_replicas`. The
    settings in `arguments` take precedence over CODEC_* environment variables. Options of the deployment, such as the
    resources of a replica, can be set in the Serve config file under `deployments`. Raises InvalidSettings.
    """
    return application(read_settings(arguments))


def application(settings: Settings, loader: str = LOADER, **options: Any) -> Application:
    """Return the Ray Serve application of the model that `settings` select.

    `loader` names the class that loads the model, as MODULE:CLASS (see codec_ray.model_loader). `options` override the
    options of the deployment. Raises InvalidSettings.
    """
    gpus = 1 if _uses_gpu(settings) else 0
    threads = settings.threads or 1
    defaults: dict[str, Any] = {
        "name": DEPLOYMENT,
        "ray_actor_options": {"num_gpus": gpus, "num_cpus": 1 if gpus else threads},
        "max_ongoing_requests": BATCHES_PER_REPLICA * settings.batch_size,
        "graceful_shutdown_timeout_s": settings.drain_timeout_s,
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "max_constructor_retry_count": MAX_LOAD_ATTEMPTS,
        "logging_config": LoggingConfig(log_level="WARNING", enable_access_log=False),
        **_scale(settings),
    }
    values = {name: getattr(settings, name) for name in REPLICA_SETTINGS} | {"threads": threads}
    deployment = serve.deployment(**(defaults | options))(ModelReplica)
    return deployment.bind(values, loader)


def max_replicas(settings: Settings) -> int:
    """Return the largest number of replicas that `settings` allow."""
    return settings.max_replicas or settings.replicas or 1


def _scale(settings: Settings) -> dict[str, Any]:
    """Return the deployment options that determine the number of replicas. Raises InvalidSettings."""
    least, most = settings.min_replicas, settings.max_replicas
    if least is None and most is None:
        return {} if settings.replicas is None else {"num_replicas": settings.replicas}
    if settings.replicas is not None:
        raise InvalidSettings("CODEC_REPLICAS (--replicas) cannot be combined with --min-replicas or --max-replicas")
    least = least or 1
    if most is None or most < least:
        raise InvalidSettings(
            f"CODEC_MAX_REPLICAS (--max-replicas) must be at least {least} (the value of CODEC_MIN_REPLICAS, "
            f"--min-replicas), got {most}"
        )
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=least,
            max_replicas=most,
            target_ongoing_requests=TARGET_ONGOING_REQUESTS,
            upscale_delay_s=UPSCALE_DELAY_S,
            downscale_delay_s=DOWNSCALE_DELAY_S,
            look_back_period_s=LOOK_BACK_PERIOD_S,
        )
    }


def _uses_gpu(settings: Settings) -> bool:
    """Return whether a replica needs a GPU. For the device "auto", return whether the cluster has GPUs."""
    if settings.device == "auto":
        return ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1  # type: ignore[no-untyped-call]
    return settings.device.startswith("cuda")

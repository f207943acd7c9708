"""The request as the server understood it, and the process that runs it."""

from codec_pixels.parameters import Parameters, file_parameters, to_json
from core.plan import StreamPlan
from core.service import LatentService

_SENT_BY_THE_CLIENT = ("prompt", "negative_prompt", "image", "control_image", "latents")
"""Fields that a response does not repeat: they are used as they are, and may be larger than a header."""


def environment_of(service: LatentService, plan: StreamPlan) -> dict[str, str | None]:
    """Return the device and number of CPU threads, the library versions and the image digest of the process.

    A gateway returns those of its upstream server.
    """
    provenance = service.provenance
    versions = ", ".join(f"{name}={version}" for name, version in sorted(provenance.versions.items()))
    return {
        "device": service.models.for_plan(plan).device,
        "versions": versions or None,
        "image_digest": provenance.image_digest,
    }


def response_parameters(service: LatentService, plan: StreamPlan) -> str:
    """Return the parameters of the response for `plan` as one line of JSON in ASCII, without prompts and images."""
    served = service.models.for_plan(plan)
    request = {name: value for name, value in plan.file_parameters().items() if name not in _SENT_BY_THE_CLIENT}
    shape = (plan.num_frames, plan.height, plan.width)
    parameters: Parameters = file_parameters(
        plan.header, served.bundle.hash, shape, request, environment_of(service, plan)
    )
    if plan.header.pipeline_spec.delta:
        parameters["keyframe_interval"] = plan.keyframe_interval
    return to_json(parameters, ascii_only=True)

"""The service that HTTP and gRPC share. This package does not depend on HTTP or gRPC.

The modules `plan`, `model_selection` and `rendered_plan` check a request against a model and convert the request to a
StreamPlan. The class `LatentService` admits a StreamPlan with the module `admission`, and then runs the StreamPlan on
an `Engine`. An `Engine` yields the events of a latent stream. The module `served` is the registry of loaded models. The
module `lifecycle` contains the state of the server. The package `diffusers_engine` runs diffusers pipelines and is the
only part that imports torch.
"""

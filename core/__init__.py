"""The service that HTTP and gRPC share. This package does not depend on HTTP or gRPC.

The modules `plan`, `model_selection` and `rendered_plan` check a request against a model and convert the request to a
StreamPlan. The class `LatentService` admits the plan with the module `admission`, and runs the plan on an `Engine`. The
`Engine` yields the events of the stream. The module `served` is the registry of loaded models. The module `lifecycle`
contains the state of the server. The package `diffusers_engine` runs diffusers pipelines and is the only part that
imports torch.
"""

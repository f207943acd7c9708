"""The service that HTTP and gRPC share. This package does not depend on HTTP or gRPC.

The modules `plan`, `model_selection` and `rendered_plan` check a request against a model and convert it to a
StreamPlan. `LatentService` admits the plan (`admission`) and runs it on an `Engine`, which yields the events of the
stream. `served` is the registry of loaded models, and `lifecycle` contains the state of the server. `diffusers_engine`
runs diffusers pipelines and is the only part that imports torch.
"""

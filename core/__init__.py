"""The service that HTTP and gRPC share. This package depends on neither protocol.

A request is checked against a model and becomes a StreamPlan (`plan`, `model_selection`, `rendered_plan`).
`LatentService` admits the plan (`admission`) and runs it on an `Engine`, which yields the events of the stream.
`served` is the registry of loaded models, and `lifecycle` contains the state of the server. `diffusers_engine` runs
diffusers pipelines and is the only part that imports torch.
"""

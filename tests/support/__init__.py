"""Helpers that several test modules share. Test modules import from here and never from each other.

Servers and clients
    serving             HTTP and gRPC servers, and an HTTP gateway, on free ports in the test's event loop
    background          the same servers in a thread, for tests of commands that block
    processes           `codec-diffusers` as a subprocess
    noise_server        a server as a subprocess that starts without torch
    envoy               Envoy in front of servers
    browser             pages in Chromium
    page                the page that a server shows at /
    relay               a TCP relay whose connections a test can cut
    npm                 packages of the TypeScript folders
    video_jobs          an HTTP server with video jobs, and requests to it
    web_client          the TypeScript client, built, and programs that use it in Node.js
    static_files        an HTTP server with fixed responses
    clients             Python clients of these servers
    certificates        certificates of a new certificate authority
    upstream_servers    the servers behind a gateway, and requests to the gateway
    process_tree        the processes that a process has started
    unprivileged        permissions of files, also for tests that run as root

Engines and models
    fake_engine         an engine that waits for the test before each step
    noise_engine        an engine that yields seeded noise without a model
    noise_model         a model of this engine for replicas on Ray Serve
    fake_vae            a VAE that waits for the test before each frame
    batches             plans that fit into one batch, sampled alone and together
    held_sampler        a real pipeline stopped in its third step
    held_model          the same for a pipeline that may be in another process
    failing_model       a model that cannot be loaded
    tiny_sd, tiny_sdxl  small pipelines with random weights
    families            one such pipeline for each row of the family table
    factories           models loaded through the server's factory setting
    original_checkpoint a small pipeline as one file, with the keys of the first releases
    dtypes              the dtypes of the tensors of a pipeline
    reference_model     the embedded model and its map, for tests of the gate

Requests and results
    grpc_requests, http_requests, rendering   small requests, and readers of their responses
    grpc_web            frames of gRPC-Web
    raw_http            bytes that HTTP clients refuse to send, and the responses to them
    service_calls       complete jobs of a service without a protocol
    logged_errors       the errors that were logged
    commands            a command of the CLI run in this process
    ffmpeg              frames and metadata of video files
    parallel            distribution of the tests to several processes
    pod_security        the restricted Pod Security Standard of Kubernetes
    pipeline_pixels     one request for a tiny pipeline, called directly and through a client

Data
    strategies          Hypothesis strategies for latents, headers, frames and streams
    latent_streams      streams of random latents, as clients send them
    loras               LoRA files with random weights, and models that load them for requests
    sample_stream       a short valid stream without randomness
    dictionaries        latent-space maps with a zstd dictionary
    chart_values        values of the Helm chart
    chart_objects       the objects that the chart renders with them
    oracle              the published reference encoder
    arithmetic          encoding and decoding with NumPy or with compiled loops
"""

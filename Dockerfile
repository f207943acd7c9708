# The image of codec-diffusers. docs/image.md says how to build, pin and run it.
#
# No version stands here: core/pins.txt and constraints.txt have them all. Give the base by digest for an image that
# others measure against.
ARG BASE_IMAGE=debian:bookworm-slim

# What every target runs on: Python, and the CA certificates that downloads from a model hub are checked with.
FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# The environment without the project, so that a change of code neither installs nor ships torch again.
# pip has an environment of its own: none of it reaches the image. The secret is optional: a pip.conf for an index
# that needs credentials (docker build --secret id=pip.conf,src=...).
FROM base AS dependencies
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/codec
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY core/pins.txt core/
COPY requirements requirements
# Without its packages the project is a list of what it needs, and goes once that is there.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip="/opt/pip/bin/pip --python /opt/codec/bin/python" \
    && $pip install --quiet --constraint constraints.txt '.[server]' \
    && $pip check \
    && $pip uninstall --quiet --yes codec-diffusers

# What judging pictures needs beyond that, in a folder of its own: the golden image is the server's and these.
# LPIPS' heads come without what that package asks for, which is torchvision.
FROM dependencies AS golden-dependencies
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip="/opt/pip/bin/pip --python /opt/codec/bin/python install --quiet --root /golden" \
    && $pip --constraint constraints.txt --requirement requirements/golden.txt \
    && $pip --no-deps --requirement requirements/lpips.txt

FROM dependencies AS builder
COPY . .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/pip/bin/pip --python /opt/codec/bin/python install --quiet --no-deps --root /project .

# What both targets share, down to the last library.
FROM base AS common
# The uid is fixed, so that the owner of a bind-mounted /models can be told beforehand.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin codec \
    && install --directory --owner codec --group codec /models
COPY --from=dependencies /opt/codec /opt/codec
# A base may set no PATH of its own, so all of it stands here. Downloads go below /models, and so into the volume.
ENV PATH=/opt/codec/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HF_HOME=/models/huggingface \
    CODEC_MODELS_DIR=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/codec
VOLUME /models

ARG BASE_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# Makes reference pictures and judges decoders against them. docs/conformance.md says how.
FROM common AS golden
COPY --from=golden-dependencies /golden/opt/codec /opt/codec
COPY --from=builder /project/opt/codec /opt/codec
RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]
ENV CODEC_REQUIRE_PINS=1
USER 10001:10001
LABEL org.opencontainers.image.title="codec-diffusers golden" \
      org.opencontainers.image.description="Makes reference pictures and judges latent decoders against them"
ENTRYPOINT ["codec-diffusers", "golden"]
CMD ["--help"]

# The last target is what is built by default.
FROM common AS server
COPY --from=builder /project/opt/codec /opt/codec
RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]
ENV CODEC_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080 50051
LABEL org.opencontainers.image.title="codec-diffusers" \
      org.opencontainers.image.description="Runs diffusers pipelines and streams latents over gRPC and HTTP"

# The start period covers the first download of a large model; the first answer of 200 ends it.
HEALTHCHECK --interval=15s --timeout=5s --retries=3 --start-period=60m \
    CMD ["python", "-I", "-c", "\
import http.client, os, sys; \
host = os.environ.get('CODEC_HOST') or os.environ.get('CODEC_BACKEND_HOST') or '127.0.0.1'; \
ports = [os.environ.get(name, '') for name in ('CODEC_PORT', 'CODEC_BACKEND_PORT')]; \
port = int(next(filter(str.isdecimal, ports), 8080)); \
server = http.client.HTTPConnection(host, port, timeout=4); \
server.request('GET', '/readyz'); \
sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["codec-diffusers"]
CMD ["serve"]

# Container images of codec-diffusers. docs/image.md describes how to build, pin and run them.
#
# All versions are in pyproject.toml and constraints.txt. For a reference image, set BASE_IMAGE to a name with a digest.
ARG BASE_IMAGE=debian:bookworm-slim

# Base of every target: Python, and the CA certificates for downloads from a model hub.
FROM ${BASE_IMAGE} AS base
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# The virtual environment without the project: a change of the code does not rebuild this large layer.
# pip is installed in a separate environment, which is not copied to the image. The optional secret is a pip.conf for an
# index that needs credentials (docker build --secret id=pip.conf,src=...).
FROM base AS dependencies
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/codec
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
# Only pyproject.toml is here yet, so this installs the dependencies; the empty project is uninstalled again.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip="/opt/pip/bin/pip --python /opt/codec/bin/python" \
    && /opt/pip/bin/pip install --quiet --upgrade 'pip>=25.1' \
    && $pip install --quiet --constraint constraints.txt '.[server,weighting]' \
    && $pip check \
    && $pip uninstall --quiet --yes codec-diffusers

# Additional packages of the golden image, in a separate directory. lpips is installed without its dependencies, because
# only weights are read from it.
FROM dependencies AS golden-dependencies
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip="/opt/pip/bin/pip --python /opt/codec/bin/python install --quiet --root /golden" \
    && $pip --constraint constraints.txt '.[golden]' \
    && $pip --no-deps --group lpips

# The decoders with which the page at / decodes in the browser. The optional secret is a .npmrc for another registry.
FROM base AS page
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends nodejs npm
WORKDIR /source/web/page
COPY web/page/package.json ./
RUN --mount=type=secret,id=npmrc \
    NPM_CONFIG_USERCONFIG=/run/secrets/npmrc npm install --silent --no-audit --no-fund --no-package-lock
COPY web /source/web
RUN mkdir --parents /source/codec_http/page && npm run build

FROM dependencies AS builder
COPY . .
COPY --from=page /source/codec_http/page/decoder-*.js /source/codec_http/page/ort-*.wasm codec_http/page/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/pip/bin/pip --python /opt/codec/bin/python install --quiet --no-deps --root /project .

# Everything that both targets share: the same libraries in the same versions.
FROM base AS common
# The uid is fixed, so that the owner of a bind-mounted /models can be set in advance.
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin codec \
    && install --directory --owner codec --group codec /models
COPY --from=dependencies /opt/codec /opt/codec
# The base image may not set PATH, so the complete value is here. Models are downloaded to the volume /models.
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

# Generates reference images and compares decoders with them; see docs/conformance.md.
FROM common AS golden
COPY --from=golden-dependencies /golden/opt/codec /opt/codec
COPY --from=builder /project/opt/codec /opt/codec
RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]
ENV CODEC_REQUIRE_PINS=1
USER 10001:10001
LABEL org.opencontainers.image.title="codec-diffusers golden" \
      org.opencontainers.image.description="Generates reference images and compares latent decoders with them"
ENTRYPOINT ["codec-diffusers", "golden"]
CMD ["--help"]

# The last target is built by default.
FROM common AS server
COPY --from=builder /project/opt/codec /opt/codec
RUN ["python", "-m", "core.pins", "/opt/codec/pins.json"]
ENV CODEC_HOST=0.0.0.0
USER 10001:10001
EXPOSE 8080 50051
LABEL org.opencontainers.image.title="codec-diffusers" \
      org.opencontainers.image.description="Runs diffusers pipelines and streams latents over gRPC and HTTP"

# The start period covers the first download of a large model; it ends with the first response of status 200.
HEALTHCHECK --interval=15s --timeout=5s --retries=3 --start-period=60m \
    CMD ["python", "-I", "-c", "\
import http.client, os, ssl, sys; \
host = os.environ.get('CODEC_HOST') or os.environ.get('CODEC_BACKEND_HOST') or '127.0.0.1'; \
ports = [os.environ.get(name, '') for name in ('CODEC_PORT', 'CODEC_BACKEND_PORT')]; \
port = int(next(filter(str.isdecimal, ports), 8080)); \
tls = ssl._create_unverified_context() if os.environ.get('CODEC_TLS_CERT') else None; \
server = http.client.HTTPSConnection(host, port, timeout=4, context=tls) if tls else \
http.client.HTTPConnection(host, port, timeout=4); \
server.request('GET', '/readyz'); \
sys.exit(server.getresponse().status != 200)"]
ENTRYPOINT ["codec-diffusers"]
CMD ["serve"]

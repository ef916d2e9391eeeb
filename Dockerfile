# RAMDA with a GPU-enabled PyTorch; docs/container.md tells how to build and run it.
# PyTorch's wheels carry their own CUDA libraries, so the smallest CUDA runtime base is enough.
ARG BASE_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04
FROM ${BASE_IMAGE}

ARG DEBIAN_FRONTEND=noninteractive
# The compiler and Python's headers are for what is compiled where it runs: the optimizer's CPU
# kernels, and the launchers of Triton's.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates g++ libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb

# Some base images ship a user with the id 1000. The caches are open to every user, because a run
# that writes to a mounted directory wants `--user "$(id -u):$(id -g)"`.
RUN if occupant="$(getent passwd 1000)"; then userdel --remove "${occupant%%:*}"; fi \
    && useradd --uid 1000 --create-home ramda \
    && install --directory --owner ramda --group ramda /work \
    && install --directory --owner ramda --group ramda --mode 1777 \
        /cache /cache/huggingface /cache/inductor /cache/matplotlib /cache/torch /cache/triton
ENV PATH=/opt/ramda/bin:${PATH} \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/cache/matplotlib \
    TORCH_HOME=/cache/torch \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton \
    XDG_CACHE_HOME=/cache

# Both secrets are optional: pip's configuration for a private index, and its certificate bundle.
ARG PIP_CONFIG_FILE=/run/secrets/pip_config
ARG PIP_NO_CACHE_DIR=1
ARG PIP_PROGRESS_BAR=off

# The dependencies, each of one version and with its hashes, come before the sources: an edit to the
# code does not fetch PyTorch again.
RUN --mount=type=bind,source=requirements.lock,target=/run/requirements.lock \
    --mount=type=secret,id=pip_config --mount=type=secret,id=pip_certificates \
    python3 -m venv /opt/ramda \
    && pip install --no-deps --require-hashes --requirement /run/requirements.lock \
    && pip check

COPY configs /opt/ramda/configs
RUN --mount=type=bind,target=/run/source \
    --mount=type=secret,id=pip_config --mount=type=secret,id=pip_certificates \
    pip install --no-deps /run/source

ARG REVISION=unknown
LABEL org.opencontainers.image.title="ramda" \
      org.opencontainers.image.description="Fine-tune a model until whole channels are exactly zero, remove them, and prove that nothing changed." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

USER ramda
WORKDIR /work
VOLUME ["/cache"]
ENTRYPOINT ["ramda"]
CMD ["--help"]

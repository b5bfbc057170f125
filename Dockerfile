# docker build -t dreamer .                         trains and renders on an NVIDIA GPU; without --gpus on the CPU
# docker build -t dreamer --target cpu .            without NVIDIA's libraries, half of the size
# docker run --gpus all -v "$PWD/runs:/app/runs" dreamer --configs dmc --task walker_walk
#
# The host needs NVIDIA's driver and container runtime, no CUDA: the libraries come as wheels. Runs belong to the user
# 1000, or to whom --user "$(id -u):$(id -g)" names. --build-arg COMMIT="$(git rev-parse HEAD)" labels the image.
#
# DeepMind Lab (compiled in a container that dmlab-gym starts; the host has Python 3.13, Docker or Podman, git, and
# libOSMesa.so.8, which is Debian's libosmesa6):
#     python3.13 -m pip install dmlab-gym && dmlab-gym build --no-install -o lab
#     docker build --target dmlab --build-arg PYTHON=3.13 -t dreamer-dmlab .
# This target has not been built by us yet; of the others `make image` builds and tries `cpu`.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS base

# EGL for rendering: the vendor-neutral part, which finds NVIDIA's driver under --gpus, and Mesa without. PyOpenGL loads
# libopengl0 beside libegl1, which does not depend on it. tini, as process 1, hands signals on from the first moment:
# Python as process 1 would not die of SIGTERM before it has a handler.
# hadolint ignore=DL3008 -- a release of Debian changes its versions for security alone
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libegl1 libopengl0 libgl1-mesa-dri libosmesa6 tini \
    && rm -rf /var/lib/apt/lists/*

# Any user may write the home and the runs, since --user may name one that the image does not know.
RUN useradd --uid 1000 --create-home dreamer \
    && mkdir -p /app/runs /dreamer \
    && chmod 1777 /home/dreamer /app /app/runs
ENV HOME=/home/dreamer USER=dreamer LOGNAME=dreamer PYTHONUNBUFFERED=1

# The command, and where its module is. The code itself comes last, so that an edit of it installs nothing again.
RUN echo /dreamer >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dreamer.pth" \
    && printf '#!/bin/sh\nexec python -m dreamer "$@"\n' >/usr/local/bin/dreamer \
    && chmod +x /usr/local/bin/dreamer

WORKDIR /app
VOLUME /app/runs
ENTRYPOINT ["tini", "--", "dreamer"]

FROM base AS packages
COPY requirements.txt /dreamer/
RUN pip install --no-cache-dir -r /dreamer/requirements.txt

FROM packages AS cuda
# The same TensorFlow: its version is that of requirements.txt.
RUN pip install --no-cache-dir -c /dreamer/requirements.txt "tensorflow[and-cuda]"

# The runtime mounts only what is asked for; `graphics` is EGL. It mounts libEGL_nvidia.so.0 too, and some versions leave
# out the file that announces it to libegl1.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
RUN mkdir -p /usr/share/glvnd/egl_vendor.d \
    && echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}' \
        > /usr/share/glvnd/egl_vendor.d/10_nvidia.json

# What a run needs of the repository.
FROM scratch AS code
COPY requirements.txt LICENSE /dreamer/
COPY configs /dreamer/configs
COPY runs/published /dreamer/runs/published
COPY dreamer /dreamer/dreamer

FROM packages AS cpu
COPY --from=code /dreamer /dreamer
USER 1000
ARG COMMIT=
LABEL org.opencontainers.image.revision=$COMMIT org.opencontainers.image.licenses=MIT

# The wheel holds a native module for Python 3.13. Its engine is loaded where a level starts, and needs SDL and OSMesa
# then; levels that compile their map call `zip`. So the check begins an episode of such a level: an import needs neither.
FROM cuda AS dmlab
# hadolint ignore=DL3008 -- as above
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libsdl2-2.0-0 zip \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,source=lab,target=/tmp/lab \
    pip install --no-cache-dir /tmp/lab/*.whl \
    && python -c 'import deepmind_lab; \
level = deepmind_lab.Lab("contributed/dmlab30/explore_object_locations_small", ["RGB_INTERLEAVED"]); \
level.reset(seed=0); assert level.observations()["RGB_INTERLEAVED"].any()'
COPY --from=code /dreamer /dreamer
USER 1000
ARG COMMIT=
LABEL org.opencontainers.image.revision=$COMMIT org.opencontainers.image.licenses=MIT

# The last target is the one that `docker build` takes by itself.
FROM cuda AS dreamer
COPY --from=code /dreamer /dreamer
USER 1000
ARG COMMIT=
LABEL org.opencontainers.image.revision=$COMMIT org.opencontainers.image.licenses=MIT

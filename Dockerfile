# docker build -t dreamer .
# docker run --rm --gpus all -v "$PWD/runs:/app/runs" dreamer --configs dmc --task walker_walk
#
# Without --gpus it trains and renders on the CPU. The host needs NVIDIA's driver and container runtime, no CUDA: the
# libraries come as wheels.
#
# DeepMind Lab (compiled in a container that dmlab-gym starts; Python 3.13 and Docker on the host):
#     python3.13 -m pip install dmlab-gym && dmlab-gym build --no-install -o lab
#     docker build --target dmlab --build-arg PYTHON=3.13 -t dreamer-dmlab .
# This target has not been built by us yet.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS base

# EGL for rendering: the vendor-neutral part, which finds NVIDIA's driver under --gpus, and Mesa without. PyOpenGL loads
# libopengl0 beside libegl1, which does not depend on it.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libegl1 libopengl0 libgl1-mesa-dri libosmesa6 \
    && rm -rf /var/lib/apt/lists/*

# The runtime mounts only what is asked for; `graphics` is EGL.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics \
    PYTHONUNBUFFERED=1

# The runtime mounts libEGL_nvidia.so.0 too, and some versions leave out the file that announces it to libegl1.
RUN mkdir -p /usr/share/glvnd/egl_vendor.d \
    && echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}' \
        > /usr/share/glvnd/egl_vendor.d/10_nvidia.json

# Requirements before the code, so that an edit of the code does not install them again.
COPY requirements.txt /dreamer/
RUN pip install --no-cache-dir -r /dreamer/requirements.txt "tensorflow[and-cuda]==2.21.0"

COPY . /dreamer
RUN pip install --no-cache-dir --no-deps --editable /dreamer

WORKDIR /app
VOLUME /app/runs
ENTRYPOINT ["dreamer"]

# The wheel holds a native module for Python 3.13. The module renders with OSMesa, and levels that build their map call
# `zip`.
FROM base AS dmlab
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends zip \
    && rm -rf /var/lib/apt/lists/*
COPY lab/*.whl /tmp/lab/
RUN pip install --no-cache-dir /tmp/lab/*.whl && python -c "import deepmind_lab"

# The last target is the one that `docker build` takes by itself.
FROM base AS dreamer

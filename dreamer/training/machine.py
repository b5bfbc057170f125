"""On what a run was made: one line of machines.jsonl for every start of it."""

import contextlib
import os
import platform
import re
from pathlib import Path

import keras
import tensorflow as tf

from dreamer import __version__
from dreamer.run import layout
from dreamer.training.logger import Lines


def record(logdir: Path, frames: int) -> None:
    """Append what the run goes on with from `frames`: processor, cores, GPUs, precision of arithmetic, versions."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    with contextlib.closing(Lines(Path(logdir) / layout.MACHINES)) as lines:
        lines.write(
            frames,
            {
                "cpu": processor(),
                "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                "gpus": [detail.get("device_name", "GPU") for detail in details],
                "precision": keras.config.dtype_policy().compute_dtype,
                "dreamer": __version__,
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
            },
        )


def processor(cpuinfo: str | Path = "/proc/cpuinfo") -> str:
    """Name of the first processor; its architecture where the system does not tell."""
    path = Path(cpuinfo)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.*\S)", text, flags=re.MULTILINE)
    return match[1] if match else platform.machine()

"""On what a run was made: one line of machines.jsonl for every start of it."""

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from dreamer import DISTRIBUTION, __version__
from dreamer.run import layout
from dreamer.training.logger import Lines

CHECKOUT = Path(__file__).resolve().parents[2]


def record(logdir: Path, frames: int, more: Mapping[str, Any] | None = None) -> None:
    """Append what the run goes on with from `frames`: `facts`, the commit of the software, and `more`."""
    commit, clean = software()
    with contextlib.closing(Lines(Path(logdir) / layout.MACHINES)) as lines:
        lines.write(frames, facts() | {"commit": commit, "clean": clean} | dict(more or {}))


def facts() -> dict[str, Any]:
    """Processor, cores, GPUs, precision of arithmetic and versions, of this process."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [detail.get("device_name", "GPU") for detail in details],
        "precision": keras.config.dtype_policy().compute_dtype,
        "dreamer": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
    }


def software(checkout: str | Path = CHECKOUT) -> tuple[str, bool | None]:
    """The commit of the software, and whether the checkout is just that: nothing changed, nothing added.

    Without git, or where it was installed from elsewhere: the version that was installed, and None.
    """
    # Only the checkout's own repository: a package that is installed below another one is none of its files.
    if (Path(checkout) / ".git").exists():
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            return _git(checkout, "rev-parse", "HEAD"), not _git(checkout, "status", "--porcelain")
    try:
        return metadata.version(DISTRIBUTION), None
    except metadata.PackageNotFoundError:
        return __version__, None


def _git(checkout: str | Path, *words: str) -> str:
    # git sets GIT_DIR and the like for its hooks, and they would win over the directory; status would take a lock.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(checkout), *words]
    return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout.strip()


def processor(cpuinfo: str | Path = "/proc/cpuinfo") -> str:
    """Name of the first processor; its architecture where the system does not tell."""
    path = Path(cpuinfo)
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.search(r"^model name\s*:\s*(.*\S)", text, flags=re.MULTILINE)
    return match[1] if match else platform.machine()

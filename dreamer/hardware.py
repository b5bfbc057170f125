"""What the machine computes natively, the precision that follows from it, and a GPU that is left unused."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16")
# Where a CPU has one of these, TensorFlow computes with oneDNN unless told not to; elsewhere only if told to.
ONEDNN_BY_DEFAULT = ("amx_tile", "amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni")
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
KERAS_POLICY = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def cpu_flags(cpuinfo: str | Path = "/proc/cpuinfo") -> frozenset[str]:
    """Instruction sets of the first processor; empty where the system does not tell."""
    path = Path(cpuinfo)
    if not path.is_file():
        return frozenset()
    match = re.search(r"^flags\s*:(.*)$", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def gpu_capabilities() -> list[tuple[int, int]]:
    """Compute capability of every GPU that TensorFlow sees; (0, 0) where a device does not tell. Imports TensorFlow."""
    import tensorflow as tf

    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return [tuple(detail.get("compute_capability", (0, 0))) for detail in details]


def nvidia_gpus(driver: str | Path = "/proc/driver/nvidia/gpus") -> int:
    """How many NVIDIA GPUs with their driver there are, whatever TensorFlow sees; imports nothing.

    driver: the directory in which the driver lists its GPUs; where it does not (as under Windows), nvidia-smi is asked.
    """
    if Path(driver).is_dir() and (listed := len(list(Path(driver).iterdir()))):
        return listed
    if not shutil.which("nvidia-smi"):
        return 0
    try:
        told = subprocess.run(["nvidia-smi", "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith(b"GPU ") for line in told.stdout.splitlines()) if told.returncode == 0 else 0


def nvidia_gpu(driver: str | Path = "/proc/driver/nvidia/gpus") -> bool:
    """Whether there is one, see nvidia_gpus."""
    return nvidia_gpus(driver) > 0


def unseen_gpu(tensorflow: str, driver: str | Path = "/proc/driver/nvidia/gpus") -> str | None:
    """Where TensorFlow sees no GPU: one line if there is an NVIDIA GPU all the same, with what to do; else None.

    tensorflow: its version.
    """
    if not nvidia_gpu(driver):
        return None
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return f'CUDA_VISIBLE_DEVICES is "{visible}", which hides the NVIDIA GPU: unset it to train there'
    install = f'pip install "tensorflow[and-cuda]=={tensorflow}", and start a container with --gpus all'
    if visible is None:
        return f"TensorFlow does not see the NVIDIA GPU: {install}"
    return (
        f'TensorFlow does not see the NVIDIA GPU, and CUDA_VISIBLE_DEVICES is "{visible[:40]}": GPUs count from 0; '
        f"unset it, or if it is right, {install}"
    )


def use_onednn() -> None:
    """Have TensorFlow compute with oneDNN on every x86 processor, unless the user says otherwise.

    TensorFlow reads that once, as it is imported: where it already is, this does nothing, and `slow_cpu` tells.
    """
    if "tensorflow" not in sys.modules and platform.machine().lower() in ("x86_64", "amd64") and _onednn() is None:
        os.environ[ONEDNN] = "1"


def _onednn() -> bool | None:
    """What the user says of it; None where that is nothing, or nothing that TensorFlow reads, such as an empty text."""
    return {"0": False, "false": False, "1": True, "true": True}.get(os.environ.get(ONEDNN, "").lower())


def slow_cpu() -> str | None:
    """One line where TensorFlow was kept from the fast kernels of a CPU, see `use_onednn`; else None."""
    given = _onednn()
    if given is None:
        flags = cpu_flags()
        if "avx2" not in flags or flags.intersection(ONEDNN_BY_DEFAULT):
            return None
        return (
            f"TensorFlow was imported before dreamer set {ONEDNN} to 1, without which this CPU takes nearly twice as "
            "long: set it before"
        )
    if given:
        return None
    return f'{ONEDNN} is "{os.environ[ONEDNN]}", without which a CPU computes up to several times faster: unset it'


def resolve_precision(
    name: str, cpu_flags: Collection[str], gpu_capabilities: Sequence[tuple[int, int]]
) -> tuple[str, str]:
    """Turn a name of the key `precision` into (float32, bfloat16 or float16, the reason in words).

    Training runs on the first GPU if there is one, so that its capability (major, minor) decides, else on the CPU.
    bfloat16 needs capability 8.0 on a GPU, AVX-512 BF16 or AMX on a CPU.
    """
    if gpu_capabilities:
        capability = tuple(gpu_capabilities[0])
        device, native = f"GPU of compute capability {'.'.join(map(str, capability))}", capability >= (8, 0)
    else:
        found = [flag for flag in NATIVE_BFLOAT16 if flag in cpu_flags]
        device, native = f"CPU with {found[0]}" if found else "CPU without amx_bf16 or avx512_bf16", bool(found)
    if name == "auto":
        if native:
            return "bfloat16", f"{device} computes bfloat16 natively"
        return "float32", f"{device} does not compute bfloat16 natively"
    if name == "float16" and not gpu_capabilities:
        return name, "as asked for, but float16 on a CPU is hundreds of times slower than float32"
    if name == "bfloat16" and not native:
        return name, f"as asked for, but {device} only emulates it"
    return name, "as asked for"

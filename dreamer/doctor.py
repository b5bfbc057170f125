"""What this machine offers for training, what is missing, and what to do about it.

Every check stands alone: one that fails, however badly, never hides the others. So nothing is imported before the
check that needs it, and TensorFlow and rendering run in processes of their own, which may crash.
"""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import DISTRIBUTION, config, hardware

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
PYTHONS = ((3, 10), (3, 13))
# A training step at the paper's sizes, TensorFlow and two environments.
MEMORY = 6e9
# Videos, logs and checkpoints, beside the episodes.
SPARE_DISK = 1e9
INSTALL = f"run `make setup` in a checkout, or pip install {DISTRIBUTION}"

_TENSORFLOW = """
import json
import tensorflow as tf
import keras
import tensorflow_probability as tfp
from dreamer import hardware
assert float(tf.reduce_sum(tf.ones([2, 2]) @ tf.ones([2, 2]))) == 8.0
devices = [[device.device_type, tf.config.experimental.get_device_details(device).get("device_name", "")]
           for device in tf.config.list_physical_devices()]
print(json.dumps({"tensorflow": tf.__version__, "keras": keras.__version__, "devices": devices,
                  "gpu_capabilities": hardware.gpu_capabilities()}), flush=True)
"""


# In a process of its own too. The last line is what it found.
_SPEED = """
import json
from dreamer import config
from dreamer.cli import tensorflow
tensorflow.set_up("auto")
from dreamer.agents import speed
print(json.dumps(speed.measure(config.load()).update), flush=True)
"""
# Variables by which rendering is in software, or by another platform than EGL, where there is a GPU.
_TOWARDS_SOFTWARE = ("MUJOCO_GL", "LIBGL_ALWAYS_SOFTWARE", "__EGL_VENDOR_LIBRARY_FILENAMES")
# Five million frames in about 16 hours on one V100 with 10 CPU cores: the authors' TF2 release, mixed precision.
PUBLISHED_FRAMES = 90  # a second


class Check(NamedTuple):
    """One finding. status: ok, warn (training works all the same) or fail; fix: what to do, empty if ok."""

    name: str
    status: str
    value: str
    fix: str = ""


def examine() -> list[Check]:
    """Run all checks, which takes some twenty seconds."""
    from dreamer import envs

    tensorflow = _tensorflow_facts()
    checks: dict[str, Callable[[], list[Check]]] = {
        "python": check_python,
        "cores": check_cores,
        "memory": check_memory,
        "disk": check_disk,
        "tensorflow": lambda: check_tensorflow(tensorflow),
        "precision": lambda: check_precision(tensorflow.get("gpu_capabilities", [])),
        "speed": lambda: check_speed(tensorflow),
        "rendering": check_rendering,
        "suite dmc": check_dmc,
    }
    others = [name for name, suite in envs.SUITES.items() if suite.modules and name != "dmc"]
    checks |= {f"suite {name}": functools.partial(check_suite, name) for name in others}
    checks["packages"] = check_packages
    return [found for name, check in checks.items() for found in guarded(name, check)]


def can_train(checks: list[Check]) -> bool:
    """Whether nothing that training needs has failed."""
    return all(check.status != "fail" for check in checks)


def to_text(checks: list[Check]) -> str:
    """One line for every check, one more with what to do for every problem."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.status:<4}  {check.name:<{width}}  {check.value}")
        if check.fix:
            lines.append(f"{'':<4}  {'':<{width}}  -> {check.fix}")
    return "\n".join([*lines, "", "Training works here." if can_train(checks) else "Training does not work here yet."])


def to_json(checks: list[Check]) -> str:
    """The checks for machines."""
    return json.dumps({"can_train": can_train(checks), "checks": [check._asdict() for check in checks]}, indent=2)


def guarded(name: str, check: Callable[[], list[Check]]) -> list[Check]:
    """The findings of a check, or one failure that tells its error."""
    try:
        return check()
    except Exception as error:
        return [Check(name, "fail", f"{type(error).__name__}: {_one_line(error)}", f"this check broke off; {INSTALL}")]


def check_python() -> list[Check]:
    """TensorFlow is built for a few versions of Python only."""
    value = f"{'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})"
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return [Check("python", "ok", value)]
    return [
        Check("python", "fail", value, "TensorFlow needs Python 3.10 to 3.13: make setup PYTHON=/path/to/python3.11")
    ]


def check_cores() -> list[Check]:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [Check("cores", "ok", str(cores))]


def check_memory() -> list[Check]:
    """Physical memory, or the limit of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()))
    if total >= MEMORY:
        return [Check("memory", "ok", _gigabytes(total))]
    fix = f"the paper's sizes take about {_gigabytes(MEMORY)}: train with a smaller --replay.batch"
    return [Check("memory", "warn", _gigabytes(total), fix)]


def check_disk() -> list[Check]:
    """Free space where runs/ goes, against the episodes of a run with the default settings."""
    defaults = config.load()
    episodes = defaults.steps / defaults.env.action_repeat * 64 * 64 * 3
    free = shutil.disk_usage(".").free
    value = f"{_gigabytes(free)} free in {Path.cwd()}"
    if free < SPARE_DISK:
        return [Check("disk", "fail", value, "free some space, or train with --logdir on another disk")]
    if free < episodes + SPARE_DISK:
        fix = (
            f"{defaults.steps:,} frames take {_gigabytes(episodes)}: limit --replay.capacity, or --replay.compress true"
        )
        return [Check("disk", "warn", value, fix)]
    return [Check("disk", "ok", value)]


def check_tensorflow(facts: dict) -> list[Check]:
    """TensorFlow and what it computes on; facts as its own process told them."""
    if "error" in facts:
        return [Check("tensorflow", "fail", facts["error"], INSTALL)]
    checks = [Check("tensorflow", "ok", f"{facts['tensorflow']} with keras {facts['keras']}")]
    devices = [f"{kind} {name}".strip() for kind, name in facts["devices"]]
    seen = any(kind == "GPU" for kind, _ in facts["devices"])
    fix = None if seen else hardware.unseen_gpu(facts["tensorflow"])
    return [*checks, Check("devices", "warn" if fix else "ok", ", ".join(devices), fix or "")]


def check_precision(gpu_capabilities: list) -> list[Check]:
    """The precision that `precision: auto` stands for here."""
    precision, reason = hardware.resolve_precision("auto", hardware.cpu_flags(), gpu_capabilities)
    return [Check("precision", "ok", f"{precision}: {reason}")]


def check_speed(facts: dict) -> list[Check]:
    """What an update at the paper's sizes should take here, from a second of its main products."""
    if "error" in facts:
        return []  # said already
    found = _in_a_process(_SPEED)
    if not isinstance(found, int | float):
        return [Check("speed", "warn", f"not measured: {found['error']}")]
    loop = config.load().loop
    needed = 1e6 * loop.train_updates / loop.train_every * found / 3600
    published = 1e6 / PUBLISHED_FRAMES / 3600
    hours = f"{needed:,.0f}" if needed >= 10 else f"{needed:.1f}"
    value = (
        f"about {found:.2g} s an update at full size, so {hours} hours of updates for a million frames; published: "
        f"{published:.2g} hours in all with one V100"
    )
    return [Check("speed", "ok", value)]


def check_rendering() -> list[Check]:
    """The OpenGL platform that renders images."""
    from dreamer.envs import core, rendering

    try:
        found = rendering.choose()
    except (core.EnvError, ValueError) as error:
        fix = f"apt-get install {rendering.PACKAGES['egl']} {rendering.PACKAGES['osmesa']}"
        fix = "unset MUJOCO_GL" if os.environ.get("MUJOCO_GL") else fix
        return [Check("rendering", "fail", _one_line(error), fix)]
    value = f"{found.backend}, {'software' if found.software else 'GPU'}: {found.gl_renderer}"
    if not found.software or not hardware.nvidia_gpu():
        return [Check("rendering", "ok", value)]
    given = [name for name in _TOWARDS_SOFTWARE if os.environ.get(name)]
    fix = f"unset {' and '.join(given)}" if given else "EGL does not find its driver: docs/troubleshooting.md"
    return [Check("rendering", "warn", f"{value}, beside an NVIDIA GPU", f"to render on the GPU: {fix}")]


def check_dmc(seconds: float = 1.5) -> list[Check]:
    """Load DM Control in a worker, as training does, and count the frames that it renders in some seconds."""
    import numpy as np

    from dreamer import envs

    try:
        env = envs.make("dmc", "cartpole_balance")
    except (envs.EnvError, ValueError) as error:
        return [Check("suite dmc", "fail", _one_line(error), f"if rendering above is ok, {INSTALL}")]
    try:
        env.reset(seed=0)
        action = np.zeros(env.action_space.size, np.float32)
        frames, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            if env.step(action)["is_last"]:
                env.reset()
            frames += 1
        rate = frames / (time.perf_counter() - start)
    finally:
        env.close()
    return [
        Check(
            "suite dmc", "ok", f"{len(envs.tasks()['dmc'])} tasks of the paper, {len(envs.other_tasks()['dmc'])} others"
        ),
        Check("frame rate", "ok", f"{rate:.0f} images a second (cartpole_balance, in a worker)"),
    ]


def check_suite(name: str) -> list[Check]:
    """Whether a suite's packages are there, and one of its environments starts and begins an episode."""
    from dreamer import envs

    if problem := envs.missing(name):
        what, _, how = problem.partition(": ")
        return [Check(f"suite {name}", "warn", what, how)]
    suite = envs.SUITES[name]
    if suite.probe:
        try:
            with contextlib.closing(envs.make(name, suite.probe)) as env:
                env.reset(seed=0)
        except envs.EnvError as error:
            return [Check(f"suite {name}", "fail", _one_line(error), suite.remedy or suite.install)]
    number = f"{len(suite.tasks)} task{'s' if len(suite.tasks) > 1 else ''}"
    return [Check(f"suite {name}", "ok", ", ".join(filter(None, [number, suite.also and f"and {suite.also}"])))]


def check_packages(requirements: Path = REQUIREMENTS) -> list[Check]:
    """Every package that this Python needs, required against installed.

    A checkout has requirements.txt, and says which versions all was tried with; a wheel says which should do.
    """
    from packaging.requirements import Requirement

    if requirements.is_file():
        lines = [line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    else:
        lines = metadata.requires(DISTRIBUTION) or []
    checks = []
    for required in (Requirement(line) for line in lines if line):
        if required.marker and not required.marker.evaluate():
            continue
        name = f"package {required.name}"
        try:
            installed = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            checks.append(Check(name, "fail", f"not installed, {required.specifier} required", INSTALL))
            continue
        if installed in required.specifier:
            checks.append(Check(name, "ok", installed))
        else:
            checks.append(Check(name, "warn", f"{installed} installed, {required.specifier} required", INSTALL))
    return checks


def _tensorflow_facts() -> dict:
    return _in_a_process(_TENSORFLOW)


def _in_a_process(program: str, timeout: float = 300.0) -> Any:
    """What a program that loads TensorFlow prints as JSON on its last line; {"error": reason} where it does not."""
    variables = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true", "KERAS_BACKEND": "tensorflow"}
    try:
        probe = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not loaded within {timeout:g} seconds"}
    if probe.returncode:
        last = (probe.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"does not load, exit code {probe.returncode}: {last}"}
    return json.loads(probe.stdout.splitlines()[-1])


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

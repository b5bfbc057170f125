"""What commands and the library have in common before they can work: a run's settings, its directory, TensorFlow.

Nothing here imports TensorFlow before `load_tensorflow`.
"""

import contextlib
import errno
import functools
import gc
import importlib.util
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from dreamer import DISTRIBUTION, agents, config, envs, hardware
from dreamer.config import ConfigError
from dreamer.envs.rendering import named_platform
from dreamer.run import formats, layout, lock, settings

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}  # of logger.also
_IMPORTING = threading.Lock()  # by one thread: what it does with the standard error is done to all of them
RUNS_NAMED = 6  # where a folder of runs was given in the place of one


class UsageError(ValueError):
    """Something that whoever asks for it can put right; the message is one line."""


def check_task(run: config.Config) -> None:
    """Raise UsageError unless there is the run's agent, and this machine has its task."""
    check_agent(run)
    try:
        envs.validate(run.suite, run.task)
    except ValueError as error:
        raise UsageError(error) from error
    if run.env.size % 16:
        raise UsageError(f"--env.size: expected a multiple of 16 from 32 to 128, got {run.env.size}")
    for name in ("kwargs", "image", "info"):
        key = config.key(f"env.{name}")
        if run.env[name] not in (key.value, key.before) and name not in envs.SUITES[run.suite].options:
            takers = ", ".join(suite for suite, found in envs.SUITES.items() if name in found.options)
            raise UsageError(f"--env.{name}: the suite {run.suite} does not take it, only {takers}")
    if problem := envs.missing(run.suite):
        raise UsageError(problem)
    if envs.SUITES[run.suite].opengl and agents.sees_images(run) and run.env.renderer == "auto":
        try:
            named_platform()
        except ValueError as error:  # found out while rendering, it would be a fault
            raise UsageError(error) from error


def check_agent(run: config.Config) -> None:
    """Raise UsageError unless there is the run's agent."""
    _check_method(run)
    if run.planner.value:
        raise UsageError(
            f"planner.value needs a trained value network: it is for `dreamer eval --agent {agents.PLANNER}`"
        )
    if run.method == agents.PLANNER and not run.behavior.bootstrap:
        raise UsageError(f"no_value (behavior.bootstrap false) is about an actor, and --method {run.method} has none")


def prepare_rendering(run: config.Config) -> None:
    """Where this process itself will render, choose the platform: dm_control reads it when it is imported."""
    if not run.env.worker and run.suite in envs.SUITES and envs.SUITES[run.suite].opengl:
        renders = agents.sees_images(run)
        os.environ.update(envs.choose(run.env.renderer).variables if renders else envs.NO_OPENGL)


def default_logdir(run: config.Config, runs: Path = Path("runs")) -> Path:
    """Where a run is kept that is given no place, in a folder of runs."""
    # Names of levels and of environments may hold slashes and colons.
    name = re.sub("[/:]", "_", f"{run.suite}_{run.task}")
    return runs / name / agents.variant(run) / str(run.seed)


def claim_logdir(
    run: config.Config, logdir: Path, resources: contextlib.ExitStack, allowed: Iterable[str] = ()
) -> settings.Settings:
    """Take the log directory, and agree with the run in it on the settings; of the run itself nothing is written.

    The directory is this process's own until `resources` closes. Raises UsageError if it cannot be written,
    SettingsError if the run in it has other settings, BlockingIOError if another process holds it.
    """
    _check_loggers(run.logger.also)
    try:
        os.path.abspath(logdir).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the log directory {formats.shown(logdir)}: TensorFlow needs a name in UTF-8") from None
    # Before the lock too, so that a refusal leaves not even the lock's file behind.
    settings.agree(run, logdir, allowed)
    try:
        resources.enter_context(lock.exclusive(logdir, functools.partial(print, flush=True)))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(f"cannot write to the log directory {logdir}: {error.strerror or error}") from error
    agreed = settings.agree(run, logdir, allowed)  # again: another process may have started here in the meantime
    origin = settings.source_of(run.init_from)
    if agreed.previous is None and origin:  # else the networks are in its own states
        try:
            source = open_config(origin)
        except UsageError as error:
            raise UsageError(f"--init_from: {error}") from error
        if "random" in (run.method, source.method):
            raise UsageError(f"--init_from {run.init_from}: random actions have no networks to take or to give")
    return agreed


def _check_loggers(also: str) -> None:
    for name in () if also == "none" else also.split(","):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"logger.also {also}: the package {name} is not installed: pip install '{DISTRIBUTION}[{name}]', or "
                f"{PACKAGES[name]} alone"
            )


def open_config(logdir: Path, changes: dict | None = None) -> config.Config:
    """The settings of the run in `logdir`, with some changed. Raises UsageError where there is no run to open."""
    path = logdir / layout.CONFIG
    if not path.is_file():
        raise UsageError(f"{logdir} {_what_is_missing(logdir)}")
    try:
        saved = config.load_file(path).flat()
    except ConfigError as error:
        raise UsageError(f"{logdir} cannot be opened by this version of dreamer: {error}") from error
    run = config.load([], saved | (changes or {}))
    _check_method(run)
    return run


def load_tensorflow() -> list[tuple[int, int]]:
    """Import TensorFlow and what is built on it; return the capabilities of the GPUs.

    First it sets all that they take from a whole process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without it TensorFlow takes all memory of a GPU at once, and none is left for rendering there.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Keras would follow a setting meant for other projects of the user; ours only works on TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    hardware.use_onednn()
    with _IMPORTING, _quiet_imports(), _uncollected():
        import keras
        import tensorflow as tf
        import tensorflow_probability  # noqa: F401  # needed later, and as large as Keras

        capabilities = hardware.gpu_capabilities()
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"Keras was imported with the backend {keras.backend.backend()}, expected tensorflow")
    for wrong, what in (
        (not tf.executing_eagerly(), "eager execution is turned off"),
        (tf.config.functions_run_eagerly(), "tf.config.run_functions_eagerly is turned on"),
        (tf.distribute.has_strategy(), "this is in the scope of a tf.distribute.Strategy (--gpus N shares a step)"),
    ):
        if wrong:
            raise UsageError(f"{what}, with which dreamer cannot work")
    if not capabilities:
        # The remapper fuses products with their biases into kernels that do not use AMX: a step takes a fifth longer.
        tf.config.optimizer.set_experimental_options({"remapping": False})
    return capabilities


def note_on_devices() -> str | None:
    """One line where the hardware is not used as it could be, and nothing else tells why; loads TensorFlow."""
    capabilities = load_tensorflow()

    import tensorflow as tf

    if not capabilities:
        return hardware.unseen_gpu(tf.__version__) or hardware.slow_cpu()
    growth = os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]
    if growth == "true":
        return None
    return (
        f'TF_FORCE_GPU_ALLOW_GROWTH is "{growth[:40]}" instead of "true": TensorFlow takes all memory of the GPU, and '
        "rendering or another run there finds none"
    )


def choose_precision(precision: str, *, of_run: bool = False, emulate: bool = True) -> tuple[str, str]:
    """The precision that a key comes to on this machine, and a line that says why; loads TensorFlow.

    of_run: the precision is that of a run so far, and not what the user asks for. emulate: it may be one that this
    machine only emulates; else that is a UsageError.
    """
    capabilities, flags = load_tensorflow(), hardware.cpu_flags()
    if not emulate and precision in ("bfloat16", "float16"):
        native, _ = hardware.resolve_precision("auto", flags, capabilities)
        if native == "float32" or (precision == "float16" and not capabilities):
            raise UsageError(
                f"this run computes in {precision}, which this machine only emulates: --precision {precision} goes on "
                "so, slowly; --precision float32 --resume.allow precision changes its arithmetic from here on"
            )
    precision, reason = hardware.resolve_precision(precision, flags, capabilities)
    reason = reason.replace("as asked for", "that of the run") if of_run else reason
    return precision, f"precision {precision}: {reason}"


def _check_method(run: config.Config) -> None:
    if run.method not in agents.METHODS:
        known = " | ".join(agents.METHODS)
        hint = f": that is an overlay, --configs ... {run.method}" if run.method in agents.ABLATIONS else ""
        raise UsageError(f"--method: expected one of {known}, got {formats.shown(run.method)!r}{hint}")


def _what_is_missing(logdir: Path) -> str:
    if not logdir.is_dir():
        return "does not exist: expected the log directory of a run"
    runs = [str(path.parent) for depth in (1, 2, 3) for path in sorted(logdir.glob("*/" * depth + layout.CONFIG))]
    more = f" and {len(runs) - RUNS_NAMED} more" if len(runs) > RUNS_NAMED else ""
    below = f": below it there are {', '.join(runs[:RUNS_NAMED])}{more}" if runs else ""
    return f"holds no {layout.CONFIG}, so it is no run{below}"


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is being imported.

    It would look through hundreds of thousands of objects, of which nearly all stay, again and again: for a second.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Hold back what TensorFlow's libraries print to the standard error while they load, unless loading fails.

    They write to the file descriptor before any setting of theirs is in force.
    """
    try:
        saved = os.dup(2)
    except OSError:  # closed, in a program that is a daemon
        yield
        return
    if sys.stderr:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(saved, 2)
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)

"""What is set for the whole process: environment variables, devices and precision.

No other module sets them. Environments are spawned, and a spawned process imports the command again, so that nothing
here imports TensorFlow before a command needs it.
"""

import contextlib
import os
import sys
import tempfile

from dreamer import config
from dreamer.cli.arguments import UsageError


def check_task(run: config.Config) -> None:
    """Raise UsageError unless the task exists, its suite is installed and the display that it needs can be chosen."""
    from dreamer import envs

    try:
        envs.validate(run.suite, run.task)
    except ValueError as error:
        raise UsageError(error) from error
    if problem := envs.missing(run.suite):
        raise UsageError(problem)
    if envs.SUITES[run.suite].opengl and run.env.renderer == "auto":
        _check_platform()


def _check_platform() -> None:
    """Raises UsageError if the user's MUJOCO_GL is no platform: found out while rendering, it would be a fault."""
    from dreamer.envs.rendering import BACKENDS

    given = os.environ.get("MUJOCO_GL", "").lower()
    if given not in ("", *BACKENDS):
        raise UsageError(f"MUJOCO_GL is {given[:40]!r}: expected {', '.join(BACKENDS)}, or unset")


def prepare(run: config.Config, *, of_run: bool, emulate: bool) -> str:
    """Set the variables, devices and precision that the run asks for, before anything imports what reads them.

    of_run, emulate: see `set_up`. Returns the precision that it came to. Raises UsageError.
    """
    from dreamer import envs

    if not run.env.worker and envs.SUITES[run.suite].opengl:
        # This process will render, and dm_control reads the platform when it is imported.
        os.environ.update(envs.choose(run.env.renderer).variables)
    return set_up(run.precision, of_run=of_run, emulate=emulate)


def set_up(precision: str, *, of_run: bool = False, emulate: bool = True) -> str:
    """Set everything that TensorFlow and Keras take from a whole process; print and return the precision it came to.

    of_run: the precision is that of a run so far, and not what the user asks for. emulate: it may be one that this
    machine only emulates; else that is a UsageError.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without it TensorFlow takes all memory of a GPU at once, and none is left for rendering there.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Keras would follow a setting meant for other projects of the user; ours only works on TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"

    with _quiet_imports():
        import keras
        import tensorflow as tf

        from dreamer import hardware

        capabilities = hardware.gpu_capabilities()
    if not capabilities:
        if unseen := hardware.unseen_gpu(tf.__version__):
            print(unseen, flush=True)
        # The remapper fuses products with their biases into kernels that do not use AMX: a step takes a fifth longer.
        tf.config.optimizer.set_experimental_options({"remapping": False})
    flags = hardware.cpu_flags()
    if not emulate and precision in ("bfloat16", "float16"):
        native, _ = hardware.resolve_precision("auto", flags, capabilities)
        if native == "float32" or (precision == "float16" and not capabilities):
            raise UsageError(
                f"this run computes in {precision}, which this machine only emulates: --precision {precision} goes on "
                "so, slowly; --precision float32 --resume.allow precision changes its arithmetic from here on"
            )
    precision, reason = hardware.resolve_precision(precision, flags, capabilities)
    reason = reason.replace("as asked for", "that of the run") if of_run else reason
    keras.config.set_dtype_policy(hardware.KERAS_POLICY[precision])
    print(f"precision {precision}: {reason}", flush=True)
    return precision


@contextlib.contextmanager
def _quiet_imports():
    """Hold back what TensorFlow's libraries print to the standard error while they load, unless loading fails.

    They write to the file descriptor before any setting of theirs is in force.
    """
    sys.stderr.flush()
    saved = os.dup(2)
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

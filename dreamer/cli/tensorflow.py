"""What a command sets for its whole process: environment variables, devices and precision. No other module does."""

import gc

from dreamer import config, hardware, start


def prepare(run: config.Config, *, of_run: bool, emulate: bool) -> str:
    """Set what the run asks for, before anything imports what reads it; returns the precision that it came to.

    of_run, emulate: see `start.choose_precision`. Raises UsageError.
    """
    start.prepare_rendering(run)
    return set_up(run.precision, of_run=of_run, emulate=emulate)


def set_up(precision: str, *, of_run: bool = False, emulate: bool = True) -> str:
    """Set everything that TensorFlow and Keras take from a whole process; print and return the precision it came to.

    of_run, emulate: see `start.choose_precision`. Raises UsageError.
    """
    if note := start.note_on_devices():
        print(note, flush=True)

    if not gc.get_freeze_count():
        # What has been imported stays: the collector need not look through it whenever a graph is traced.
        gc.collect()
        gc.freeze()

    import keras

    precision, line = start.choose_precision(precision, of_run=of_run, emulate=emulate)
    keras.config.set_dtype_policy(hardware.KERAS_POLICY[precision])
    print(line, flush=True)
    return precision

import gc
import os
import signal

import pytest

from dreamer import hardware

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Counts only if set before TensorFlow is imported.
hardware.use_onednn()  # as a run does, for modules of tests that import TensorFlow themselves


def pytest_configure(config):
    """Give each worker of the slow tests a core of its own, where the processes that it starts stay.

    Two runs with two threads each on two cores take a sixth longer. The quick tests keep them: what threads do to a
    result is tested there.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if config.option.markexpr == "slow" and worker:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish():
    """As a command does: what the modules of the tests have imported is nothing for the garbage collector."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def precision():
    """Set the global Keras policy for one test: precision("mixed_bfloat16")."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="session")
def unavailable():
    """unavailable(reason) skips a test that cannot run on this machine; where CI runs, it fails."""

    def stop(reason):
        assert not os.environ.get("CI"), f"where CI runs this must work: {reason}"
        pytest.skip(reason)

    return stop


@pytest.fixture
def interruptible():
    """SIGINT raises KeyboardInterrupt, as in a terminal: what runs the tests may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)

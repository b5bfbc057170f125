import os
import signal

import pytest

from dreamer import hardware

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Counts only if set before TensorFlow is imported.
hardware.use_onednn()  # as a run does, for modules of tests that import TensorFlow themselves


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

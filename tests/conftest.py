import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Counts only if set before TensorFlow is imported.


@pytest.fixture
def precision():
    """Set the global Keras policy for one test: precision("mixed_bfloat16")."""
    import keras

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)

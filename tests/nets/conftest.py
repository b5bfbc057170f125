import pytest
import tensorflow as tf

from dreamer import hardware

# On a GPU, float32 products would otherwise keep ten bits, and the values here are held to six digits.
tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def roundings():
    """How many roundings to bfloat16 a product in it may be off: one, since its sums are in float32.

    A CPU that only emulates bfloat16, where a run computes in float32 unless told otherwise, rounds partial sums too:
    with AVX2 alone up to 6 here.
    """
    native = hardware.resolve_precision("auto", hardware.cpu_flags(), hardware.gpu_capabilities())[0] == "bfloat16"
    return 1 if native else 8

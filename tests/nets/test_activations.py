"""Bias and activation in one pass against their definition in float64 and against TensorFlow's own operations."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets import activations, device

DEFINITION = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0.0), lambda x: np.where(x > 0.0, 1.0, 0.0)),
    "elu": (lambda x: np.where(x > 0.0, x, np.expm1(x)), lambda x: np.where(x > 0.0, 1.0, np.exp(x))),
}
HALF_STEP = 2.0**-8  # of a bfloat16 number: how far rounding to the nearest one moves it at most, relative to it
NAMES = pytest.mark.parametrize("name", DEFINITION)


def draw(*shape, seed, scale=1.0):
    """Normal numbers that bfloat16 holds exactly."""
    x = tf.cast(scale * np.random.default_rng(seed).normal(size=shape), tf.bfloat16)
    return tf.cast(x, tf.float64).numpy()


def with_gradients(name, dtype, x, bias, upstream):
    """Value, gradient to x and gradient to the bias as float64, and the value's type."""

    @tf.function
    def run(x, bias, upstream):
        with tf.GradientTape() as tape:
            tape.watch([x, bias])
            y = activations.biased(x, bias, name)
        return y, *tape.gradient(y, [x, bias], upstream)

    results = run(*(tf.constant(t, dtype) for t in (x, bias, upstream)))
    assert all(result.dtype == dtype for result in results)
    return [np.asarray(result, np.float64) for result in results]


@NAMES
@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 4, 2), (2, 3, 6)])
def test_values_and_gradients_are_those_of_the_definition(name, shape, roundings):
    x, bias, upstream = draw(*shape, seed=0), draw(shape[-1], seed=1), draw(*shape, seed=2)
    function, slope = DEFINITION[name]
    value, to_x = function(x + bias), slope(x + bias) * upstream
    to_bias = to_x.reshape(-1, shape[-1]).sum(0)
    for dtype, relative, absolute in ((tf.float64, 1e-12, 1e-12), (tf.float32, 1e-5, 1e-6), (tf.bfloat16, 0.02, 0.02)):
        *ours, our_bias = with_gradients(name, dtype, x, bias, upstream)
        for result, wanted in zip(ours, (value, to_x), strict=True):
            np.testing.assert_allclose(result, wanted, rtol=relative, atol=absolute)
        more = roundings if dtype == tf.bfloat16 else 1
        np.testing.assert_allclose(our_bias, to_bias, rtol=more * relative, atol=more * absolute)


@NAMES
def test_bfloat16_is_rounded_once(name):
    """Half a step from the exact value, also where TensorFlow's own ELU, exp(x) - 1 in bfloat16, has no digit left."""
    x = np.concatenate([draw(400, 3, seed=0), draw(400, 3, seed=1, scale=1e-3), [[0.0, -1e-3, -80.0]]])
    x = tf.cast(tf.cast(x, tf.bfloat16), tf.float64).numpy()
    bias = draw(3, seed=2, scale=1e-3)
    exact = DEFINITION[name][0](x + bias)
    value, _, _ = with_gradients(name, tf.bfloat16, x, bias, np.ones_like(x))
    np.testing.assert_allclose(value, exact, rtol=1.01 * HALF_STEP, atol=1e-7)  # float32's exp(x) is 6e-8 off near 0.
    if name == "elu":
        plain = tf.nn.elu(tf.constant(x, tf.bfloat16) + tf.constant(bias, tf.bfloat16))
        assert np.abs(np.asarray(plain, np.float64) - exact).max() > 1e-3


@NAMES
def test_slopes_in_bfloat16_come_from_the_value(name):
    x, upstream = draw(200, 3, seed=0), draw(200, 3, seed=1)
    value, to_x, _ = with_gradients(name, tf.bfloat16, x, np.zeros(3), upstream)
    slope = {None: 1.0, "relu": value > 0, "elu": np.where(value > 0, 1.0, value + 1.0)}[name]
    np.testing.assert_allclose(to_x, slope * upstream, rtol=1.01 * HALF_STEP, atol=1e-30)


@NAMES
def test_the_gradient_of_a_bias_is_summed_in_float32(name):
    """62,500 ones: a sum in bfloat16 stops at 256."""
    _, _, to_bias = with_gradients(name, tf.bfloat16, np.ones([62_500, 2]), np.zeros(2), np.ones([62_500, 2]))
    np.testing.assert_allclose(to_bias, 62_500, rtol=HALF_STEP)


@NAMES
def test_the_gradient_of_a_bias_keeps_its_digits(name):
    """Of 40,000 numbers that nearly cancel. A CPU that has no products in bfloat16 rounds some partial sums as well."""
    upstream = draw(40_000, 3, seed=0)
    _, to_x, to_bias = with_gradients(name, tf.bfloat16, draw(40_000, 3, seed=1), np.zeros(3), upstream)
    np.testing.assert_allclose(to_bias, to_x.sum(0), rtol=4 * HALF_STEP)


@NAMES
def test_a_gpu_and_float32_take_tensorflows_own_operations(name, monkeypatch):
    monkeypatch.delattr(activations, "_biased_in_one_pass")
    x, bias, upstream = draw(5, 3, seed=0), draw(3, seed=1), draw(5, 3, seed=2)
    with_gradients(name, tf.float32, x, bias, upstream)
    with pytest.raises(NameError):
        with_gradients(name, tf.bfloat16, x, bias, upstream)
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    with_gradients(name, tf.bfloat16, x, bias, upstream)


def test_the_number_of_rows_need_not_be_known():
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.bfloat16)])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activations.biased(x, tf.zeros([3], tf.bfloat16), "elu")
        return tape.gradient(y, x)

    for rows in (1, 5):
        assert gradient(tf.ones([rows, 3], tf.bfloat16)).shape == (rows, 3)

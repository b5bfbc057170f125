"""The CPU's forms of the strided convolutions against their definition and against TensorFlow's own."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets import convolutions, device

# (size, width, channels, filters): encoder and decoder at a width of 4, then other kernels, leftover pixels, one pixel.
CONVS = [(4, 64, 3, 4), (4, 31, 4, 8), (4, 14, 8, 16), (4, 6, 16, 32), (4, 7, 2, 3), (3, 9, 2, 5), (4, 4, 2, 3)]
TRANSPOSED = [(5, 5, 16, 8), (6, 13, 8, 5), (6, 30, 5, 3), (6, 30, 5, 4), (2, 4, 3, 1), (4, 3, 2, 4), (5, 3, 2, 3)]
IMAGES = 3


def normals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def defined_conv(x, kernel):
    """y[p, q] = sum over a, b of x[2 p + a, 2 q + b] kernel[a, b]."""
    size, width = kernel.shape[0], (x.shape[1] - kernel.shape[0]) // 2 + 1
    y = np.zeros((len(x), width, width, kernel.shape[3]))
    for p, q, a, b in itertools.product(range(width), range(width), range(size), range(size)):
        y[:, p, q] += x[:, 2 * p + a, 2 * q + b] @ kernel[a, b]
    return y


def defined_conv_gradients(x, kernel, upstream):
    """Of sum(y * upstream): to x, whose values do not matter, and to the kernel."""
    size, width = kernel.shape[0], upstream.shape[1]
    to_x, to_kernel = np.zeros_like(x), np.zeros_like(kernel)
    for p, q, a, b in itertools.product(range(width), range(width), range(size), range(size)):
        to_x[:, 2 * p + a, 2 * q + b] += upstream[:, p, q] @ kernel[a, b].T
        to_kernel[a, b] += x[:, 2 * p + a, 2 * q + b].T @ upstream[:, p, q]
    return to_x, to_kernel


def with_gradients(function, x, kernel, upstream):
    """Values and both gradients, from a graph with static shapes, as in training."""

    @tf.function
    def run(x, kernel, upstream):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel)
        return y, *tape.gradient(y, [x, kernel], upstream)

    return [np.asarray(tensor, np.float64) for tensor in run(x, kernel, upstream)]


@pytest.mark.parametrize(("size", "width", "channels", "filters"), CONVS)
def test_conv_and_its_gradients_are_those_of_the_definition(size, width, channels, filters):
    x, kernel = normals(IMAGES, width, width, channels), normals(size, size, channels, filters, seed=1)
    expected = defined_conv(x, kernel)
    upstream = normals(*expected.shape, seed=2)
    y, to_x, to_kernel = with_gradients(convolutions.conv, x, kernel, upstream)
    np.testing.assert_allclose(y, expected, atol=1e-11)
    for gradient, wanted in zip((to_x, to_kernel), defined_conv_gradients(x, kernel, upstream), strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-10)


@pytest.mark.parametrize(("size", "width", "channels", "filters"), TRANSPOSED)
def test_transposed_conv_and_its_gradients_are_those_of_the_definition(size, width, channels, filters):
    x, kernel = normals(IMAGES, width, width, channels), normals(size, size, filters, channels, seed=1)
    wide = 2 * (width - 1) + size
    upstream = normals(IMAGES, wide, wide, filters, seed=2)
    y, to_x, to_kernel = with_gradients(convolutions.transposed_conv, x, kernel, upstream)
    # What a convolution calls the gradient to its input is the value here, with x in the place of its upstream.
    expected, to_kernel_expected = defined_conv_gradients(upstream, kernel, x)
    np.testing.assert_allclose(y, expected, atol=1e-11)
    np.testing.assert_allclose(to_x, defined_conv(upstream, kernel), atol=1e-10)
    np.testing.assert_allclose(to_kernel, to_kernel_expected, atol=1e-10)


@pytest.mark.parametrize("function", [convolutions.conv, convolutions.transposed_conv])
def test_a_gpu_takes_tensorflows_own_form_with_equal_results(function, monkeypatch):
    x = normals(IMAGES, 30, 30, 5)
    kernel = normals(6, 6, *((5, 3) if function is convolutions.conv else (3, 5)), seed=1)
    upstream = normals(*function(x, tf.constant(kernel)).shape, seed=2)
    ours = with_gradients(function, x, kernel, upstream)
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    for name in ("_phases", "_kernel_gradient"):
        monkeypatch.delattr(convolutions, name)
    for one, other in zip(ours, with_gradients(function, x, kernel, upstream), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize(
    ("function", "case"),
    [
        (convolutions.conv, (4, 6, 16, 32)),
        (convolutions.conv, (4, 14, 8, 16)),
        (convolutions.transposed_conv, (5, 5, 16, 8)),
        (convolutions.transposed_conv, (6, 30, 5, 3)),
    ],
)
def test_sums_in_bfloat16_lose_no_more_than_the_result_is_rounded_by(function, case, roundings):
    size, width, channels, filters = case
    shape = (channels, filters) if function is convolutions.conv else (filters, channels)
    x, kernel = (tf.cast(t, tf.bfloat16) for t in (normals(64, width, width, channels), normals(size, size, *shape)))
    upstream = tf.cast(normals(*function(x, kernel).shape, seed=2), tf.bfloat16)
    exact = with_gradients(function, *(tf.cast(t, tf.float64) for t in (x, kernel, upstream)))
    for rounded, value in zip(with_gradients(function, x, kernel, upstream), exact, strict=True):
        assert np.abs(rounded - value).max() < roundings * 2**-8 * np.abs(value).max()


def test_the_number_of_images_need_not_be_known():
    @tf.function(input_signature=[tf.TensorSpec([None, 6, 6, 2]), tf.TensorSpec([4, 4, 2, 3])])
    def there_and_back(x, kernel):
        return convolutions.transposed_conv(convolutions.conv(x, kernel), kernel)

    for images in (1, 5):
        assert there_and_back(tf.ones([images, 6, 6, 2]), tf.ones([4, 4, 2, 3])).shape == (images, 6, 6, 2)


def test_a_single_image_meets_a_large_kernel_in_a_product_that_is_rounded_no_worse(monkeypatch, roundings):
    x, kernel = (tf.cast(t, tf.bfloat16) for t in (normals(1, 6, 6, 128), normals(4, 4, 128, 256, seed=1)))
    upstream = tf.cast(normals(1, 2, 2, 256, seed=2), tf.bfloat16)
    ours = with_gradients(convolutions.conv, x, kernel, upstream)
    taken, product = [], convolutions._product_conv
    monkeypatch.setattr(convolutions, "_product_conv", lambda *pair: taken.append(pair) or product(*pair))
    np.testing.assert_array_equal(with_gradients(convolutions.conv, x, kernel, upstream)[0], ours[0])
    assert len(taken) == 1
    exact = with_gradients(convolutions.conv, *(tf.cast(t, tf.float64) for t in (x, kernel, upstream)))
    convolutions.conv(tf.repeat(x, 2, 0), kernel)
    assert len(taken) == 1, "float64, and two images, have the plain form"
    for rounded, value in zip(ours, exact, strict=True):
        assert np.abs(rounded - value).max() < roundings * 2**-8 * np.abs(value).max()

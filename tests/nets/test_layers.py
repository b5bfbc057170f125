"""Layers against plain Keras layers with the same weights, and against float64 NumPy."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.layers import (
    GRU,
    MLP,
    SIDES,
    Decoder,
    Encoder,
    decoder_sides,
    dense,
    encoder_sides,
    flatten_leading,
    point_transposed_conv,
    seed_stream,
)

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def normals(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def float64(weight):
    return np.asarray(weight, np.float64)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def randomise(layer, seed=7):
    """Weights of all sizes, biases included: zero biases would hide a bias that is left out."""
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(0.3 * normals(*variable.shape, seed=seed + index))


def numpy_conv(image, kernel, bias, stride=2):
    """Valid convolution by its definition. image: [M, H, W, C], kernel: [k, k, C, filters]."""
    size = kernel.shape[0]
    out = (image.shape[1] - size) // stride + 1
    result = np.zeros((len(image), out, out, kernel.shape[-1])) + bias
    for row, column in itertools.product(range(size), repeat=2):
        patch = image[:, row : row + stride * out : stride, column : column + stride * out : stride][:, :out, :out]
        result += patch @ kernel[row, column]
    return result


def numpy_transposed(image, kernel, bias, stride=2):
    """Valid transposed convolution by its definition. image: [M, H, W, C], kernel: [k, k, filters, C]."""
    size, width = kernel.shape[0], image.shape[1]
    out = (width - 1) * stride + size
    result = np.zeros((len(image), out, out, kernel.shape[2])) + bias
    for row, column in itertools.product(range(width), repeat=2):
        stamp = np.einsum("mc,abfc->mabf", image[:, row, column], kernel)
        result[:, row * stride : row * stride + size, column * stride : column * stride + size] += stamp
    return result


def test_seed_stream_depends_on_the_seed_only():
    first, again, other = (list(itertools.islice(seed_stream(seed), 20)) for seed in (3, 3, 4))
    assert first == again
    assert not set(first) & set(other)
    assert len(set(first)) == 20
    assert all(0 <= number < 2**31 for number in first)


def test_flatten_leading_keeps_the_order_and_the_static_shape():
    tensor = tf.reshape(tf.range(2 * 3 * 4), [2, 3, 4])
    flat, restore = flatten_leading(tensor, 1)
    np.testing.assert_array_equal(flat, np.arange(24).reshape(6, 4))
    np.testing.assert_array_equal(restore(flat[:, :2]), np.arange(24).reshape(2, 3, 4)[..., :2])

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 4])])
    def unknown_batch(x):
        flat, restore = flatten_leading(x, 1)
        result = restore(flat)
        assert result.shape.as_list() == [None, 3, 4]
        return result

    np.testing.assert_array_equal(unknown_batch(normals(5, 3, 4)), normals(5, 3, 4).astype(np.float32))


def test_flatten_leading_takes_no_and_one_leading_dimension():
    for shape in [(4,), (3, 4)]:
        flat, restore = flatten_leading(tf.ones(shape), 1)
        assert flat.shape.rank == 2
        assert restore(flat).shape == shape


def test_dense_starts_as_glorot_uniform_without_bias():
    layer = dense(40, 60, seed_stream(0))
    kernel, limit = layer.kernel.numpy(), np.sqrt(6 / 100)
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert abs(kernel.std() - limit / np.sqrt(3)) < 0.01 * limit
    assert not layer.bias.numpy().any()


def test_mlp_equals_numpy():
    mlp = MLP(5, 3, layers=3, units=7, seeds=seed_stream(0), name="mlp")
    randomise(mlp)
    inputs = normals(2, 4, 5)
    x = inputs
    for layer in mlp.hidden:
        x = elu(x @ float64(layer.kernel) + float64(layer.bias))
    expected = x @ float64(mlp.out.kernel) + float64(mlp.out.bias)
    assert (expected < 0).any()
    result = mlp(tf.constant(inputs, tf.float32))
    assert result.shape == (2, 4, 3)
    np.testing.assert_allclose(result, expected, **CLOSE)


def test_layers_of_one_stream_differ_and_equal_seeds_agree():
    one, same, other = (MLP(7, 7, layers=2, units=7, seeds=seed_stream(s), name="mlp") for s in (0, 0, 1))
    assert not np.allclose(one.hidden[0].kernel, one.hidden[1].kernel)
    for a, b, c in zip(one.hidden, same.hidden, other.hidden, strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
        assert not np.allclose(a.kernel, c.kernel)


# By hand: widths after each convolution of 4 by stride 2; width at first and (kernel, width) of transposed ones.
STACKS = {
    32: ([15, 6, 2], 1, [(5, 5), (6, 14), (6, 32)]),
    48: ([23, 10, 4], 3, [(5, 9), (6, 22), (6, 48)]),
    64: ([31, 14, 6, 2], 1, [(5, 5), (5, 13), (6, 30), (6, 64)]),
    80: ([39, 18, 8, 3], 2, [(5, 7), (5, 17), (6, 38), (6, 80)]),
    96: ([47, 22, 10, 4], 3, [(5, 9), (5, 21), (6, 46), (6, 96)]),
    112: ([55, 26, 12, 5], 4, [(5, 11), (5, 25), (6, 54), (6, 112)]),
    128: ([63, 30, 14, 6, 2], 1, [(5, 5), (5, 13), (5, 29), (6, 62), (6, 128)]),
}


def test_every_side_of_an_image_has_its_stacks():
    assert tuple(STACKS) == SIDES
    for side, (encoder, base, decoder) in STACKS.items():
        assert encoder_sides(side) == encoder
        assert decoder_sides(side) == [base, *(width for _, width in decoder)]


@pytest.mark.parametrize("side", [64, 48, 80, 128])
def test_encoder_equals_plain_keras_layers_and_numpy(side):
    depth, (widths, _, _) = 2, STACKS[side]
    encoder = Encoder(depth=depth, side=side, seeds=seed_stream(0))
    randomise(encoder)
    image = normals(2, 3, side, side, 3) / 2

    plain = keras.Sequential(
        [keras.layers.Conv2D(2**n * depth, 4, strides=2, activation="relu") for n in range(len(widths))]
        + [keras.layers.Flatten()]
    )
    plain.build((None, side, side, 3))
    plain.set_weights(encoder.get_weights())

    x = image.reshape(6, side, side, 3)
    for conv in encoder.convs:
        x = np.maximum(numpy_conv(x, float64(conv.kernel), float64(conv.bias)), 0)
    expected = x.reshape(2, 3, -1)
    assert encoder.width == expected.shape[-1]
    assert side != 64 or encoder.width == 32 * depth

    result = encoder(tf.constant(image, tf.float32))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result / scale, expected / scale, **CLOSE)
    np.testing.assert_allclose(
        tf.reshape(result, [6, -1]), plain(image.reshape(6, side, side, 3)), rtol=1e-5, atol=1e-4
    )


def test_point_transposed_equals_keras_on_one_pixel():
    point = point_transposed_conv(4, 5, 6, seed_stream(0))
    initial = point.kernel.numpy()
    randomise(point)
    plain = keras.layers.Conv2DTranspose(
        4,
        5,
        strides=2,
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(next(seed_stream(0))),
    )
    plain.build((None, 1, 1, 6))
    assert [w.shape for w in plain.weights] == [w.shape for w in point.weights]
    np.testing.assert_array_equal(plain.kernel, initial)
    plain.set_weights(point.get_weights())

    inputs = normals(3, 6)
    result = point(tf.constant(inputs, tf.float32))
    expected = np.maximum(
        numpy_transposed(inputs[:, None, None], float64(point.kernel), float64(point.bias)), 0
    )  # [3, 5, 5, 4]
    np.testing.assert_allclose(result, expected, **CLOSE)
    np.testing.assert_allclose(result, plain(tf.constant(inputs[:, None, None], tf.float32)), **CLOSE)


@pytest.mark.parametrize("side", [64, 48, 80, 128])
def test_decoder_equals_plain_keras_layers_and_numpy(side):
    depth, (_, base, layers) = 2, STACKS[side]
    decoder = Decoder(7, depth=depth, side=side, seeds=seed_stream(0))
    randomise(decoder)
    inputs = normals(2, 3, 7)

    # The paper's for 64: 4, 2 and 1 times the depth, and 3 colours; 32 times as many channels of a single pixel.
    filters = [2**n * depth for n in reversed(range(len(layers) - 1))] + [3]
    channels = 32 * depth if base == 1 else 2 * filters[0]
    plain = keras.Sequential(
        [keras.layers.Dense(base**2 * channels), keras.layers.Reshape((base, base, channels))]
        + [
            keras.layers.Conv2DTranspose(count, kernel, strides=2, activation="relu" if count != 3 else None)
            for count, (kernel, _) in zip(filters, layers, strict=True)
        ]
    )
    plain.build((None, 7))
    plain.set_weights(decoder.get_weights())

    x = inputs.reshape(6, 7) @ float64(decoder.dense.kernel) + float64(decoder.dense.bias)
    x = x.reshape(6, base, base, channels)
    convs = [decoder.point, *decoder.convs] if base == 1 else decoder.convs
    for index, conv in enumerate(convs):
        x = numpy_transposed(x, float64(conv.kernel), float64(conv.bias))
        x = np.maximum(x, 0) if index < len(convs) - 1 else x
    expected = x.reshape(2, 3, side, side, 3)
    assert (expected < 0).any()

    result = decoder(tf.constant(inputs, tf.float32))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(result / scale, expected / scale, **CLOSE)
    plain_result = tf.reshape(plain(tf.constant(inputs.reshape(6, 7), tf.float32)), expected.shape)
    np.testing.assert_allclose(result / scale, plain_result / scale, **CLOSE)


def test_gru_equals_keras_and_numpy():
    units = 4
    gru = GRU(3, units, seeds=seed_stream(0))
    randomise(gru)
    plain = keras.layers.GRUCell(units, reset_after=True)
    plain.build((None, 3))
    plain.set_weights(gru.get_weights())
    x, state = normals(5, 3), normals(5, units, seed=1)

    kernel, recurrent, bias = (float64(w) for w in (gru.kernel, gru.recurrent_kernel, gru.bias))
    xz, xr, xc = np.split(x @ kernel + bias[0], 3, -1)
    hz, hr, hc = np.split(state @ recurrent + bias[1], 3, -1)
    update, reset = sigmoid(xz + hz), sigmoid(xr + hr)
    expected = update * state + (1 - update) * np.tanh(xc + reset * hc)

    x, state = tf.constant(x, tf.float32), tf.constant(state, tf.float32)
    result = gru(x, state)
    np.testing.assert_allclose(result, expected, **CLOSE)
    np.testing.assert_allclose(result, plain(x, [state])[0], **CLOSE)


def test_gru_takes_sequences_of_rows():
    gru = GRU(3, 4, seeds=seed_stream(0))
    x, state = (tf.constant(normals(2, 5, n), tf.float32) for n in (3, 4))
    flat = gru(tf.reshape(x, [10, 3]), tf.reshape(state, [10, 4]))
    np.testing.assert_allclose(tf.reshape(gru(x, state), [10, 4]), flat, **CLOSE)


def test_gru_recurrent_weights_start_orthogonal():
    rows = GRU(3, 6, seeds=seed_stream(0)).recurrent_kernel.numpy()
    np.testing.assert_allclose(rows @ rows.T, np.eye(6), atol=1e-5)


def test_gru_does_not_round_its_state_in_bfloat16(precision):
    """With the update gate open the state must come out as it went in: rounded, it would drift over a sequence."""
    precision("mixed_bfloat16")
    gru = GRU(3, 4, seeds=seed_stream(0))
    bias = np.zeros((2, 12), np.float32)
    bias[0, :4] = 60.0
    gru.bias.assign(bias)
    state = tf.constant(normals(5, 4), tf.float32)
    result = gru(tf.ones([5, 3]), state)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, state, rtol=1e-6)


def test_outputs_are_float32_and_close_in_bfloat16(precision):
    inputs = {"mlp": normals(2, 3, 7), "decoder": normals(2, 3, 7), "gru": normals(2, 3, 7)}
    state = normals(2, 3, 4, seed=1)

    def make():
        seeds = seed_stream(0)
        return {
            "mlp": MLP(7, 4, layers=2, units=16, seeds=seeds, name="mlp"),
            "decoder": Decoder(7, depth=2, seeds=seeds),
            "gru": GRU(7, 4, seeds=seeds),
        }

    def outputs(layers):
        arguments = {name: [tf.constant(x, tf.float32)] for name, x in inputs.items()}
        arguments["gru"].append(tf.constant(state, tf.float32))
        return {name: layer(*arguments[name]) for name, layer in layers.items()}

    exact = outputs(make())
    precision("mixed_bfloat16")
    layers = make()
    assert layers["mlp"].hidden[0].compute_dtype == "bfloat16"
    assert layers["mlp"].out.compute_dtype == "float32"
    assert all(v.dtype == "float32" for layer in layers.values() for v in layer.trainable_variables)
    for name, result in outputs(layers).items():
        assert result.dtype == tf.float32, name
        difference = np.abs(result - exact[name]).max()
        assert 0 < difference < 0.02 * np.abs(exact[name]).max(), name
    assert Encoder(depth=2, seeds=seed_stream(0))(tf.zeros([2, 64, 64, 3])).dtype == tf.bfloat16


@pytest.mark.parametrize("name", ["mlp", "encoder", "decoder", "point"])
def test_bias_gradients_keep_their_size_in_bfloat16(precision, name):
    """A bias gradient sums over the whole batch: added up in bfloat16, terms below 1/256 of the sum are lost.

    Rounding of the terms themselves stays below the bound; a lossy sum misses it by far.
    """
    inputs = {"mlp": (2000, 6), "point": (2000, 6), "decoder": (8, 6), "encoder": (16, 64, 64, 3)}[name]

    def bias_gradients():
        make = {
            "mlp": lambda seeds: MLP(6, 3, layers=2, units=8, seeds=seeds, name="mlp"),
            "point": lambda seeds: point_transposed_conv(3, 5, 6, seeds),
            "decoder": lambda seeds: Decoder(6, depth=2, seeds=seeds),
            "encoder": lambda seeds: Encoder(depth=2, seeds=seeds),
        }[name]
        layer = make(seed_stream(0))
        biases = [v for v in layer.trainable_variables if v.path.endswith("bias")]
        for bias in biases:
            bias.assign(np.full(bias.shape, 0.5))
        with tf.GradientTape() as tape:
            output = tf.cast(layer(tf.constant(normals(*inputs), tf.float32)), tf.float32)
            loss = tf.reduce_sum(output)
        return [g.numpy() for g in tape.gradient(loss, biases)]

    exact = bias_gradients()
    precision("mixed_bfloat16")
    for rounded, reference in zip(bias_gradients(), exact, strict=True):
        assert np.linalg.norm(rounded - reference) < 0.1 * np.linalg.norm(reference)

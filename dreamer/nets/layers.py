"""Encoder, decoder, dense stacks and the GRU cell, as Keras layers whose weights exist from construction on.

Hidden layers compute in the precision of the global Keras policy. The last dense layer of everything that parametrises
a distribution computes in float32: a bfloat16 value estimate near 80 would come in steps of 0.5. The decoder's last
convolution is only cast: its steps, 1/512 near the ends of [-0.5, 0.5], are half a grey level.

`seeds` is an iterator of integers; each weight matrix takes the next one for its initialiser.
"""

import math

import keras
import numpy as np
import tensorflow as tf

IMAGE_SHAPE = (64, 64, 3)
EMBED_DEPTH = 32  # The encoder's output is EMBED_DEPTH * conv_depth wide: 2 x 2 positions of 8 * conv_depth channels.


def seed_stream(seed):
    """Endless integers below 2**31 that depend on `seed` only, for initialisers."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


class WithBias(keras.layers.Layer):
    """activation(layer(x) + bias) of a layer that is built without a bias.

    Keras would add the bias with BiasAdd, whose gradient TensorFlow sums in bfloat16 on a CPU: 62,500 ones give 256.
    The gradient of a plain addition is summed in float32.
    """

    def __init__(self, layer, units, activation=None, dtype=None):
        super().__init__(dtype=dtype)
        self.layer = layer
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.activation = keras.activations.get(activation)
        self.built = True

    @property
    def kernel(self):
        """Weight of the layer, in the shape that Keras gives it."""
        return self.layer.kernel

    def call(self, x):
        """The shapes of `layer`."""
        return self.activation(self.layer(x) + tf.cast(self.bias, self.compute_dtype))


def dense(units, inputs, seeds, activation=None, dtype=None):
    """A dense layer, [..., inputs] -> [..., units]."""
    kernel = keras.initializers.GlorotUniform(next(seeds))
    layer = keras.layers.Dense(units, use_bias=False, dtype=dtype, kernel_initializer=kernel)
    layer.build((None, inputs))
    return WithBias(layer, units, activation, dtype)


def convolution(kind, filters, kernel_size, inputs, seeds, activation):
    """A valid convolution of stride 2; kind: keras.layers.Conv2D or Conv2DTranspose."""
    kernel = keras.initializers.GlorotUniform(next(seeds))
    layer = kind(filters, kernel_size, strides=2, use_bias=False, kernel_initializer=kernel)
    layer.build((None, None, None, inputs))
    return WithBias(layer, filters, activation)


def flatten_leading(tensor, event_ndims):
    """Merge all but the last `event_ndims` dimensions: [..., *event] -> [M, *event], and a function that undoes it."""
    leading = tf.shape(tensor)[: tensor.shape.rank - event_ndims]
    static = tensor.shape[: tensor.shape.rank - event_ndims]

    def restore(flat):
        result = tf.reshape(flat, tf.concat([leading, tf.shape(flat)[1:]], 0))
        result.set_shape(static + flat.shape[1:])
        return result

    flat = tf.reshape(tensor, [-1, *tensor.shape[tensor.shape.rank - event_ndims :]])
    return flat, restore


class MLP(keras.layers.Layer):
    """`layers` dense layers of `units` ELU and a linear float32 output: [..., inputs] -> [..., outputs]."""

    def __init__(self, inputs, outputs, *, layers, units, seeds, name):
        super().__init__(name=name)
        sizes = [inputs] + layers * [units]
        self.hidden = [dense(units, size, seeds, "elu") for size in sizes[:-1]]
        self.out = dense(outputs, sizes[-1], seeds, dtype="float32")
        self.built = True

    def call(self, inputs):
        """[..., inputs] -> [..., outputs] float32."""
        x, restore = flatten_leading(inputs, 1)
        for layer in self.hidden:
            x = layer(x)
        return restore(self.out(x))


class Encoder(keras.layers.Layer):
    """Four strided convolutions (paper, Appendix A): image [..., 64, 64, 3] in [-0.5, 0.5] -> [..., 32 * depth]."""

    def __init__(self, *, depth, seeds, name="encoder"):
        super().__init__(name=name)
        self.convs = []
        channels = IMAGE_SHAPE[-1]
        for multiple in (1, 2, 4, 8):
            self.convs.append(convolution(keras.layers.Conv2D, multiple * depth, 4, channels, seeds, "relu"))
            channels = multiple * depth
        self.built = True

    def call(self, image):
        """[..., 64, 64, 3] float -> [..., 32 * depth] in the compute precision."""
        x, restore = flatten_leading(image, 3)
        for conv in self.convs:
            x = conv(x)
        return restore(tf.reshape(x, [-1, math.prod(x.shape[1:])]))


class PointTransposed(keras.layers.Layer):
    """Transposed convolution of a 1x1 image, as the one matrix product that it is: [M, inputs] -> [M, k, k, filters].

    Weights have the shapes of keras.layers.Conv2DTranspose(filters, kernel_size, strides), so that initial values and
    parameter counts agree with it; oneDNN runs the general form many times slower (benchmarks/README.md).
    """

    def __init__(self, filters, kernel_size, inputs, *, seeds, name):
        super().__init__(name=name)
        self.filters, self.kernel_size, self.inputs = filters, kernel_size, inputs
        self.kernel = self.add_weight(
            name="kernel",
            shape=(kernel_size, kernel_size, filters, inputs),
            initializer=keras.initializers.GlorotUniform(next(seeds)),
        )
        self.bias = self.add_weight(name="bias", shape=(filters,), initializer="zeros")
        self.built = True

    def call(self, x):
        """[M, inputs] -> [M, kernel_size, kernel_size, filters]."""
        x = tf.cast(x, self.compute_dtype)
        kernel = tf.reshape(tf.cast(self.kernel, self.compute_dtype), [-1, self.inputs])
        x = tf.linalg.matmul(x, kernel, transpose_b=True)
        x = tf.reshape(x, [-1, self.kernel_size, self.kernel_size, self.filters])
        return tf.nn.relu(x + tf.cast(self.bias, self.compute_dtype))


class Decoder(keras.layers.Layer):
    """Image mean from the feature (paper, Appendix A): [..., F] -> [..., 64, 64, 3] float32.

    A linear layer, then transposed convolutions 1 -> 5 -> 13 -> 30 -> 64 pixels wide.
    """

    def __init__(self, inputs, *, depth, seeds, name="decoder"):
        super().__init__(name=name)
        self.dense = dense(EMBED_DEPTH * depth, inputs, seeds)
        self.point = PointTransposed(4 * depth, 5, EMBED_DEPTH * depth, seeds=seeds, name="point")
        self.convs = []
        channels = 4 * depth
        for filters, kernel, activation in ((2 * depth, 5, "relu"), (depth, 6, "relu"), (IMAGE_SHAPE[-1], 6, None)):
            self.convs.append(convolution(keras.layers.Conv2DTranspose, filters, kernel, channels, seeds, activation))
            channels = filters
        self.built = True

    def call(self, feature):
        """[..., F] -> [..., 64, 64, 3] float32."""
        x, restore = flatten_leading(feature, 1)
        x = self.point(self.dense(x))
        for conv in self.convs:
            x = conv(x)
        x = tf.ensure_shape(x, [None, *IMAGE_SHAPE])
        return restore(tf.cast(x, tf.float32))


class GRU(keras.layers.Layer):
    """One step of a gated recurrent unit in the convention of keras.layers.GRUCell(reset_after=True).

    z, r = sigmoid(x W + h U + b), candidate c = tanh(x W_c + b_c + r * (h U_c + d_c)), h' = z h + (1 - z) c.
    The matrix products run in the compute precision; gates and state stay float32, so that rounding does not pile up
    over a sequence.
    """

    def __init__(self, inputs, units, *, seeds, name="gru"):
        super().__init__(name=name, autocast=False)  # Keras would round the state to the compute precision.
        self.kernel = self.add_weight(
            name="kernel", shape=(inputs, 3 * units), initializer=keras.initializers.GlorotUniform(next(seeds))
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(units, 3 * units),
            initializer=keras.initializers.Orthogonal(seed=next(seeds)),
        )
        self.bias = self.add_weight(name="bias", shape=(2, 3 * units), initializer="zeros")
        self.built = True

    def call(self, x, deter):
        """x: [..., inputs], deter: [..., units] float32 -> [..., units] float32."""

        def product(a, weight):
            a, weight = tf.cast(a, self.compute_dtype), tf.cast(weight, self.compute_dtype)
            return tf.cast(tf.linalg.matmul(a, weight), tf.float32)

        deter = tf.cast(deter, tf.float32)
        bias = tf.cast(self.bias, tf.float32)
        from_input = product(x, self.kernel) + bias[0]
        from_state = product(deter, self.recurrent_kernel) + bias[1]
        update_x, reset_x, candidate_x = tf.split(from_input, 3, -1)
        update_h, reset_h, candidate_h = tf.split(from_state, 3, -1)
        update = tf.sigmoid(update_x + update_h)
        reset = tf.sigmoid(reset_x + reset_h)
        candidate = tf.tanh(candidate_x + reset * candidate_h)
        return update * deter + (1.0 - update) * candidate

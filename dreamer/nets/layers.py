"""Encoder, decoder, dense stacks and the GRU cell, as Keras layers whose weights exist from construction on.

Hidden layers compute in the precision of the global Keras policy. The last dense layer of everything that parametrises
a distribution computes in float32: a bfloat16 value estimate near 80 would come in steps of 0.5. The decoder's last
convolution is only cast: its steps, 1/512 near the ends of [-0.5, 0.5], are half a grey level.

`seeds` is an iterator of integers; each weight matrix takes the next one for its initialiser.
"""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from dreamer.nets import activations, convolutions

CHANNELS = 3  # of an image
SIDES = tuple(range(32, 129, 16))  # pixels that an image may be wide and high: for these, both stacks below come out
_BASE_DEPTH = 32  # times conv_depth: channels of the 1x1 image that the decoder's first layer makes


def seed_stream(seed: int) -> Iterator[int]:
    """Endless integers below 2**31 that depend on `seed` only, for initialisers."""
    generator = np.random.default_rng(seed)
    while True:
        yield int(generator.integers(2**31))


class Affine(keras.layers.Layer):
    """activation(product(x, kernel) + bias), with the weights of the Keras layer of the same kind.

    Keras itself would add the bias with BiasAdd, whose gradient TensorFlow sums in bfloat16 on a CPU: 62,500 ones give
    256. The gradient of a plain addition is summed in float32.
    """

    def __init__(
        self,
        product: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        kernel_shape: tuple[int, ...],
        units: int,
        *,
        seeds: Iterator[int],
        activation: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(dtype=dtype)
        self.product, self.activation = product, activation
        glorot = keras.initializers.GlorotUniform(next(seeds))
        self.kernel = self.add_weight(name="kernel", shape=kernel_shape, initializer=glorot)
        self.bias = self.add_weight(name="bias", shape=(units,), initializer="zeros")
        self.built = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """The shapes of `product`; Keras hands x and the weights over in the compute precision."""
        return activations.biased(self.product(x, self.kernel), self.bias, self.activation)


def dense(
    units: int, inputs: int, seeds: Iterator[int], activation: str | None = None, dtype: str | None = None
) -> Affine:
    """Dense layer: [..., inputs] -> [..., units]."""

    def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matmul(x, kernel) if x.shape.rank == 2 else tf.tensordot(x, kernel, 1)

    return Affine(product, (inputs, units), units, seeds=seeds, activation=activation, dtype=dtype)


def conv(filters: int, size: int, inputs: int, seeds: Iterator[int]) -> Affine:
    """ReLU of a convolution of stride 2: [M, n, n, inputs] -> [M, (n - size) // 2 + 1, ..., filters]."""
    return Affine(convolutions.conv, (size, size, inputs, filters), filters, seeds=seeds, activation="relu")


def transposed_conv(filters: int, size: int, inputs: int, seeds: Iterator[int], activation: str | None) -> Affine:
    """Transposed convolution of stride 2: [M, n, n, inputs] -> [M, 2 (n - 1) + size, ..., filters]."""
    shape = (size, size, filters, inputs)
    return Affine(convolutions.transposed_conv, shape, filters, seeds=seeds, activation=activation)


def point_transposed_conv(filters: int, size: int, inputs: int, seeds: Iterator[int]) -> Affine:
    """ReLU of a transposed convolution of a 1x1 image, as the one matrix product that it is.

    [M, inputs] -> [M, size, size, filters]. oneDNN runs the general form many times slower (benchmarks/README.md).
    """

    def product(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        flat = tf.linalg.matmul(x, tf.reshape(kernel, [-1, inputs]), transpose_b=True)
        return tf.reshape(flat, [-1, size, size, filters])

    return Affine(product, (size, size, filters, inputs), filters, seeds=seeds, activation="relu")


def flatten_leading(tensor: tf.Tensor, event_ndims: int) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Merge all but the last `event_ndims` dimensions: [..., *event] -> [M, *event], and a function that undoes it."""
    leading = tf.shape(tensor)[: tensor.shape.rank - event_ndims]
    static = tensor.shape[: tensor.shape.rank - event_ndims]

    def restore(flat: tf.Tensor) -> tf.Tensor:
        result = tf.reshape(flat, tf.concat([leading, tf.shape(flat)[1:]], 0))
        result.set_shape(static + flat.shape[1:])
        return result

    flat = tf.reshape(tensor, [-1, *tensor.shape[tensor.shape.rank - event_ndims :]])
    return flat, restore


class MLP(keras.layers.Layer):
    """`layers` dense layers of `units` ELU and a linear float32 output: [..., inputs] -> [..., outputs]."""

    def __init__(self, inputs: int, outputs: int, *, layers: int, units: int, seeds: Iterator[int], name: str):
        super().__init__(name=name)
        sizes = [inputs] + layers * [units]
        self.hidden = [dense(units, size, seeds, "elu") for size in sizes[:-1]]
        self.out = dense(outputs, sizes[-1], seeds, dtype="float32")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """[..., inputs] -> [..., outputs] float32."""
        x, restore = flatten_leading(inputs, 1)
        for layer in self.hidden:
            x = layer(x)
        return restore(self.out(x))


def encoder_sides(side: int) -> list[int]:
    """Width of what each convolution of the encoder makes, for an image of `side` pixels: 64 -> [31, 14, 6, 2].

    Kernels of 4 and strides of 2, as in the paper (Appendix A), as long as 2 x 2 positions are left.
    """
    sides: list[int] = []
    while (side := (side - 4) // 2 + 1) >= 2:
        sides.append(side)
    return sides


def decoder_sides(side: int) -> list[int]:
    """Width at the decoder's beginning and after each transposed convolution: 64 -> [1, 5, 13, 30, 64].

    The kernels are those of the paper (Appendix A): 6 where an even width comes out, 5 where an odd one does.
    """
    sides = [side]
    while sides[0] >= 5:
        sides.insert(0, (sides[0] - _kernel_for(sides[0])) // 2 + 1)
    return sides


def _kernel_for(side: int) -> int:
    return 5 if side % 2 else 6


class Encoder(keras.layers.Layer):
    """Strided convolutions (paper, Appendix A): image [..., side, side, 3] in [-0.5, 0.5] -> [..., width].

    Four of them for the paper's 64 pixels, with `depth` channels in the first and twice as many in each further one, so
    that width is 32 * depth there: 2 x 2 positions. See `encoder_sides` for other sides of SIDES (ours).
    """

    def __init__(self, *, depth: int, seeds: Iterator[int], side: int = 64, name: str = "encoder"):
        super().__init__(name=name)
        self.convs = []
        channels = CHANNELS
        sides = encoder_sides(side)
        for layer in range(len(sides)):
            self.convs.append(conv(2**layer * depth, 4, channels, seeds))
            channels = 2**layer * depth
        self.width = sides[-1] ** 2 * channels
        self.built = True

    def call(self, image: tf.Tensor) -> tf.Tensor:
        """[..., side, side, 3] float -> [..., width] in the compute precision."""
        x, restore = flatten_leading(image, 3)
        for layer in self.convs:
            x = layer(x)
        return restore(tf.reshape(x, [-1, math.prod(x.shape[1:])]))


class Decoder(keras.layers.Layer):
    """Image mean from the feature (paper, Appendix A): [..., F] -> [..., side, side, 3] float32.

    A linear layer, then transposed convolutions, for the paper's 64 pixels 1 -> 5 -> 13 -> 30 -> 64 pixels wide; see
    `decoder_sides` for other sides of SIDES (ours), some of which begin with 2, 3 or 4 pixels instead of 1.
    """

    def __init__(self, inputs: int, *, depth: int, seeds: Iterator[int], side: int = 64, name: str = "decoder"):
        super().__init__(name=name)
        self._side = side
        self._base, *widths = decoder_sides(side)
        # Channels halve from layer to layer, down to `depth` before the image itself.
        filters = [2**layer * depth for layer in reversed(range(len(widths) - 1))]
        channels = _BASE_DEPTH * depth if self._base == 1 else 2 * filters[0]
        self.dense = dense(self._base**2 * channels, inputs, seeds)
        self.point = None
        if self._base == 1:
            self.point = point_transposed_conv(filters[0], widths[0], channels, seeds)
            channels = filters.pop(0)
            del widths[0]
        self.convs = []
        for width, count in zip(widths, [*filters, CHANNELS], strict=True):
            activation = "relu" if width < side else None
            self.convs.append(transposed_conv(count, _kernel_for(width), channels, seeds, activation))
            channels = count
        self.built = True

    def call(self, feature: tf.Tensor) -> tf.Tensor:
        """[..., F] -> [..., side, side, 3] float32."""
        x, restore = flatten_leading(feature, 1)
        x = self.dense(x)
        x = self.point(x) if self.point else tf.reshape(x, [-1, self._base, self._base, x.shape[1] // self._base**2])
        for layer in self.convs:
            x = layer(x)
        x = tf.ensure_shape(x, [None, self._side, self._side, CHANNELS])
        return restore(tf.cast(x, tf.float32))


class GRU(keras.layers.Layer):
    """One step of a gated recurrent unit in the convention of keras.layers.GRUCell(reset_after=True).

    z, r = sigmoid(x W + h U + b), candidate c = tanh(x W_c + b_c + r * (h U_c + d_c)), h' = z h + (1 - z) c.
    The matrix products run in the compute precision; gates and state stay float32, so that rounding does not pile up
    over a sequence.
    """

    def __init__(self, inputs: int, units: int, *, seeds: Iterator[int], name: str = "gru"):
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

    def call(self, x: tf.Tensor, deter: tf.Tensor) -> tf.Tensor:
        """x: [..., inputs], deter: [..., units] float32 -> [..., units] float32."""

        def product(a: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
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

"""activation(x + bias). In bfloat16 on a CPU it is one pass over memory, and rounded once.

TensorFlow's own operations round to bfloat16 in between; its ELU loses most of a small negative x in exp(x) - 1, since
bfloat16 numbers just below 1 are 1/256 apart. benchmarks/README.md has what the single pass gained.
"""

from collections.abc import Callable

import tensorflow as tf

from dreamer.nets import device
from dreamer.nets.gradients import custom_gradient

_PLAIN: dict[str | None, Callable[[tf.Tensor], tf.Tensor]] = {None: tf.identity, "relu": tf.nn.relu, "elu": tf.nn.elu}
_VALUE: dict[str | None, Callable[[tf.Tensor], tf.Tensor]] = {
    None: tf.identity,
    "relu": tf.nn.relu,
    "elu": lambda x: tf.where(x > 0.0, x, tf.exp(x) - 1.0),
}
# Derivatives, from the value.
_SLOPE: dict[str | None, Callable[[tf.Tensor], tf.Tensor]] = {
    "relu": lambda y: tf.where(y > 0.0, 1.0, 0.0),
    "elu": lambda y: tf.where(y > 0.0, 1.0, y + 1.0),
}


def biased(x: tf.Tensor, bias: tf.Tensor, activation: str | None) -> tf.Tensor:
    """activation(x + bias). x: [..., U], bias: [U], activation: None, "relu" or "elu" -> [..., U] of the same type."""
    bias = tf.convert_to_tensor(bias)
    if x.dtype != tf.bfloat16 or device.on_gpu():
        return _PLAIN[activation](x + bias)
    return _biased_in_one_pass(x, bias, activation)


def _biased_in_one_pass(x: tf.Tensor, bias: tf.Tensor, activation: str | None) -> tf.Tensor:
    @custom_gradient
    def biased(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        y = _value(x, bias, activation)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_x = upstream if activation is None else _slope(y, upstream, activation)
            return to_x, _column_sums(to_x)

        return y, gradient

    return biased(x, bias)


def _column_sums(x: tf.Tensor) -> tf.Tensor:
    """[..., U] -> [U], as a product with ones: summed in float32 like any product, and faster than tf.reduce_sum.

    A CPU that only emulates bfloat16 rounds partial sums as well, as it does in any product.

    A product with few columns is slow, so that those of an image [M, n, n, U] are first summed place by place of a row.
    """
    places = x.shape[2] if x.shape.rank == 4 else 1
    rows = tf.reshape(x, [-1, places * x.shape[-1]])
    sums = tf.linalg.matmul(tf.ones([1, tf.shape(rows)[0]], x.dtype), rows)
    return tf.reduce_sum(tf.reshape(sums, [places, x.shape[-1]]), 0, name="bias_gradient")


@tf.function(jit_compile=True, autograph=False)
def _value(x: tf.Tensor, bias: tf.Tensor, activation: str | None) -> tf.Tensor:
    return tf.cast(_VALUE[activation](tf.cast(x, tf.float32) + tf.cast(bias, tf.float32)), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _slope(y: tf.Tensor, upstream: tf.Tensor, activation: str | None) -> tf.Tensor:
    return tf.cast(tf.cast(upstream, tf.float32) * _SLOPE[activation](tf.cast(y, tf.float32)), y.dtype)

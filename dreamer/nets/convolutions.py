"""Convolutions of stride 2 without padding, forward and backward in the forms that a CPU computes fastest.

Every form is the same sum in another order; benchmarks/README.md has what each gained. A GPU takes TensorFlow's own.
"""

from collections.abc import Callable

import tensorflow as tf

from dreamer.nets import device
from dreamer.nets.gradients import custom_gradient

# Up to so many output positions a kernel's gradient is a matrix product over copied windows; above, copying costs more.
_FEW_POSITIONS = 36
# Up to so many filters a transposed convolution wastes most of a vector register, unless four phases share it.
_FEW_FILTERS = 4
# From so many numbers on, most of the time that oneDNN takes for a single image in bfloat16 goes into reordering the
# kernel, which a product does not need. At full size the sums are the same, bit for bit.
_LARGE_KERNEL = 2**18


def conv(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolution. x: [M, n, n, C], kernel: [k, k, C, F] -> [M, (n - k) // 2 + 1, ..., F]."""
    return _plain_conv(x, kernel) if device.on_gpu() else _cpu_conv(x, tf.convert_to_tensor(kernel))


def transposed_conv(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Transposed convolution. x: [M, n, n, C], kernel: [k, k, F, C] -> [M, 2 (n - 1) + k, ..., F]."""
    width = 2 * (x.shape[1] - 1) + kernel.shape[0]
    if device.on_gpu():
        return _plain_transposed_conv(x, kernel, width)
    return _cpu_transposed_conv(x, tf.convert_to_tensor(kernel), width)


def _plain_conv(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.conv2d(x, kernel, 2, "VALID")


def _plain_transposed_conv(x: tf.Tensor, kernel: tf.Tensor, width: int) -> tf.Tensor:
    return tf.nn.conv2d_transpose(x, kernel, [tf.shape(x)[0], width, width, kernel.shape[2]], 2, "VALID")


@custom_gradient
def _cpu_conv(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _plain_transposed_conv(upstream, kernel, x.shape[1]), _kernel_gradient(x, upstream, kernel.shape)

    single = x.shape[0] == 1 and x.dtype == tf.bfloat16 and kernel.shape.num_elements() >= _LARGE_KERNEL
    return _product_conv(x, kernel) if single else _plain_conv(x, kernel), gradient


def _product_conv(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The same as _plain_conv, as a matrix product over copied windows."""
    size, _, channels, filters = kernel.shape
    windows = tf.image.extract_patches(x, [1, size, size, 1], [1, 2, 2, 1], [1, 1, 1, 1], "VALID")
    flat = tf.linalg.matmul(tf.reshape(windows, [-1, size**2 * channels]), tf.reshape(kernel, [-1, filters]))
    return tf.reshape(flat, [-1, *windows.shape[1:3], filters])


def _cpu_transposed_conv(x: tf.Tensor, kernel: tf.Tensor, width: int) -> tf.Tensor:
    @custom_gradient
    def product(x: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return _plain_conv(upstream, kernel), _kernel_gradient(upstream, x, kernel.shape)

        if kernel.shape[2] <= _FEW_FILTERS and kernel.shape[0] % 2 == 0:
            return _phases(x, kernel), gradient
        return _plain_transposed_conv(x, kernel, width), gradient

    return product(x, kernel)


def _kernel_gradient(wide: tf.Tensor, narrow: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Sum over images and positions of window x narrow: the kernel's gradient, of `shape` [k, k, C, F].

    wide: [M, n, n, C], what a convolution reads and a transposed one writes; narrow: [M, p, p, F], the other side.
    """
    size, positions = shape[0], narrow.shape[1]
    if positions**2 > _FEW_POSITIONS:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=wide, filter_sizes=shape, out_backprop=narrow, strides=[1, 2, 2, 1], padding="VALID"
        )
    starts = range(0, 2 * positions, 2)
    windows = tf.concat([wide[:, i : i + size, j : j + size] for i in starts for j in starts], 0)
    windows = tf.reshape(windows, [-1, size * size * shape[2]])
    values = tf.reshape(tf.transpose(narrow, [1, 2, 0, 3]), [-1, shape[3]])  # in the order of the windows
    return tf.reshape(tf.linalg.matmul(windows, values, transpose_a=True), shape)


def _phases(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Transposed convolution of stride 2 as one of stride 1, for kernels of even size.

    Output 2 p + a takes entries 2 t + a of the kernel: four phases (a, b), each a transposed convolution with a quarter
    of the kernel, computed as 4 F channels and then interleaved.
    """
    size, _, filters, channels = kernel.shape
    half, width = size // 2, x.shape[1] + size // 2 - 1
    quarters = tf.transpose(tf.reshape(kernel, [half, 2, half, 2, filters, channels]), [0, 2, 1, 3, 4, 5])
    quarters = tf.reshape(quarters, [half, half, 4 * filters, channels])
    phases = tf.nn.conv2d_transpose(x, quarters, [tf.shape(x)[0], width, width, 4 * filters], 1, "VALID")
    return tf.nn.depth_to_space(phases, 2)

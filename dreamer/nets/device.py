"""Where the networks compute: some operations have a form of their own for each kind of device."""

import tensorflow as tf


def on_gpu() -> bool:
    """Whether TensorFlow places operations on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))

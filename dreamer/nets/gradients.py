"""tf.custom_gradient that lets go of the graphs in which it was traced.

TensorFlow registers such a gradient under a name of its own, for good, and with it the graph of a tf.function and the
weights that it reads: a notebook that opens a hundred runs would keep them all.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops

_HELD = "_dreamer_gradients"


def custom_gradient(function: Callable[..., tuple[tf.Tensor, Callable]]) -> Callable[..., tf.Tensor]:
    """As tf.custom_gradient, for functions of tensors with one result; what is registered ends with its graph."""
    registering = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*tensors: tf.Tensor) -> tf.Tensor:
        result = registering(*tensors)
        if not tf.executing_eagerly():
            _hold(result.op)
        return result

    return call


def _hold(op: tf.Operation) -> None:
    """Let the graph of the operation hold its gradient, and TensorFlow's registry only know where it is.

    Not in a collection of the graph: those of a graph are handed to the ones that are traced in its midst, and some of
    these belong to a module and stay.
    """
    registry = ops.gradient_registry._registry
    name = op.get_attr("_gradient_op_type").decode()
    gradient = registry[name]["type"]
    setattr(op.graph, _HELD, [*getattr(op.graph, _HELD, ()), gradient])
    known = weakref.ref(gradient, lambda _: registry.pop(name, None))

    def of_graph(op: tf.Operation, *upstream: tf.Tensor) -> Any:
        return known()(op, *upstream)  # type: ignore[misc]

    registry[name]["type"] = of_graph

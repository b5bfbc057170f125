"""A gradient of one's own is the one that is taken, and outlives no graph."""

import gc
import weakref

import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from dreamer.nets.gradients import custom_gradient

# A gradient that is not that of the function shows which one was taken.
SCALE = 10.0


@custom_gradient
def scaled_square(x):
    def gradient(upstream):
        return upstream * SCALE * x

    return x * x, gradient


def outside(x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = scaled_square(x)
    return tape.gradient(y, x)


def in_a_loop(x):
    """The sum of three squares, where the graph of the loop's body has the gradient."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.while_loop(lambda n, y: n < 3, lambda n, y: (n + 1, y + scaled_square(x)), (0, tf.zeros_like(x)))[1]
    return tape.gradient(y, x) / 3.0


def by_a_tape_around_a_function(x):
    function = tf.function(scaled_square, autograph=False)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("function", [outside, in_a_loop, by_a_tape_around_a_function])
@pytest.mark.parametrize("compiled", [False, True])
def test_it_is_the_gradient(function, compiled):
    x = tf.constant([[1.0, -2.0], [0.5, 3.0]])
    gradient = tf.function(function, autograph=False)(x) if compiled else function(x)
    assert gradient.numpy().tolist() == [[10.0, -20.0], [5.0, 30.0]]


@pytest.mark.parametrize("function", [outside, in_a_loop])
def test_a_graph_that_is_no_longer_used_is_gone(function):
    known = set(ops.gradient_registry._registry)
    weight = tf.Variable([1.0, 2.0])
    compiled = tf.function(lambda: function(tf.convert_to_tensor(weight)), autograph=False)
    concrete = compiled.get_concrete_function()
    graph = weakref.ref(concrete.graph)
    assert set(ops.gradient_registry._registry) > known, "without a gradient that is registered this shows nothing"
    del compiled, concrete
    gc.collect()
    assert graph() is None
    assert set(ops.gradient_registry._registry) <= known

"""A policy for acting step by step, as one call into TensorFlow that does nothing but what a step needs.

A training step reads the weights once for thousands of images, a step in the environment for a single one: there the
time goes into casting weights to the precision of the arithmetic, and into Python between the environment and the
graph. So the weights are cast once for as long as they stay the same, and a graph of flat tensors is called directly:
benchmarks/README.md has what each gained. Values and draws are those of the policy itself, bit for bit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dreamer.agents.acting import Carry, Inputs
from dreamer.types import Space, State


class Snapshot:
    """A policy on copies of its weights, which `take` brings up to date.

    policy(inputs, is_first, carry, explore=...) -> actions [B, A], carry: see Dreamer.policy. inputs: their Spaces by
    name. layers: all layers whose
    weights it reads, each in its compute precision. updates: the agent's counter; where it has moved, the weights are
    copied before the next action.
    """

    def __init__(
        self,
        policy: Callable[..., tuple[tf.Tensor, Carry]],
        inputs: Mapping[str, Space],
        layers: Sequence[keras.Layer],
        updates: tf.Variable,
    ):
        self._policy, self._inputs, self._updates = policy, dict(inputs), updates
        self._weights = [(weight, layer.compute_dtype) for layer in layers for weight in layer.weights]
        self._copies: list[tf.Variable] = []
        self._taken: int | None = None
        self._calls: dict[tuple[int, bool], _Call] = {}

    def take(self) -> None:
        """Copy the weights as they are now."""
        if not self._copies:
            self._copies = [
                tf.Variable(tf.zeros(weight.shape, dtype), trainable=False) for weight, dtype in self._weights
            ]
        self._copy()
        self._taken = int(self._updates)

    def __call__(self, inputs: Inputs, is_first: np.ndarray, carry: Carry, explore: bool) -> tuple[np.ndarray, Carry]:
        """Actions [B, A] float32 and the new carry. inputs: [B, ...] by name; is_first: [B] bool."""
        if self._taken != int(self._updates):
            self.take()
        key = len(is_first), explore
        if key not in self._calls:
            self._calls[key] = _Call(self._flat(explore), self._inputs.values(), len(is_first), carry)
        *state, action = self._calls[key](*(inputs[name] for name in self._inputs), is_first, *carry[0], carry[1])
        return action.numpy(), (State(*state), action)

    @tf.function(autograph=False)
    def _copy(self) -> None:
        for (weight, dtype), copy in zip(self._weights, self._copies, strict=True):
            copy.assign(tf.cast(weight, dtype))

    def _flat(self, explore: bool) -> Callable[..., tuple[tf.Tensor, ...]]:
        def act(*arguments: tf.Tensor) -> tuple[tf.Tensor, ...]:
            count = len(self._inputs)
            inputs = dict(zip(self._inputs, arguments[:count], strict=True))
            is_first, *carry = arguments[count:]
            # Layers read a copy where they would read the weight; what they cast it to, it is already.
            with keras.StatelessScope() as scope:
                for (weight, _), copy in zip(self._weights, self._copies, strict=True):
                    scope.add_update((weight, tf.convert_to_tensor(copy)))
                action, (state, _) = self._policy(inputs, is_first, (State(*carry[:-1]), carry[-1]), explore=explore)
            return (*state, action)

        return act


class _Call:
    """A function of flat tensors, traced for the shapes of one batch, without what tf.function does at every call."""

    def __init__(self, function: Callable[..., Any], inputs: Iterable[Space], rows: int, carry: Carry):
        specs = [tf.TensorSpec([rows, *space.shape], tf.as_dtype(space.dtype)) for space in inputs]
        specs += [tf.TensorSpec([rows], tf.bool)]
        specs += [tf.TensorSpec(x.shape, tf.float32) for x in (*carry[0], carry[1])]
        self._function = tf.function(function, autograph=False).get_concrete_function(*specs)
        self._captured = self._function.captured_inputs
        self._types = [output.dtype for output in self._function.outputs]
        self._config = _graph_options()

    def __call__(self, *arguments: np.ndarray | tf.Tensor) -> list[tf.Tensor]:
        return tf.raw_ops.StatefulPartitionedCall(
            args=[*arguments, *self._captured], Tout=self._types, f=self._function, config_proto=self._config
        )


def _graph_options() -> bytes:
    """The options of this process for the optimisation of graphs, which a call of this kind does not take by itself."""
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    options = config.graph_options.rewrite_options
    for name, value in tf.config.optimizer.get_experimental_options().items():
        switched = options.ON if value else options.OFF
        setattr(options, name, value if name.startswith("disable_") else switched)
    return config.SerializeToString()

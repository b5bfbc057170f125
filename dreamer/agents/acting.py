"""What the agents share when they act: the belief about the present, and what is expected from there on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dreamer.types import Batch, State
from dreamer.world_model.world_model import WorldModel

Carry = tuple[State, tf.Tensor]  # the posterior state and the action that was taken in it, each with B rows
Inputs = Mapping[str, Any]  # what is seen of one step, by name: image [B, n, n, 3] uint8, vectors [B, size] float32


class Belief:
    """Posterior states of a world model, filtered step by step, and its open-loop predictions.

    A carry is what goes from one step to the next: (State, the action that was taken in it), each with B rows.
    `actions` is the size of the action, `random` the generator that all noise is drawn from.
    """

    def __init__(self, world_model: WorldModel, actions: int, random: "tf.random.Generator | Draws"):
        self._world_model, self._actions, self._random = world_model, actions, random

    def initial(self, rows: int = 1) -> Carry:
        """Carry before the first step, for `rows` environments: the zero state and no action."""
        return self._world_model.rssm.initial(rows), tf.zeros([rows, self._actions])

    def filter(self, inputs: Inputs, is_first: tf.Tensor, carry: Carry, random: "tf.random.Generator | Draws") -> State:
        """Posterior state after one more observation; an episode begins with the zero state and no action.

        inputs: [B, ...] by name, is_first: [B]; random: a generator, or Draws -> State [B, ...].
        """
        state, action = carry
        action = action * (1.0 - tf.cast(is_first, tf.float32)[:, None])
        embed = self._world_model.embed(inputs)
        noise = random.normal([rows_of(is_first), self._world_model.rssm.stoch])
        return self._world_model.rssm.obs_step(state, action, embed, is_first, noise)

    @tf.function(reduce_retracing=True, autograph=False)
    def open_loop(self, batch: Batch, context: int) -> dict[str, tf.Tensor]:
        """`context` reconstructions, then imagination; see WorldModel.open_loop."""
        noise = self.noise(tf.unstack(tf.shape(batch.reward)))  # T is not static: short episodes differ in it.
        return self._world_model.open_loop(batch, noise, context)

    def noise(self, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Standard-normal draws for the stochastic state: [*shape, S]."""
        return self._random.normal([*shape, self._world_model.rssm.stoch])


class Draws:
    """What acting asks of a tf.random.Generator, without a memory: all draws follow from a seed and from their order.

    seed: int64, a scalar tensor. In a loop of a graph every turn would draw the same: what differs in its turns is
    drawn before it.
    """

    def __init__(self, seed: tf.Tensor):
        self._seed, self._count = tf.stack([seed, tf.zeros_like(seed)]), 0

    def normal(self, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Standard-normal numbers, float32."""
        return tf.random.stateless_normal(shape, self._next())

    def uniform(self, shape: Sequence[int | tf.Tensor]) -> tf.Tensor:
        """Numbers in [0, 1), float32."""
        return tf.random.stateless_uniform(shape, self._next())

    def make_seeds(self, count: int) -> tf.Tensor:
        """Seeds for stateless draws: [2, count] int64."""
        return tf.random.stateless_uniform([2, count], self._next(), None, None, tf.int64)

    def _next(self) -> tf.Tensor:
        self._count += 1
        return tf.random.fold_in(self._seed, self._count)


def rows_of(tensor: tf.Tensor) -> int | tf.Tensor:
    """B of a tensor [B, ...]: a number where the graph knows it, else a scalar tensor."""
    return tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]


def act_once(
    act: Callable[..., tuple[np.ndarray, Carry]],
    names: Iterable[str],
    observation: Mapping[str, Any],
    carry: Carry,
    explore: bool,
) -> tuple[np.ndarray, Carry]:
    """One action [A] of a batched act(inputs, is_first, carry, explore) for one observation, and the new carry.

    names: of the inputs.
    """
    inputs = {name: observation[name][None] for name in names}
    action, carry = act(inputs, np.asarray(observation["is_first"])[None], carry, explore)
    return action[0], carry


def exploration_noise(action: tf.Tensor, scale: float, noise: tf.Tensor) -> tf.Tensor:
    """clip(action + scale * noise, -1, 1) (paper, Appendix A). action, noise (standard normal): [..., A]."""
    return tf.clip_by_value(action + scale * noise, -1.0, 1.0)

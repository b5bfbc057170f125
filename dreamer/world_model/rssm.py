"""Recurrent state-space model: prior, posterior, and their rollouts (paper, Section 3 and Appendix A; PlaNet).

    h_t     = f(h_{t-1}, z_{t-1}, a_t)          deterministic path, a_t being the action that led to o_t
    z_t     ~ p(z_t | h_t)                      prior: the paper's transition model q(s_t | s_{t-1}, a_{t-1})
    z_t     ~ q(z_t | h_t, e_t)                 posterior: the representation model p(s_t | s_{t-1}, a_{t-1}, o_t)

    step           0         1         2
    action         a_0=0     a_1       a_2                (types.py: stored beside what they led to)
    deter    0 --> h_0 ----> h_1 ----> h_2
                   | e_0     | e_1     | e_2
    stoch    0     z_0 ------^z_1 -----^z_2

Randomness comes in as standard-normal `noise`, so that every function here is deterministic in its arguments.
"""

from collections.abc import Iterator

import keras
import tensorflow as tf

from dreamer.nets.layers import GRU, dense
from dreamer.types import State


def feature(state: State) -> tf.Tensor:
    """[z, h], what every head reads: [..., S + D]."""
    return tf.concat([state.stoch, state.deter], -1)


class RSSM(keras.layers.Layer):
    """The transition, prior and posterior networks. S: stoch, D: deter, E: width of the image embedding."""

    def __init__(
        self,
        actions: int,
        embed: int,
        *,
        stoch: int,
        deter: int,
        hidden: int,
        min_std: float,
        seeds: Iterator[int],
        name: str = "rssm",
    ):
        super().__init__(name=name)
        self.stoch, self.deter, self.min_std = stoch, deter, min_std
        self.input_layer = dense(hidden, stoch + actions, seeds, "elu")
        self.gru = GRU(hidden, deter, seeds=seeds)
        self.prior_hidden = dense(hidden, deter, seeds, "elu")
        self.prior_out = dense(2 * stoch, hidden, seeds, dtype="float32")
        self.posterior_hidden = dense(hidden, deter + embed, seeds, "elu")
        self.posterior_out = dense(2 * stoch, hidden, seeds, dtype="float32")
        self.built = True

    def initial(self, batch: int | tf.Tensor) -> State:
        """The zero state for a batch of `batch`."""
        stoch, deter = tf.zeros([batch, self.stoch]), tf.zeros([batch, self.deter])
        return State(stoch, stoch, stoch, deter)

    def transition(self, state: State, action: tf.Tensor) -> tf.Tensor:
        """h_t from s_{t-1} and a_t: [..., D] float32."""
        x = self.input_layer(tf.concat([state.stoch, action], -1))
        return self.gru(x, state.deter)

    def prior(self, deter: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of p(z_t | h_t), each [..., S] float32."""
        return self._gaussian(self.prior_out(self.prior_hidden(deter)))

    def posterior(self, deter: tf.Tensor, embed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean and standard deviation of q(z_t | h_t, e_t), each [..., S] float32."""
        inputs = tf.concat([tf.cast(deter, embed.dtype), embed], -1)
        return self._gaussian(self.posterior_out(self.posterior_hidden(inputs)))

    def img_step(self, state: State, action: tf.Tensor, noise: tf.Tensor) -> State:
        """One imagined step: s_t ~ prior. action: [..., A], noise: [..., S]."""
        deter = self.transition(state, action)
        mean, std = self.prior(deter)
        return State(mean, std, mean + std * noise, deter)

    def obs_step(
        self, state: State, action: tf.Tensor, embed: tf.Tensor, is_first: tf.Tensor, noise: tf.Tensor
    ) -> State:
        """One observed step: s_t ~ posterior. embed: [..., E]; where is_first [...], s_{t-1} is the zero state."""
        keep = 1.0 - tf.cast(is_first, tf.float32)[..., None]
        state = tf.nest.map_structure(lambda x: x * keep, state)
        deter = self.transition(state, action)
        mean, std = self.posterior(deter, embed)
        return State(mean, std, mean + std * noise, deter)

    def observe(
        self, embed: tf.Tensor, action: tf.Tensor, is_first: tf.Tensor, noise: tf.Tensor
    ) -> tuple[State, tuple[tf.Tensor, tf.Tensor]]:
        """Filter whole sequences. embed: [B, T, E], action: [B, T, A], is_first: [B, T], noise: [B, T, S].

        Returns the posterior State [B, T, ...] and the prior's (mean, std), each [B, T, S].
        """
        inputs = tf.nest.map_structure(time_major, (action, embed, is_first, noise))
        start = self.initial(tf.shape(action)[0])
        states = tf.scan(lambda state, step: self.obs_step(state, *step), inputs, start)
        posterior = tf.nest.map_structure(time_major, states)
        return posterior, self.prior(posterior.deter)

    def imagine(self, start: State, action: tf.Tensor, noise: tf.Tensor) -> State:
        """Follow given actions without seeing images. action: [B, H, A], noise: [B, H, S] -> State [B, H, ...]."""
        inputs = tf.nest.map_structure(time_major, (action, noise))
        states = tf.scan(lambda state, step: self.img_step(state, *step), inputs, start)
        return tf.nest.map_structure(time_major, states)

    def _gaussian(self, parameters: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, std = tf.split(parameters, 2, -1)
        return mean, tf.nn.softplus(std) + self.min_std


def time_major(tensor: tf.Tensor) -> tf.Tensor:
    """Swap the first two dimensions: [B, T, ...] <-> [T, B, ...]."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])

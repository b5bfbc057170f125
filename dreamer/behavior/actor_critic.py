"""Actor and value network, learned from imagined trajectories (paper, Section 3 and Algorithm 1)."""

import math
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from dreamer.nets.distributions import OneHot, TanhNormal, normal
from dreamer.nets.layers import MLP
from dreamer.types import State


class Actor(keras.layers.Layer):
    """Action model q(a | s) (eq. 2): a tanh-Normal for continuous actions, a one-hot categorical for discrete ones.

    groups: see ActionSpace.
    """

    def __init__(
        self,
        inputs: int,
        actions: int,
        *,
        discrete: bool,
        layers: int,
        units: int,
        init_std: float,
        mean_scale: float,
        min_std: float,
        seeds: Iterator[int],
        groups: tuple[int, ...] = (),
        name: str = "actor",
    ):
        super().__init__(name=name)
        self._discrete, self._groups = discrete, groups
        self._mean_scale, self._min_std = mean_scale, min_std
        self._raw_init_std = math.log(math.expm1(init_std))
        self.mlp = MLP(
            inputs, actions if discrete else 2 * actions, layers=layers, units=units, seeds=seeds, name="mlp"
        )
        self.built = True

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """[..., F] -> parameters [..., A] or [..., 2 A] of the distribution, float32."""
        return self.mlp(features)

    def distribution(self, features: tf.Tensor) -> TanhNormal | OneHot:
        """[..., F] -> TanhNormal or OneHot over [..., A] (paper, Appendix A)."""
        parameters = self(features)
        if self._discrete:
            return OneHot(parameters, self._groups)
        mean, std = tf.split(parameters, 2, -1)
        mean = self._mean_scale * tf.tanh(mean / self._mean_scale)
        std = tf.nn.softplus(std + self._raw_init_std) + self._min_std
        return TanhNormal(mean, std)


class Value(keras.layers.Layer):
    """Value model v(s) (eq. 2): mean of a unit-variance Normal."""

    def __init__(self, inputs: int, *, layers: int, units: int, seeds: Iterator[int], name: str = "value"):
        super().__init__(name=name)
        self.mlp = MLP(inputs, 1, layers=layers, units=units, seeds=seeds, name="mlp")
        self.built = True

    def call(self, features: tf.Tensor) -> tf.Tensor:
        """[..., F] -> [...], float32."""
        return self.mlp(features)[..., 0]


def imagine(
    step: Callable[[State, tf.Tensor, tf.Tensor], State],
    policy: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    feature: Callable[[State], tf.Tensor],
    start: State,
    noise: tf.Tensor,
    seeds: tf.Tensor,
) -> tf.Tensor:
    """Imagine H steps from every start state (Algorithm 1, line 8), following the policy.

    step(state, action, noise) -> state; policy(features, seed) -> action; feature(state) -> [N, F];
    start: nested tensors [N, ...]; noise: [H, N, S]; seeds: [H, 2].
    Returns the features of the H successors, [H, N, F]; the start states themselves are not among them.
    The policy sees a stopped gradient of the features, so that the actor learns through the action, the dynamics and
    the heads, but not by way of its own input.
    """

    def advance(state: State, inputs: tuple[tf.Tensor, tf.Tensor]) -> State:
        step_noise, seed = inputs
        return step(state, policy(tf.stop_gradient(feature(state)), seed), step_noise)

    return feature(tf.scan(advance, (noise, seeds), start))


def actor_loss(returns: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Eq. 7, negated: -mean(w V). returns: V_lambda [H - 1, N], or V_R [N]; weights as they -> scalar."""
    returns.shape.assert_is_compatible_with(weights.shape)
    return -tf.reduce_mean(weights * returns)


def value_loss(value: tf.Tensor, returns: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Eq. 8: -mean(w ln Normal(V_lambda; v, 1)), the target without gradient. All [H - 1, N] -> scalar."""
    value.shape.assert_is_compatible_with(returns.shape)
    weights.shape.assert_is_compatible_with(returns.shape)
    return -tf.reduce_mean(weights * normal(value, event_ndims=0).log_prob(tf.stop_gradient(returns)))

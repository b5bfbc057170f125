"""Actor and value network, learned from imagined trajectories (paper, Section 3 and Algorithm 1)."""

import math

import keras
import tensorflow as tf

from dreamer.nets.distributions import OneHot, TanhNormal, normal
from dreamer.nets.layers import MLP


class Actor(keras.layers.Layer):
    """Action model q(a | s) (eq. 2): a tanh-Normal for continuous actions, a one-hot categorical for discrete ones."""

    def __init__(self, inputs, actions, *, discrete, layers, units, init_std, mean_scale, min_std, seeds, name="actor"):
        super().__init__(name=name)
        self._discrete, self._mean_scale, self._min_std = discrete, mean_scale, min_std
        self._raw_init_std = math.log(math.expm1(init_std))
        self.mlp = MLP(
            inputs, actions if discrete else 2 * actions, layers=layers, units=units, seeds=seeds, name="mlp"
        )
        self.built = True

    def call(self, features):
        """[..., F] -> parameters [..., A] or [..., 2 A] of the distribution, float32."""
        return self.mlp(features)

    def distribution(self, features):
        """[..., F] -> TanhNormal or OneHot over [..., A] (paper, Appendix A)."""
        parameters = self(features)
        if self._discrete:
            return OneHot(parameters)
        mean, std = tf.split(parameters, 2, -1)
        mean = self._mean_scale * tf.tanh(mean / self._mean_scale)
        std = tf.nn.softplus(std + self._raw_init_std) + self._min_std
        return TanhNormal(mean, std)


class Value(keras.layers.Layer):
    """Value model v(s) (eq. 3): mean of a unit-variance Normal."""

    def __init__(self, inputs, *, layers, units, seeds, name="value"):
        super().__init__(name=name)
        self.mlp = MLP(inputs, 1, layers=layers, units=units, seeds=seeds, name="mlp")
        self.built = True

    def call(self, features):
        """[..., F] -> [...], float32."""
        return self.mlp(features)[..., 0]


def imagine(step, policy, feature, start, noise, seeds):
    """Imagine H steps from every start state (Algorithm 1, line 8), following the policy.

    step(state, action, noise) -> state; policy(features, seed) -> action; feature(state) -> [N, F];
    start: nested tensors [N, ...]; noise: [H, N, S]; seeds: [H, 2].
    Returns the features of the H successors, [H, N, F]; the start states themselves are not among them.
    The policy sees a stopped gradient of the features, so that the actor learns through the action, the dynamics and
    the heads, but not by way of its own input.
    """

    def advance(state, inputs):
        step_noise, seed = inputs
        return step(state, policy(tf.stop_gradient(feature(state)), seed), step_noise)

    return feature(tf.scan(advance, (noise, seeds), start))


def actor_loss(returns, weights):
    """Eq. 7, negated: -mean(w V). returns: V_lambda [H - 1, N], or V_R [N]; weights as they -> scalar."""
    returns.shape.assert_is_compatible_with(weights.shape)
    return -tf.reduce_mean(weights * returns)


def value_loss(value, returns, weights):
    """Eq. 8: -mean(w ln Normal(V_lambda; v, 1)), the target without gradient. All [H - 1, N] -> scalar."""
    value.shape.assert_is_compatible_with(returns.shape)
    weights.shape.assert_is_compatible_with(returns.shape)
    return -tf.reduce_mean(weights * normal(value, event_ndims=0).log_prob(tf.stop_gradient(returns)))

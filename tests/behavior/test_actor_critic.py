"""Actor, value and imagination: numbers worked by hand, and a linear world whose gradient is known."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.behavior.actor_critic import Actor, Value, actor_loss, imagine, value_loss
from dreamer.behavior.returns import lambda_return, trajectory_weights
from dreamer.nets.distributions import OneHot, TanhNormal
from dreamer.nets.layers import seed_stream


def make_actor(discrete=False, **options):
    options = {"layers": 2, "units": 16, "init_std": 5.0, "mean_scale": 5.0, "min_std": 1e-4} | options
    return Actor(6, 3, discrete=discrete, seeds=seed_stream(0), **options)


def features(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


# Networks


def test_actor_starts_near_mean_zero_with_the_initial_standard_deviation():
    actor = make_actor(init_std=2.5, min_std=0.01)
    actor.mlp.out.kernel.assign(tf.zeros_like(actor.mlp.out.kernel))
    dist = actor.distribution(features(4, 6))
    np.testing.assert_array_equal(dist.mean, np.zeros((4, 3)))
    np.testing.assert_allclose(dist.std, np.full((4, 3), 2.51), rtol=1e-6)


def test_actor_bounds_its_mean_and_softens_its_standard_deviation():
    actor = make_actor(mean_scale=2.0, min_std=0.1)
    actor.mlp.out.kernel.assign(tf.zeros_like(actor.mlp.out.kernel))
    actor.mlp.out.bias.assign([1.0, -3.0, 100.0, 0.5, -2.0, -100.0])
    dist = actor.distribution(features(2, 5, 6))
    assert isinstance(dist, TanhNormal)
    # ln(e^5 - 1) = 4.993239.
    std = np.log1p(np.exp(np.array([0.5, -2.0, -100.0]) + np.log(np.expm1(5)))) + 0.1
    np.testing.assert_allclose(dist.mean, np.broadcast_to(2 * np.tanh([0.5, -1.5, 50]), (2, 5, 3)), rtol=1e-6)
    np.testing.assert_allclose(dist.std, np.broadcast_to(std, (2, 5, 3)), rtol=1e-5)


def test_discrete_actor_is_a_categorical_over_its_outputs():
    actor = make_actor(discrete=True)
    inputs = features(4, 6)
    dist = actor.distribution(inputs)
    assert isinstance(dist, OneHot)
    logits = actor(inputs).numpy().astype(np.float64)
    assert logits.shape == (4, 3)
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for choice in range(3):
        action = tf.one_hot([choice] * 4, 3)
        np.testing.assert_allclose(dist.log_prob(action), expected[:, choice], rtol=1e-5)


def test_value_is_one_float32_number_per_feature(precision):
    value = Value(6, layers=3, units=16, seeds=seed_stream(0))
    inputs = features(2, 5, 6)
    np.testing.assert_allclose(value(inputs), value.mlp(inputs)[..., 0])
    precision("mixed_bfloat16")
    rounded = Value(6, layers=3, units=16, seeds=seed_stream(0))(inputs)
    assert rounded.dtype == tf.float32
    np.testing.assert_allclose(rounded, value(inputs), atol=0.03)


# Losses


def test_actor_loss_by_hand():
    returns = tf.Variable([[1.0, 2.0, -3.0], [4.0, 0.0, 10.0]])
    weights = tf.constant([[1.0, 1.0, 1.0], [0.5, 0.9, 0.0]])
    with tf.GradientTape() as tape:
        loss = actor_loss(returns, weights)
    assert float(loss) == pytest.approx(-(1 + 2 - 3 + 2 + 0 + 0) / 6)
    # Higher returns must lower the loss.
    np.testing.assert_allclose(tape.gradient(loss, returns), -weights / 6, rtol=1e-6)


def test_value_loss_by_hand():
    value = tf.Variable([[1.0, 2.0], [0.0, -1.0]])
    returns = tf.Variable([[3.0, 2.0], [1.0, 0.0]])
    weights = tf.constant([[1.0, 1.0], [0.5, 0.0]])
    with tf.GradientTape() as tape:
        loss = value_loss(value, returns, weights)
    half_log = 0.5 * np.log(2 * np.pi)
    # w (0.5 (v - R)^2 + 0.5 ln 2 pi): squared differences 4, 0, 1, 1.
    expected = ((2 + half_log) + half_log + 0.5 * (0.5 + half_log)) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    by_value, by_returns = tape.gradient(loss, [value, returns])
    np.testing.assert_allclose(by_value, [[-2 / 4, 0], [-0.5 / 4, 0]], rtol=1e-6)
    assert by_returns is None


def test_losses_refuse_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="incompatible"):
        actor_loss(tf.ones([3, 2]), tf.ones([4, 2]))
    with pytest.raises(ValueError, match="incompatible"):
        value_loss(tf.ones([3, 2, 1]), tf.ones([3, 2]), tf.ones([3, 2]))


# Imagination


def test_imagine_returns_the_successors_and_hands_out_noise_and_seeds_in_order():
    def step(state, action, noise):
        return {"x": 10 * state["x"] + action + noise}

    def policy(features, seed):
        return features * 0 + tf.cast(seed[:1], tf.float32)[None]

    start = {"x": tf.constant([[1.0], [2.0]])}
    noise = tf.constant([[[0.0], [0.5]], [[0.25], [0.0]], [[0.0], [0.0]]])
    seeds = tf.constant([[3, 0], [5, 0], [7, 0]])
    result = imagine(step, policy, lambda state: state["x"], start, noise, seeds)
    np.testing.assert_allclose(result[..., 0], [[13, 23.5], [135.25, 240], [1359.5, 2407]])


class LinearWorld:
    """s' = A s + B a + n with the policy a = K s + b + e, reward c.s - 0.5 q (d.s)^2 and value u.s, in float64."""

    HORIZON, STARTS, GAMMA = 4, 3, 0.9

    def __init__(self):
        rng = np.random.default_rng(0)
        self.A, self.B = 0.6 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
        self.K, self.b = 0.5 * rng.normal(size=(2, 3)), rng.normal(size=2)
        self.c, self.d, self.u, self.q = *rng.normal(size=(3, 3)), 0.3
        self.start = rng.normal(size=(self.STARTS, 3))
        self.noise = 0.2 * rng.normal(size=(self.HORIZON, self.STARTS, 3))
        self.policy_noise = 0.2 * rng.normal(size=(self.HORIZON, self.STARTS, 2))

    def tensorflow_gradient(self, lambda_):
        K, b = tf.Variable(self.K), tf.Variable(self.b)
        with tf.GradientTape() as tape:
            s = imagine(
                lambda state, action, noise: state @ self.A.T + action @ self.B.T + noise,
                lambda features, noise: features @ tf.transpose(K) + b + noise,
                lambda state: state,
                tf.constant(self.start),
                tf.constant(self.noise),
                tf.constant(self.policy_noise),
            )
            reward = tf.linalg.matvec(s, self.c) - 0.5 * self.q * tf.linalg.matvec(s, self.d) ** 2
            discount = tf.fill(reward.shape, tf.constant(self.GAMMA, tf.float64))
            returns = lambda_return(reward, tf.linalg.matvec(s, self.u), discount, lambda_)
            loss = actor_loss(returns, trajectory_weights(discount))
        return [g.numpy() for g in tape.gradient(loss, [K, b])]

    def analytic_gradient(self, lambda_, own_input):
        """By hand: ds_t = A ds_{t-1} + B da_t, where da_t = dK s_{t-1} + db, and K ds_{t-1} with its own input."""
        gradients = []
        directions = np.eye(self.K.size + self.b.size)
        for direction in directions:
            dK, db = direction[: self.K.size].reshape(self.K.shape), direction[self.K.size :]
            s, ds = self.start, np.zeros_like(self.start)
            reward, value = [], []
            for noise, policy_noise in zip(self.noise, self.policy_noise, strict=True):
                da = s @ dK.T + db + own_input * ds @ self.K.T
                a = s @ self.K.T + self.b + policy_noise
                s, ds = s @ self.A.T + a @ self.B.T + noise, ds @ self.A.T + da @ self.B.T
                reward.append(ds @ self.c - self.q * (s @ self.d) * (ds @ self.d))
                value.append(ds @ self.u)
            total = 0.0
            for tau in range(self.HORIZON - 1):
                # The mixture of eq. 6: k-step returns, the last with all the weight that is left.
                longest = self.HORIZON - 1 - tau
                mixture = 0.0
                for k in range(1, longest + 1):
                    share = lambda_ ** (k - 1) * (1 - lambda_ if k < longest else 1)
                    rewards = sum(self.GAMMA**n * reward[tau + n] for n in range(k))
                    mixture = mixture + share * (rewards + self.GAMMA**k * value[tau + k])
                total += self.GAMMA**tau * mixture.sum()
            gradients.append(-total / ((self.HORIZON - 1) * self.STARTS))
        return np.array(gradients[: self.K.size]).reshape(self.K.shape), np.array(gradients[self.K.size :])


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_actor_gradient_through_a_linear_world_is_the_analytic_one(lambda_):
    """The gradient goes through actions and dynamics, but not through what the policy sees."""
    world = LinearWorld()
    result = world.tensorflow_gradient(lambda_)
    for computed, expected in zip(result, world.analytic_gradient(lambda_, own_input=False), strict=True):
        np.testing.assert_allclose(computed, expected, rtol=1e-10)
    through_input = world.analytic_gradient(lambda_, own_input=True)
    assert np.abs(result[0] - through_input[0]).max() > 0.01


def test_following_the_actor_gradient_raises_imagined_returns():
    world = LinearWorld()

    def mean_return():
        s, total = world.start, 0.0
        for step in range(world.HORIZON):
            a = s @ world.K.T + world.b + world.policy_noise[step]
            s = s @ world.A.T + a @ world.B.T + world.noise[step]
            total += world.GAMMA**step * (s @ world.c - 0.5 * world.q * (s @ world.d) ** 2).mean()
        return total

    before = mean_return()
    world.u = np.zeros(3)
    world.b = world.b - 0.01 * world.tensorflow_gradient(1.0)[1]
    assert mean_return() > before

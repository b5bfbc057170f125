"""The cross-entropy method against NumPy, and on problems whose solution is known."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.behavior.actor_critic import Value
from dreamer.behavior.planner import plan, predicted_return
from dreamer.behavior.returns import lambda_return
from dreamer.nets.layers import seed_stream
from dreamer.types import State
from dreamer.world_model.rssm import feature, time_major
from dreamer.world_model.world_model import WorldModel

BATCH, HORIZON, ACTIONS, GAMMA = 3, 4, 2, 0.9


def draw(iterations, candidates, seed=0):
    return np.random.default_rng(seed).normal(size=(iterations, BATCH, candidates, HORIZON, ACTIONS))


def planned(evaluate, noise, best):
    """`plan`, where evaluating is not random."""
    return plan(lambda candidates, seed: evaluate(candidates), noise, np.zeros([len(noise), 2], np.int64), best)


def planned_in_numpy(evaluate, noise, best):
    """PlaNet, Algorithm 2, one starting point after the other."""
    plans = []
    for point in range(noise.shape[1]):
        mean, std = np.zeros(noise.shape[3:]), np.ones(noise.shape[3:])
        for draws in noise[:, point]:
            candidates = np.clip(mean + std * draws, -1, 1)
            order = np.argsort([-evaluate(point, candidate) for candidate in candidates])
            elite = candidates[order[:best]]
            mean, std = elite.mean(0), np.sqrt(((elite - elite.mean(0)) ** 2).mean(0))
        plans.append(mean)
    return np.stack(plans)


def squared(targets):
    """Returns that are highest where the plan of point b equals targets[b], for TensorFlow and for NumPy."""
    return (
        lambda candidates: -tf.reduce_sum(tf.square(candidates - targets[:, None]), [2, 3]),
        lambda point, candidate: -np.square(candidate - targets[point]).sum(),
    )


@pytest.mark.parametrize(("iterations", "candidates", "best"), [(1, 5, 1), (1, 5, 5), (3, 7, 2)])
def test_plans_equal_numpy(iterations, candidates, best):
    targets = np.random.default_rng(1).normal(size=(BATCH, HORIZON, ACTIONS))
    evaluate, alone = squared(targets)
    noise = 1.5 * draw(iterations, candidates)  # Wide enough that some actions have to be clipped.
    np.testing.assert_allclose(planned(evaluate, noise, best), planned_in_numpy(alone, noise, best), atol=1e-12)


def test_plans_come_to_the_best_point_within_bounds():
    targets = np.random.default_rng(1).uniform(-0.9, 0.9, size=(BATCH, HORIZON, ACTIONS))
    targets[0, 1] = 3.0, -2.0
    result = planned(squared(targets)[0], draw(15, 300), 30)
    np.testing.assert_allclose(result, np.clip(targets, -1, 1), atol=0.05)


def test_a_later_reward_outweighs_what_leads_to_it():
    """A high first action costs, and only with it a high last one gains more."""

    def evaluate(candidates):
        first, last = candidates[:, :, 0, 0], candidates[:, :, -1, 0]
        return -0.1 * first + tf.cast((first > 0.5) & (last > 0.5), first.dtype)

    result = planned(evaluate, draw(10, 200), 20)
    assert np.all(result[:, 0, 0] > 0.5)
    assert np.all(result[:, -1, 0] > 0.5)


def test_candidates_stay_within_bounds_and_keep_to_their_point():
    seen = []

    def evaluate(candidates):
        seen.append(candidates.shape)
        tf.debugging.assert_less_equal(tf.abs(candidates), tf.ones([], candidates.dtype))
        return tf.reduce_sum(candidates, [2, 3])

    noise = 3 * draw(2, 6)
    together = planned(evaluate, noise, 2)
    assert set(map(tuple, seen)) == {(BATCH, 6, HORIZON, ACTIONS)}
    for point in range(BATCH):
        np.testing.assert_array_equal(planned(evaluate, noise[:, point : point + 1], 2)[0], together[point])


def test_every_iteration_evaluates_with_a_seed_of_its_own():
    noise = draw(2, 200)

    def evaluate(candidates, seed):
        return -tf.reduce_sum(tf.square(candidates - 0.1 * tf.cast(seed[1], tf.float64)), [2, 3])

    mixed, first, second = (
        plan(evaluate, noise, np.int64([[0, a], [0, b]]), 5) for a, b in ((5, -5), (5, 5), (-5, -5))
    )
    assert np.abs(mixed - first).max() > 0.05
    assert np.abs(mixed - second).max() > 0.05


@pytest.fixture(scope="module")
def world():
    """A world model of a few units, and a value network."""
    model = WorldModel(
        ACTIONS,
        gamma=GAMMA,
        seeds=seed_stream(0),
        probe_seeds=seed_stream(1),
        **{"deter": 8, "stoch": 4, "hidden": 16, "min_std": 0.1, "conv_depth": 1, "units": 16, "reward_layers": 2},
        **{
            "vector_layers": 1,
            "vector_std": 0.1,
            "observation": "none",
            "probe_decoder": False,
            "discount_head": True,
            "discount_layers": 1,
        },
        **{"discount_scale": 1.0, "kl_scale": 1.0, "free_nats": 0.0, "free_nats_per": "mean"},
    )
    return model, Value(12, layers=1, units=16, seeds=seed_stream(2))


def of(head):
    """A function of features as one of states."""
    return lambda state: head(feature(state))


def numpy_mlp(layers, x, out):
    """Dense layers of ELU and a linear one, in float64: [F] -> []."""
    for layer in layers:
        x = x @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()
        x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    return (x @ out.kernel.numpy().astype(np.float64) + out.bias.numpy())[0]


def numpy_step(rssm, stoch, deter, action, noise):
    """One imagined step of one state in float64: the new (stoch, deter)."""

    def dense(layer, x):
        return x @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()

    def elu(x):
        return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    x = elu(dense(rssm.input_layer, np.concatenate([stoch, action])))
    kernel, recurrent, bias = (
        w.numpy().astype(np.float64) for w in (rssm.gru.kernel, rssm.gru.recurrent_kernel, rssm.gru.bias)
    )
    (zx, rx, cx), (zh, rh, ch) = np.split(x @ kernel + bias[0], 3), np.split(deter @ recurrent + bias[1], 3)
    update = sigmoid(zx + zh)
    deter = update * deter + (1 - update) * np.tanh(cx + sigmoid(rx + rh) * ch)
    mean, std = np.split(dense(rssm.prior_out, elu(dense(rssm.prior_hidden, deter))), 2)
    return mean + (np.log1p(np.exp(std)) + 0.1) * noise, deter


def numpy_return(world, point, actions, noise, *, with_value):
    """The return of one plan from one state, in float64: a sum of rewards, or eq. 5 with k = H."""
    model, value = world
    (stoch, deter), total, weight = point, 0.0, 1.0
    for step, (action, draw) in enumerate(zip(actions, noise, strict=True)):
        stoch, deter = numpy_step(model.rssm, stoch, deter, action, draw)
        features = np.concatenate([stoch, deter])
        if with_value and step == len(actions) - 1:
            return total + weight * numpy_mlp(value.mlp.hidden, features, value.mlp.out)
        total += weight * numpy_mlp(model.reward_head.hidden, features, model.reward_head.out)
        if with_value:
            logit = numpy_mlp(model.discount_head.hidden, features, model.discount_head.out)
            weight /= 1 + np.exp(-logit)
    return total


@pytest.mark.parametrize("with_value", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_plans_in_a_world_model_equal_numpy(world, batch, with_value):
    """Three iterations of PlaNet's Algorithm 2 in a random world model, one start and one candidate after the other."""
    rng, candidates, best, iterations = np.random.default_rng(batch), 12, 4, 3
    stoch, deter = rng.normal(size=(batch, 4)), np.tanh(rng.normal(size=(batch, 8)))
    noise = rng.normal(size=(iterations, batch, candidates, HORIZON, ACTIONS))
    dreams = rng.normal(size=(iterations, batch, candidates, HORIZON, 4))
    model, value = world
    judged = {"discount": of(model.discount), "value": of(value)} if with_value else {}
    start = State(*(tf.constant(np.repeat(x, candidates, 0), tf.float32) for x in (stoch, stoch, stoch, deter)))

    def evaluate(actions, seed):
        flat = tf.reshape(tf.cast(actions, tf.float32), [-1, HORIZON, ACTIONS])
        draws = tf.reshape(tf.gather(tf.constant(dreams, tf.float32), seed[0]), [-1, HORIZON, 4])
        returns = predicted_return(model.rssm.img_step, of(model.reward), start, flat, draws, **judged)
        return tf.reshape(returns, [batch, candidates])

    turns = tf.constant([[turn, 0] for turn in range(iterations)])
    together = tf.function(plan)(evaluate, tf.constant(noise, tf.float32), turns, best)
    for point in range(batch):
        mean, std = np.zeros((HORIZON, ACTIONS)), np.ones((HORIZON, ACTIONS))
        for turn in range(iterations):
            plans = np.clip(mean + std * noise[turn, point], -1, 1)
            returns = [
                numpy_return(world, (stoch[point], deter[point]), actions, draws, with_value=with_value)
                for actions, draws in zip(plans, dreams[turn, point], strict=True)
            ]
            elite = plans[np.argsort(returns)[-best:]]
            mean, std = elite.mean(0), elite.std(0)
        np.testing.assert_allclose(together[point], mean, atol=1e-5)


def test_the_return_with_a_value_is_eq_5(world):
    """It equals the lambda-return of lambda 1, whose last imagined reward is part of the last value."""
    model, value = world
    rng = np.random.default_rng(0)
    start = State(*(tf.constant(rng.normal(size=(5, size)), tf.float32) for size in (4, 4, 4, 8)))
    actions = tf.constant(rng.uniform(-1, 1, (5, HORIZON, ACTIONS)), tf.float32)
    noise = tf.constant(rng.normal(size=(5, HORIZON, 4)), tf.float32)
    features = time_major(feature(model.rssm.imagine(start, actions, noise)))
    expected = lambda_return(model.reward(features), value(features), model.discount(features), 1.0)[0]
    heads = {"discount": of(model.discount), "value": of(value)}
    returns = predicted_return(model.rssm.img_step, of(model.reward), start, actions, noise, **heads)
    np.testing.assert_allclose(returns, expected, rtol=1e-5)

"""The cross-entropy method against NumPy, and on problems whose solution is known."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.behavior.planner import plan

BATCH, HORIZON, ACTIONS = 3, 4, 2


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

"""Returns against the paper's own sums (eqs. 4-6), not against the recursion that computes them."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.behavior.returns import lambda_return, reward_sum, trajectory_weights

BATCH = 3


def trajectory(horizon, terminal=None, seed=0):
    """reward, value, discount, each [H, B] float64; `terminal` (tau, element) has discount 0."""
    rng = np.random.default_rng(seed)
    reward, value = rng.normal(size=(2, horizon, BATCH))
    discount = rng.uniform(0.5, 1.0, (horizon, BATCH))
    if terminal:
        discount[terminal[0] - 1, terminal[1]] = 0.0
    return reward, value, discount


def k_step_return(reward, value, discount, tau, k):
    """V_N^k of eq. 5, tau counted from 1: rewards up to h = min(tau + k, H), then the value of h."""
    end = min(tau + k, len(value))
    total, factor = np.zeros(reward.shape[1:]), np.ones(reward.shape[1:])
    for n in range(tau, end):
        total = total + factor * reward[n - 1]
        factor = factor * discount[n - 1]
    return total + factor * value[end - 1]


def brute_force(reward, value, discount, lambda_):
    """V_lambda of eq. 6 for tau = 1 .. H - 1, as the mixture of k-step returns for k = 1 .. H."""
    horizon = len(value)
    returns = []
    for tau in range(1, horizon):
        steps = [k_step_return(reward, value, discount, tau, k) for k in range(1, horizon + 1)]
        mixture = sum((1 - lambda_) * lambda_ ** (n - 1) * steps[n - 1] for n in range(1, horizon))
        returns.append(mixture + lambda_ ** (horizon - 1) * steps[horizon - 1])
    return np.stack(returns)


def computed(reward, value, discount, lambda_):
    return lambda_return(*(tf.constant(x, tf.float64) for x in (reward, value, discount)), lambda_).numpy()


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
@pytest.mark.parametrize(("horizon", "terminal"), [(2, None), (2, (1, 1)), (5, None), (5, (2, 1)), (5, (4, 2))])
def test_lambda_return_equals_the_sum_over_k_step_returns(horizon, terminal, lambda_):
    data = trajectory(horizon, terminal)
    result = computed(*data, lambda_)
    assert result.shape == (horizon - 1, BATCH)
    np.testing.assert_allclose(result, brute_force(*data, lambda_), rtol=1e-12)


def test_lambda_return_by_hand():
    """Horizon 3, two trajectories: V_2 = r_2 + g_2 v_3 and V_1 = r_1 + g_1 (v_2 + V_2) / 2 with lambda 0.5."""
    reward = np.array([[1.0, -1.0], [2.0, 0.0], [100.0, 100.0]])
    value = np.array([[100.0, 100.0], [4.0, 8.0], [10.0, -4.0]])
    discount = np.array([[0.5, 1.0], [0.9, 0.5], [100.0, 100.0]])
    # V_2 = 2 + 9 and 0 - 2; V_1 = 1 + 0.5 (4 + 11) / 2 and -1 + (8 - 2) / 2.
    np.testing.assert_allclose(computed(reward, value, discount, 0.5), [[4.75, 2.0], [11.0, -2.0]])


def test_the_bootstrap_is_the_last_value():
    """Bootstrapping from v_{H-1} instead is the classic mistake."""
    reward, value, discount = np.zeros((4, 2)), np.array([[9.0], [9.0], [9.0], [7.0]]) * [[1, 2]], np.ones((4, 2))
    np.testing.assert_allclose(computed(reward, value, discount, 1.0), [[7, 14]] * 3)
    np.testing.assert_allclose(computed(reward, value, discount, 0.0), [[9, 18], [9, 18], [7, 14]])


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_nothing_behind_a_terminal_counts(lambda_):
    reward, value, discount = trajectory(5, terminal=(2, 1))
    changed_reward, changed_value = reward.copy(), value.copy()
    changed_reward[2:, 1] += 50
    changed_value[2:, 1] -= 70
    before = computed(reward, value, discount, lambda_)
    after = computed(changed_reward, changed_value, discount, lambda_)
    np.testing.assert_array_equal(before[:2], after[:2])
    np.testing.assert_allclose(before[1, 1], reward[1, 1])
    assert (before[2:, 1] != after[2:, 1]).all()


def test_the_last_reward_and_discount_and_the_first_value_are_unused():
    reward, value, discount = trajectory(4)
    before = computed(reward, value, discount, 0.95)
    reward[-1], discount[-1], value[0] = 1e6, 1e6, 1e6
    np.testing.assert_array_equal(before, computed(reward, value, discount, 0.95))


def test_gradients_reach_rewards_values_and_discounts():
    """dV_1 / dr_3 = (lambda g)^2 and dV_1 / dv_2 = g (1 - lambda), with g constant."""
    g, lambda_ = 0.9, 0.8
    reward, value, discount = (tf.Variable(x) for x in (np.ones((4, 2)), np.ones((4, 2)), np.full((4, 2), g)))
    with tf.GradientTape() as tape:
        first = lambda_return(reward, value, discount, lambda_)[0]
    by_reward, by_value, by_discount = tape.gradient(first, [reward, value, discount])
    chain = lambda_ * g
    np.testing.assert_allclose(by_reward[:, 0], [1, chain, chain**2, 0])
    np.testing.assert_allclose(by_value[:, 1], [0, g * (1 - lambda_), chain * g * (1 - lambda_), chain**2 * g])
    assert (by_discount[:3].numpy() > 0).all()


@pytest.mark.parametrize("horizon", [2, 15])
def test_the_sum_of_all_imagined_rewards(horizon):
    """Eq. 4 with r = 1: H. Without r_H and with weights it would be 13.13 for H = 15, discounted 13.99."""
    ones = np.ones((horizon, 3))
    np.testing.assert_allclose(reward_sum(ones * [1, 2, -1], ones), horizon * np.array([1.0, 2.0, -1.0]))


def test_the_sum_of_rewards_that_may_not_be_reached():
    """1 + 0.5 (2 + 0.4 * 4), whatever follows the last; the second one ends at once."""
    reward = np.array([[1.0, 7.0], [2.0, 7.0], [4.0, 7.0]])
    going_on = np.array([[0.5, 0.0], [0.4, 1.0], [0.1, 1.0]])
    np.testing.assert_allclose(reward_sum(reward, going_on), [2.8, 7.0])


def test_every_imagined_reward_has_its_gradient_and_no_end_has_any():
    reward, going_on = (tf.Variable(x) for x in (np.ones((4, 2)), np.full((4, 2), 0.5)))
    with tf.GradientTape() as tape:
        total = reward_sum(reward, going_on)
    by_reward, by_end = tape.gradient(total, [reward, going_on])
    np.testing.assert_allclose(by_reward[:, 1], [1, 0.5, 0.25, 0.125])
    assert by_end is None


def test_weights_by_hand():
    discount = tf.constant([[0.5, 1.0], [0.9, 0.0], [0.2, 0.7], [0.3, 0.7], [0.4, 0.9]])
    expected = [[1, 1], [0.5, 1], [0.45, 0], [0.09, 0]]
    np.testing.assert_allclose(trajectory_weights(discount), expected, rtol=1e-6)


def test_weights_of_the_shortest_horizon():
    np.testing.assert_array_equal(trajectory_weights(tf.constant([[0.5, 0.1], [0.9, 0.2]])), [[1, 1]])


def test_weights_have_no_gradient():
    discount = tf.Variable(np.full((4, 2), 0.9))
    with tf.GradientTape() as tape:
        weights = trajectory_weights(discount)
        total = tf.reduce_sum(weights)
    assert tape.gradient(total, discount) is None

"""The RSSM: single steps against float64 NumPy, rollouts against steps by hand, and what may depend on what."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.layers import seed_stream
from dreamer.types import State
from dreamer.world_model.rssm import RSSM, feature, time_major

STOCH, DETER, HIDDEN, ACTIONS, EMBED, MIN_STD = 4, 8, 16, 3, 10, 0.1
B, T = 3, 5
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def rssm():
    rssm = RSSM(ACTIONS, EMBED, stoch=STOCH, deter=DETER, hidden=HIDDEN, min_std=MIN_STD, seeds=seed_stream(0))
    rng = np.random.default_rng(1)
    for variable in rssm.trainable_variables:  # Biases too.
        variable.assign(0.4 * rng.normal(size=variable.shape))
    return rssm


def normals(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def sequences():
    """embed, action, noise, each [B, T, ...]."""
    return normals(B, T, EMBED, seed=1), normals(B, T, ACTIONS, seed=2), normals(B, T, STOCH, seed=3)


def firsts(length=T, also=()):
    """is_first [B, length]: every sequence begins at step 0, and at the (sequence, step) pairs of `also`."""
    is_first = np.zeros((B, length), bool)
    is_first[:, 0] = True
    for place in also:
        is_first[place] = True
    return tf.constant(is_first)


def some_state(rows, seed=4):
    mean, stoch, deter = normals(rows, STOCH, seed=seed), normals(rows, STOCH, seed=seed + 1), normals(rows, DETER)
    return State(mean, tf.abs(mean) + 0.1, stoch, tf.tanh(deter))


def at(nested, t):
    return tf.nest.map_structure(lambda x: x[:, t], nested)


def assert_states_close(one, other, **tolerance):
    for name, a, b in zip(State._fields, one, other, strict=True):
        np.testing.assert_allclose(a, b, err_msg=name, **(tolerance or CLOSE))


# Reference in float64


def float64(x):
    return np.asarray(x, np.float64)


def numpy_dense(layer, x, elu=True):
    x = x @ float64(layer.kernel) + float64(layer.bias)
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0))) if elu else x


def numpy_transition(rssm, stoch, deter, action):
    x = numpy_dense(rssm.input_layer, np.concatenate([stoch, action], -1))
    kernel, recurrent, bias = (float64(w) for w in (rssm.gru.kernel, rssm.gru.recurrent_kernel, rssm.gru.bias))
    xz, xr, xc = np.split(x @ kernel + bias[0], 3, -1)
    hz, hr, hc = np.split(deter @ recurrent + bias[1], 3, -1)
    update, reset = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
    return update * deter + (1 - update) * np.tanh(xc + reset * hc)


def numpy_gaussian(hidden, out, x):
    mean, raw = np.split(numpy_dense(out, numpy_dense(hidden, x), elu=False), 2, -1)
    return mean, np.log1p(np.exp(raw)) + MIN_STD


def numpy_prior(rssm, deter):
    return numpy_gaussian(rssm.prior_hidden, rssm.prior_out, deter)


def numpy_posterior(rssm, deter, embed):
    return numpy_gaussian(rssm.posterior_hidden, rssm.posterior_out, np.concatenate([deter, embed], -1))


# Single steps


def test_feature_is_stoch_then_deter():
    state = some_state(2)
    np.testing.assert_array_equal(feature(state), np.concatenate([state.stoch, state.deter], -1))


def test_time_major_swaps_batch_and_time():
    tensor = normals(2, 3, 4)
    np.testing.assert_array_equal(time_major(tensor), np.swapaxes(tensor, 0, 1))
    np.testing.assert_array_equal(time_major(time_major(tensor)), tensor)


def test_initial_state_is_zero(rssm):
    for name, field in zip(State._fields, rssm.initial(3), strict=True):
        np.testing.assert_array_equal(field, np.zeros((3, DETER if name == "deter" else STOCH)))


def test_img_step_equals_numpy(rssm):
    state, action, noise = some_state(B), normals(B, ACTIONS, seed=8), normals(B, STOCH, seed=9)
    deter = numpy_transition(rssm, float64(state.stoch), float64(state.deter), float64(action))
    mean, std = numpy_prior(rssm, deter)
    expected = State(mean, std, mean + std * float64(noise), deter)
    assert_states_close(rssm.img_step(state, action, noise), expected)


def test_obs_step_equals_numpy(rssm):
    state, action, noise = some_state(B), normals(B, ACTIONS, seed=8), normals(B, STOCH, seed=9)
    embed, is_first = normals(B, EMBED, seed=10), np.array([False, True, False])
    keep = 1.0 - is_first[:, None]
    deter = numpy_transition(rssm, keep * float64(state.stoch), keep * float64(state.deter), float64(action))
    mean, std = numpy_posterior(rssm, deter, float64(embed))
    expected = State(mean, std, mean + std * float64(noise), deter)
    assert_states_close(rssm.obs_step(state, action, embed, is_first, noise), expected)


# Rollouts


def test_observe_equals_steps_by_hand(rssm):
    embed, action, noise = sequences()
    is_first = firsts(also=[(1, 3)])
    posterior, (prior_mean, prior_std) = rssm.observe(embed, action, is_first, noise)
    assert [x.shape for x in posterior] == 3 * [(B, T, STOCH)] + [(B, T, DETER)]
    state = rssm.initial(B)
    for t in range(T):
        reset = tf.nest.map_structure(lambda x, t=t: tf.where(is_first[:, t, None], tf.zeros_like(x), x), state)
        imagined = rssm.img_step(reset, action[:, t], noise[:, t])
        np.testing.assert_allclose(prior_mean[:, t], imagined.mean, **CLOSE)
        np.testing.assert_allclose(prior_std[:, t], imagined.std, **CLOSE)
        state = rssm.obs_step(state, action[:, t], embed[:, t], is_first[:, t], noise[:, t])
        assert_states_close(at(posterior, t), state)
        np.testing.assert_allclose(imagined.deter, state.deter, **CLOSE)


def test_prior_reads_the_deter_of_its_own_step(rssm):
    embed, action, noise = sequences()
    posterior, (mean, std) = rssm.observe(embed, action, firsts(), noise)
    expected_mean, expected_std = numpy_prior(rssm, float64(posterior.deter))
    np.testing.assert_allclose(mean, expected_mean, **CLOSE)
    np.testing.assert_allclose(std, expected_std, **CLOSE)


def test_imagine_equals_steps_by_hand(rssm):
    _, action, noise = sequences()
    start = some_state(B)
    states = rssm.imagine(start, action, noise)
    state = start
    for t in range(T):
        state = rssm.img_step(state, action[:, t], noise[:, t])
        assert_states_close(at(states, t), state)


def test_is_first_inside_a_window_restarts_the_filter(rssm):
    embed, action, noise = sequences()
    is_first = firsts(also=[(slice(None), 2)])
    posterior, prior = rssm.observe(embed, action, is_first, noise)
    alone = rssm.observe(embed[:, 2:], action[:, 2:], firsts(T - 2), noise[:, 2:])
    for a, b in zip(tf.nest.flatten((posterior, prior)), tf.nest.flatten(alone), strict=True):
        np.testing.assert_allclose(a[:, 2:], b, rtol=1e-5, atol=1e-6)
    # Without the reset they differ, so that the comparison means something.
    running, _ = rssm.observe(embed, action, firsts(), noise)
    assert np.abs(running.deter[:, 2:] - alone[0].deter).max() > 0.01


def test_no_gradient_crosses_is_first(rssm):
    embed, action, noise = sequences()
    is_first = firsts(also=[(1, 2)])
    with tf.GradientTape() as tape:
        tape.watch((embed, action))
        posterior, (prior_mean, _) = rssm.observe(embed, action, is_first, noise)
        later = tf.reduce_sum(feature(posterior)[:, 2:] ** 2) + tf.reduce_sum(prior_mean[:, 2:] ** 2)
    for gradient in tape.gradient(later, (embed, action)):
        before = np.abs(gradient[:, :2]).max((1, 2))
        assert before[1] == 0
        assert (before[[0, 2]] > 0).all()
        assert np.abs(gradient[:, 2:]).max((1, 2)).min() > 0


def changed_steps(one, other):
    """Steps [T] at which any element of two rollouts [B, T, ...] differs."""
    return [t for t in range(T) if not np.array_equal(one[:, t], other[:, t])]


@pytest.mark.parametrize("t", [0, 2, 4])
def test_what_an_action_an_image_and_noise_change(rssm, t):
    """Action t moves h_t, image t and noise t move z_t and only from t + 1 on h; nothing moves what came before."""
    embed, action, noise = sequences()
    is_first = firsts()
    delta = tf.one_hot(t, T)[None, :, None]
    base, (base_mean, _) = rssm.observe(embed, action, is_first, noise)
    from_t, after_t = list(range(t, T)), list(range(t + 1, T))

    state, (mean, _) = rssm.observe(embed, action + delta, is_first, noise)
    assert changed_steps(state.deter, base.deter) == from_t
    assert changed_steps(mean, base_mean) == from_t
    assert changed_steps(state.mean, base.mean) == from_t

    state, (mean, _) = rssm.observe(embed + delta, action, is_first, noise)
    assert changed_steps(state.mean, base.mean) == from_t
    assert changed_steps(state.stoch, base.stoch) == from_t
    assert changed_steps(state.deter, base.deter) == after_t
    assert changed_steps(mean, base_mean) == after_t

    state, _ = rssm.observe(embed, action, is_first, noise + delta)
    assert changed_steps(state.mean, base.mean) == after_t
    assert changed_steps(state.stoch, base.stoch) == from_t
    assert changed_steps(state.deter, base.deter) == after_t


def test_sequences_of_a_batch_do_not_mix(rssm):
    embed, action, noise = sequences()
    is_first = firsts()
    whole, _ = rssm.observe(embed, action, is_first, noise)
    for element in range(B):
        one = slice(element, element + 1)
        alone, _ = rssm.observe(embed[one], action[one], is_first[one], noise[one])
        assert_states_close(alone, tf.nest.map_structure(lambda x, one=one: x[one], whole))


def test_samples_carry_gradients_to_mean_and_standard_deviation(rssm):
    """Noise 0 leaves the mean: only with noise does a sample depend on the standard deviation."""
    state, action, embed = some_state(B), normals(B, ACTIONS), normals(B, EMBED)
    for noise, moves in ((tf.zeros([B, STOCH]), False), (tf.ones([B, STOCH]), True)):
        for step, out in (
            (lambda noise: rssm.img_step(state, action, noise), rssm.prior_out),
            (lambda noise: rssm.obs_step(state, action, embed, np.zeros(B, bool), noise), rssm.posterior_out),
        ):
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(step(noise).stoch)
            by_mean, by_std = np.split(tape.gradient(total, out.bias), 2)
            np.testing.assert_allclose(by_mean, np.full(STOCH, B), rtol=1e-5)
            assert (by_std > 0).all() == moves


def test_states_are_float32_in_bfloat16(precision):
    precision("mixed_bfloat16")
    rssm = RSSM(ACTIONS, EMBED, stoch=STOCH, deter=DETER, hidden=HIDDEN, min_std=MIN_STD, seeds=seed_stream(0))
    embed, action, noise = sequences()
    posterior, prior = rssm.observe(tf.cast(embed, tf.bfloat16), action, firsts(), noise)
    imagined = rssm.imagine(rssm.initial(B), action, noise)
    assert {x.dtype for x in tf.nest.flatten((posterior, prior, imagined))} == {tf.float32}

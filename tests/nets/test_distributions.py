"""Distributions against float64 NumPy: closed forms, change of variables and numerical integration."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.distributions import OneHot, TanhNormal, bernoulli, normal, unit_normal_log_prob

SEED = [3, 5]
LARGEST_BELOW_ONE = 1 - 2.0**-24


def constant(values):
    return tf.constant(values, tf.float32)


def normal_log_prob(x, mean, std):
    """ln N(x; mean, std) in float64."""
    x, mean, std = (np.asarray(v, np.float64) for v in (x, mean, std))
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def log_slope(x):
    """ln(1 - tanh(x)^2) in float64; 4 e^-2|x| / (1 + e^-2|x|)^2 is the same without cancellation."""
    decay = np.exp(-2 * np.abs(x))
    return np.log(4 * decay) - 2 * np.log1p(decay)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# Normal and Bernoulli


@pytest.mark.parametrize("event_ndims", [0, 1, 3])
def test_normal_sums_over_the_event_dimensions(event_ndims):
    rng = np.random.default_rng(0)
    x, mean = rng.normal(size=(2, 2, 3, 4, 5))
    std = rng.uniform(0.1, 2, x.shape)
    expected = normal_log_prob(x, mean, std)
    if event_ndims:
        expected = expected.sum(tuple(range(-event_ndims, 0)))
    result = normal(constant(mean), constant(std), event_ndims).log_prob(constant(x))
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=1e-5)


def test_normal_has_unit_variance_by_default():
    result = normal(constant([[0.0, 1.0], [2.0, 2.0]])).log_prob(constant([[0.0, 1.0], [2.0, 5.0]]))
    np.testing.assert_allclose(result, [-math.log(2 * math.pi), -math.log(2 * math.pi) - 4.5], rtol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_normal_computes_in_float32_from_rounded_parameters(dtype):
    """An image's log-likelihood near -1e4 would come in steps of 8 (float16) or 64 (bfloat16)."""
    mean = tf.cast(tf.fill([2, 64, 64, 3], 0.3), dtype)
    image = tf.zeros([2, 64, 64, 3]) + tf.constant([0.3, 0.31])[:, None, None, None]
    result = normal(mean, event_ndims=3).log_prob(image)
    assert result.dtype == tf.float32
    expected = normal_log_prob(image, tf.cast(mean, tf.float32), 1).sum((1, 2, 3))
    np.testing.assert_allclose(result, expected, atol=0.05)
    assert abs(expected[0] + 11291.93) < 0.05


@pytest.mark.parametrize("event_ndims", [1, 3])
def test_unit_normal_log_prob_and_its_gradients(event_ndims):
    rng = np.random.default_rng(1)
    x, mean = rng.normal(size=(2, 2, 3, 4, 5))
    event = tuple(range(-event_ndims, 0))
    upstream = rng.normal(size=x.shape[:-event_ndims])
    mean_, x_ = constant(mean), constant(x)
    with tf.GradientTape() as tape:
        tape.watch([mean_, x_])
        result = unit_normal_log_prob(mean_, x_, event_ndims)
    np.testing.assert_allclose(result, normal_log_prob(x, mean, 1.0).sum(event), rtol=1e-5)
    to_mean, to_x = tape.gradient(result, [mean_, x_], constant(upstream))
    expected = np.expand_dims(upstream, event) * (x - mean)
    np.testing.assert_allclose(to_mean, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_x, -expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_unit_normal_log_prob_computes_in_float32_from_a_rounded_mean(dtype):
    mean = tf.cast(tf.fill([2, 64, 64, 3], 0.3), dtype)
    image = tf.zeros([2, 64, 64, 3]) + tf.constant([0.3, 0.31])[:, None, None, None]
    result = unit_normal_log_prob(mean, image, 3)
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, normal_log_prob(image, tf.cast(mean, tf.float32), 1).sum((1, 2, 3)), atol=0.005)


def test_bernoulli_takes_soft_targets():
    logit = np.array([[-3.0, 0.0, 2.0], [0.5, -1.0, 4.0]])
    target = np.array([[0.0, 0.99, 0.99], [1.0, 0.5, 0.0]])
    probability = 1 / (1 + np.exp(-logit))
    expected = target * np.log(probability) + (1 - target) * np.log(1 - probability)
    result = bernoulli(constant(logit)).log_prob(constant(target))
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert bernoulli(tf.cast(logit, tf.bfloat16)).log_prob(constant(target)).dtype == tf.float32


def test_bernoulli_survives_extreme_logits():
    logit = tf.Variable([[200.0, -200.0], [200.0, -200.0]])
    with tf.GradientTape() as tape:
        result = bernoulli(logit).log_prob(constant([[0.99, 0.99], [0.0, 0.0]]))
    np.testing.assert_allclose(result, [[-2.0, -198.0], [-200.0, 0.0]], rtol=1e-4, atol=1e-6)
    # Target minus probability.
    np.testing.assert_allclose(tape.gradient(result, logit), [[-0.01, 0.99], [-1.0, 0.0]], atol=1e-6)


# TanhNormal


def test_tanh_normal_log_prob_by_change_of_variables():
    mean = np.array([[0.0, 0.5], [-2.0, 3.0], [4.9, -4.9]])
    std = np.array([[1.0, 0.3], [5.0, 0.1], [0.5, 2.0]])
    action = np.array([[0.0, 0.4], [-0.999, 0.99], [0.9999, -0.9999]], np.float32)
    before = np.arctanh(action.astype(np.float64))
    expected = (normal_log_prob(before, mean, std) - np.log(1 - action.astype(np.float64) ** 2)).sum(-1)
    result = TanhNormal(constant(mean), constant(std)).log_prob(constant(action))
    assert result.shape == (3,)
    np.testing.assert_allclose(result, expected, rtol=2e-4, atol=1e-4)


def test_tanh_normal_at_the_border_counts_as_the_float32_number_next_to_it():
    mean, std = tf.Variable([[0.3, -0.2], [5.0, -5.0], [0.0, 0.0]]), tf.Variable([[1.0, 2.0], [0.5, 5.0], [5.0, 1e-4]])
    action = np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    before = np.arctanh(action * LARGEST_BELOW_ONE)  # 8.66
    expected = (normal_log_prob(before, mean, std) - log_slope(before)).sum(-1)
    inputs = constant(action)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = TanhNormal(mean, std).log_prob(inputs)
    np.testing.assert_allclose(result, expected, rtol=1e-3)
    gradients = tape.gradient(result, [mean, std, inputs])
    for gradient in gradients:
        assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradients[0][:2], ((before - mean) / np.square(std))[:2], rtol=1e-3)


def test_tanh_normal_log_prob_of_its_own_saturated_sample_is_finite():
    dist = TanhNormal(tf.fill([1000, 2], 5.0), tf.fill([1000, 2], 5.0))
    action = dist.sample(SEED)
    assert tf.reduce_any(action == 1.0)
    assert np.isfinite(dist.log_prob(action)).all()
    assert np.isfinite(dist.entropy(SEED)).all()


def test_tanh_normal_entropy_by_numerical_integration():
    mean, std = np.array([0.3, 2.0, -0.5]), np.array([0.8, 0.5, 3.0])
    expected = []
    for m, s in zip(mean, std, strict=True):
        x = np.linspace(m - 12 * s, m + 12 * s, 200_001)
        log_density = normal_log_prob(x, m, s)
        expected.append(-np.trapezoid(np.exp(log_density) * (log_density - log_slope(x)), x))
    result = TanhNormal(constant(mean)[:, None], constant(std)[:, None]).entropy(SEED, samples=40_000)
    assert result.shape == (3,)
    # One standard error is at most 0.02: that of 2 |x| for a standard deviation of 3 before the tanh, and some more.
    np.testing.assert_allclose(result, expected, atol=0.1)
    # Twice the same dimension, twice the entropy.
    both = TanhNormal(constant(np.stack([mean, mean], 1)), constant(np.stack([std, std], 1)))
    np.testing.assert_allclose(both.entropy(SEED, samples=40_000), 2 * np.array(expected), atol=0.2)


def test_tanh_normal_sample_is_reparameterised():
    mean, std = tf.Variable([[0.3, -1.0], [2.0, 0.0]]), tf.Variable([[0.5, 1.0], [0.2, 0.1]])
    with tf.GradientTape() as tape:
        action = TanhNormal(mean, std).sample(SEED)
    slope = 1 - np.square(action)
    noise = (np.arctanh(action) - mean) / std
    by_mean, by_std = tape.gradient(action, [mean, std])
    np.testing.assert_allclose(by_mean, slope, rtol=1e-4)
    np.testing.assert_allclose(by_std, slope * noise, rtol=1e-3, atol=1e-5)


def test_tanh_normal_sample_has_the_right_moments_and_follows_its_seed():
    mean, std = np.array([0.5, -2.0]), np.array([2.0, 0.3])
    dist = TanhNormal(tf.tile(constant(mean)[None], [20_000, 1]), tf.tile(constant(std)[None], [20_000, 1]))
    before = np.arctanh(np.clip(dist.sample(SEED), -LARGEST_BELOW_ONE, LARGEST_BELOW_ONE))
    np.testing.assert_allclose(before.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(before.std(0), std, rtol=0.03)
    np.testing.assert_array_equal(dist.sample(SEED), dist.sample(SEED))
    assert not np.array_equal(dist.sample(SEED), dist.sample([3, 6]))


def test_tanh_normal_mode_is_near_the_analytic_one_for_each_batch_element():
    """The density's maximum solves x = m + 2 s^2 tanh(x): it is further out than the mean."""
    mean, std = np.array([-2.0, 0.1, 2.5]), np.array([0.6, 0.4, 0.5])
    expected = mean
    for _ in range(200):
        expected = mean + 2 * std**2 * np.tanh(expected)
    for samples, bound in ((100, 0.25), (5000, 0.1)):
        result = TanhNormal(constant(mean)[:, None], constant(std)[:, None]).mode(SEED, samples)
        assert result.shape == (3, 1)
        assert np.abs(np.arctanh(result[:, 0]) - expected).max() < bound * std.max()


def test_tanh_normal_mode_is_the_likeliest_draw_of_each_batch_element():
    mean, std = np.array([[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]]), np.array([[0.5, 0.5], [0.6, 0.3], [0.4, 0.7]])
    samples = 100
    noise = tf.random.stateless_normal([samples, 3, 2], SEED).numpy().astype(np.float64)
    before = mean + std * noise
    likelihood = (normal_log_prob(before, mean, std) - log_slope(before)).sum(-1)  # [samples, 3]
    best = likelihood.argmax(0)
    assert len(set(best)) == 3, "one arg-max for the whole batch would pass unnoticed"
    expected = np.tanh([before[index, element] for element, index in enumerate(best)])
    result = TanhNormal(constant(mean), constant(std)).mode(SEED, samples)
    assert result.shape == (3, 2)
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_tanh_normal_mode_takes_more_batch_dimensions():
    mean = constant(np.linspace(-2, 2, 12).reshape(2, 3, 2))
    result = TanhNormal(mean, tf.fill([2, 3, 2], 1e-3)).mode(SEED)
    np.testing.assert_allclose(result, np.tanh(mean), atol=5e-3)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_tanh_normal_takes_small_floats_to_float32(dtype):
    mean, std = tf.cast([[4.9, -4.9], [0.1, 0.2]], dtype), tf.cast([[0.5, 0.5], [1e-2, 1e-2]], dtype)
    dist = TanhNormal(mean, std)
    same = TanhNormal(tf.cast(mean, tf.float32), tf.cast(std, tf.float32))
    action = dist.sample(SEED)
    results = {
        "sample": (action, same.sample(SEED)),
        "log_prob": (dist.log_prob(action), same.log_prob(action)),
        "entropy": (dist.entropy(SEED), same.entropy(SEED)),
        "mode": (dist.mode(SEED), same.mode(SEED)),
    }
    for name, (result, expected) in results.items():
        assert result.dtype == tf.float32, name
        np.testing.assert_array_equal(result, expected, name)
        assert np.isfinite(result).all(), name


# OneHot


LOGITS = np.array([[0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 8.0]])


def test_one_hot_sample_is_exactly_one_hot():
    logits = 3 * np.random.default_rng(0).normal(size=(5000, 5))
    sample = OneHot(constant(logits)).sample(SEED).numpy()
    assert set(np.unique(sample)) == {0.0, 1.0}
    np.testing.assert_array_equal(sample.sum(-1), 1)
    np.testing.assert_array_equal(sample, OneHot(constant(logits)).sample(SEED))


def test_one_hot_sample_frequencies_are_the_probabilities():
    count = 20_000
    sample = OneHot(tf.tile(constant(LOGITS)[:, None], [1, count, 1])).sample(SEED)
    expected = softmax(LOGITS)
    error = np.sqrt(expected * (1 - expected) / count)
    assert (np.abs(np.mean(sample, 1) - expected) < 4.5 * error + 1e-9).all()


def test_one_hot_gradient_is_that_of_the_probabilities():
    weight = np.random.default_rng(1).normal(size=LOGITS.shape)
    logits = tf.Variable(LOGITS, dtype=tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(constant(weight) * OneHot(logits).sample(SEED))
    probs = softmax(LOGITS)
    jacobian = probs[:, :, None] * np.eye(4) - probs[:, :, None] * probs[:, None, :]
    expected = np.einsum("bij,bj->bi", jacobian, weight)
    np.testing.assert_allclose(tape.gradient(total, logits), expected, rtol=1e-4, atol=1e-6)


def test_one_hot_log_prob_entropy_and_mode():
    probs = softmax(LOGITS)
    dist = OneHot(constant(LOGITS))
    actions = np.eye(4)[[2, 1, 3]]
    np.testing.assert_allclose(
        dist.log_prob(constant(actions)), np.log(probs)[range(3), [2, 1, 3]], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(dist.entropy(), -(probs * np.log(probs)).sum(-1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(dist.mode(), np.eye(4)[[1, 0, 3]])
    assert dist.mode().dtype == tf.float32


GROUPS = (2, 1, 3)
GROUPED = np.array([[0.0, 1.0, 5.0, -1.0, 0.5, 0.0], [2.0, -1.0, 0.0, 0.0, 0.0, 3.0], [0.3, 0.2, -9.0, 4.0, 1.0, 2.0]])


def test_groups_are_choices_that_are_made_independently():
    """log_prob and entropy are sums over the groups, by hand; the mode and a sample are one-hot in each."""
    dist = OneHot(constant(GROUPED), GROUPS)
    probs = [softmax(part) for part in (GROUPED[:, :2], GROUPED[:, 2:3], GROUPED[:, 3:])]
    chosen = np.array([[1, 0, 2], [0, 0, 0], [1, 0, 1]])
    actions = np.concatenate([np.eye(n)[chosen[:, g]] for g, n in enumerate(GROUPS)], -1)
    expected = sum(np.log(p)[range(3), chosen[:, g]] for g, p in enumerate(probs))
    np.testing.assert_allclose(dist.log_prob(constant(actions)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dist.entropy(), sum(-(p * np.log(p)).sum(-1) for p in probs), rtol=1e-5, atol=1e-6)
    best = [[1, 0, 1], [0, 0, 2], [0, 0, 0]]
    modes = np.stack([np.concatenate([np.eye(n)[row[g]] for g, n in enumerate(GROUPS)]) for row in best])
    np.testing.assert_array_equal(dist.mode(), modes)
    np.testing.assert_array_equal(dist.mode(SEED), modes)


def test_samples_of_groups_have_their_frequencies_and_gradients():
    count = 20_000
    logits = tf.tile(constant(GROUPED)[:, None], [1, count, 1])
    sample = OneHot(logits, GROUPS).sample(SEED).numpy()
    parts = np.split(sample, [2, 3], -1)
    for part, scores in zip(parts, np.split(GROUPED, [2, 3], -1), strict=True):
        np.testing.assert_array_equal(part.sum(-1), 1)
        probs = softmax(scores)
        error = np.sqrt(probs * (1 - probs) / count)
        assert (np.abs(part.mean(1) - probs) < 4.5 * error + 1e-9).all()
    # Independent of each other: the share of two choices together is the product of their shares.
    both = (parts[0][..., 1] * parts[2][..., 0]).mean(1)
    np.testing.assert_allclose(both, softmax(GROUPED[:, :2])[:, 1] * softmax(GROUPED[:, 3:])[:, 0], atol=0.015)
    weight, variable = np.random.default_rng(1).normal(size=GROUPED.shape), tf.Variable(GROUPED, dtype=tf.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(constant(weight) * OneHot(variable, GROUPS).sample(SEED))
    expected = []
    for scores, share in zip(np.split(GROUPED, [2, 3], -1), np.split(weight, [2, 3], -1), strict=True):
        p = softmax(scores)
        expected.append(p * (share - (p * share).sum(-1, keepdims=True)))
    np.testing.assert_allclose(tape.gradient(total, variable), np.concatenate(expected, -1), rtol=1e-4, atol=1e-6)


def test_parts_of_a_sample_of_groups_are_those_of_the_whole():
    whole = OneHot(constant(np.tile(GROUPED, [2, 1])), GROUPS).sample(SEED)
    parts = [OneHot(constant(GROUPED), GROUPS).sample(SEED, (n, 2)) for n in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_one_hot_computes_in_float32_from_bfloat16_logits():
    dist = OneHot(tf.cast(LOGITS, tf.bfloat16))
    for result in (dist.sample(SEED), dist.log_prob(constant(np.eye(4)[:3])), dist.entropy(), dist.mode()):
        assert result.dtype == tf.float32
    np.testing.assert_allclose(dist.entropy(), OneHot(constant(LOGITS)).entropy(), rtol=1e-5)


@pytest.mark.parametrize("make", [lambda p: TanhNormal(p, tf.ones_like(p)), OneHot], ids=["tanh_normal", "one_hot"])
def test_seeds_of_a_generator_are_taken(make):
    """tf.random.Generator makes int64 seeds; all draws of the agent use them."""
    seed = tf.random.Generator.from_seed(0).make_seeds(1)[:, 0]
    assert seed.dtype == tf.int64
    dist = make(constant(LOGITS))
    assert dist.sample(seed).shape == dist.mode(seed).shape == LOGITS.shape
    assert dist.entropy(seed).shape == (3,)


def test_one_hot_survives_the_lowest_draw_there_is(monkeypatch):
    """Where all are equal the likeliest class wins; a draw of 0 would be noise of minus infinity for every class."""

    def lowest(shape, seed, minval=0.0, maxval=1.0):
        return tf.fill(shape, tf.constant(minval, tf.float32))

    monkeypatch.setattr(tf.random, "stateless_uniform", lowest)
    logits = np.array([[0.0, 2.0, 1.0], [-3.0, -5.0, -1.0]])
    np.testing.assert_array_equal(OneHot(constant(logits)).sample(SEED), np.eye(3)[[1, 2]])

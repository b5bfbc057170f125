"""The loss of the world model: numbers worked by hand with networks whose outputs are set through their biases."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.layers import seed_stream
from dreamer.types import Batch
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import (
    WorldModel,
    contrastive_loss,
    free_nats_after_mean,
    free_nats_per_state,
    gaussian_kl,
    preprocess,
)

STOCH, DETER, ACTIONS, GAMMA = 4, 8, 2, 0.99
B, T = 2, 3
PIXELS = 64 * 64 * 3
OPTIONS = {
    "deter": DETER,
    "stoch": STOCH,
    "hidden": 16,
    "min_std": 0.1,
    "conv_depth": 2,
    "units": 16,
    "vector_layers": 1,
    "vector_std": 0.1,
    "observation": "pixels",
    "probe_decoder": False,
    "reward_layers": 2,
    "discount_head": False,
    "discount_layers": 3,
    "discount_scale": 10.0,
    "kl_scale": 1.0,
    "free_nats": 3.0,
    "free_nats_per": "mean",
}


def make(**options):
    return WorldModel(ACTIONS, gamma=GAMMA, seeds=seed_stream(0), probe_seeds=seed_stream(1), **(OPTIONS | options))


def make_batch(seed=0, length=T):
    rng = np.random.default_rng(seed)
    is_first = np.zeros((B, length), bool)
    is_first[:, 0] = True
    return Batch(
        inputs={"image": tf.constant(rng.integers(0, 256, (B, length, 64, 64, 3)), tf.uint8)},
        action=tf.constant(rng.uniform(-1, 1, (B, length, ACTIONS)), tf.float32),
        reward=tf.constant(rng.normal(size=(B, length)), tf.float32),
        discount=tf.ones([B, length]),
        is_first=tf.constant(is_first),
    )


def noise(length=T, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(B, length, STOCH)), tf.float32)


def fix_output(layer, bias):
    """Make a layer answer `bias`, whatever its input."""
    layer.kernel.assign(tf.zeros_like(layer.kernel))
    layer.bias.assign(np.broadcast_to(np.asarray(bias, np.float32), layer.bias.shape))


def gaussian_bias(mean, std):
    """Bias of a layer that answers mean and std: std = softplus(x) + 0.1."""
    return np.concatenate([np.broadcast_to(mean, STOCH), np.broadcast_to(np.log(np.expm1(std - 0.1)), STOCH)])


def numpy_kl(mean, std, prior_mean, prior_std):
    """The textbook form: ln(s_p / s) + (s^2 + (m - m_p)^2) / (2 s_p^2) - 1/2, summed, in float64."""
    mean, std, prior_mean, prior_std = (np.asarray(x, np.float64) for x in (mean, std, prior_mean, prior_std))
    return (np.log(prior_std / std) + (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2) - 0.5).sum(-1)


# Parts of the loss


def test_preprocess():
    result = preprocess(tf.constant([[0, 51, 255]], tf.uint8))
    assert result.dtype == tf.float32
    np.testing.assert_allclose(result, [[-0.5, -0.3, 0.5]], rtol=1e-6)


def test_gaussian_kl_equals_the_closed_form():
    rng = np.random.default_rng(0)
    mean, prior_mean = rng.normal(size=(2, 3, 5, STOCH))
    std, prior_std = rng.uniform(0.1, 2.0, (2, 3, 5, STOCH))
    result = gaussian_kl(*(tf.constant(x, tf.float32) for x in (mean, std, prior_mean, prior_std)))
    assert result.shape == (3, 5)
    np.testing.assert_allclose(result, numpy_kl(mean, std, prior_mean, prior_std), rtol=1e-4)


def test_gaussian_kl_by_numerical_integration():
    """KL(q || p), not KL(p || q): the two differ by much here."""
    x = np.linspace(-30, 30, 200_001)
    q, p = (np.exp(-0.5 * ((x - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)) for m, s in ((1.0, 0.5), (-0.5, 2.0)))
    mask = q > 1e-300
    expected = np.trapezoid(np.where(mask, q * np.log(np.where(mask, q, 1) / p), 0), x)
    values = (tf.fill([2, 1], v) for v in (1.0, 0.5, -0.5, 2.0))
    np.testing.assert_allclose(gaussian_kl(*values), [expected] * 2, rtol=1e-5)


def test_gaussian_kl_of_equal_distributions_is_zero_with_zero_gradient():
    rng = np.random.default_rng(0)
    mean, std = tf.Variable(rng.normal(size=(3, STOCH))), tf.Variable(rng.uniform(0.1, 2, (3, STOCH)))
    with tf.GradientTape() as tape:
        kl = gaussian_kl(mean, std, tf.identity(mean.value()), tf.constant(std.numpy()))
        np.testing.assert_allclose(kl, np.zeros(3), atol=1e-12)
    np.testing.assert_allclose(tape.gradient(kl, std), np.zeros((3, STOCH)), atol=1e-12)


@pytest.mark.parametrize(("kl", "value", "slope"), [([1.0, 4.0, 2.0, 4.9], 3.0, 0), ([1.0, 9.0, 2.0, 4.0], 4.0, 0.25)])
def test_free_nats_count_after_the_mean(kl, value, slope):
    """Single states above 3 nats give no gradient while the mean is below; above, those below 3 nats do too."""
    kl = tf.Variable(tf.reshape(kl, [2, 2]))
    with tf.GradientTape() as tape:
        loss = free_nats_after_mean(kl, 3.0)
    assert float(loss) == pytest.approx(value)
    np.testing.assert_allclose(tape.gradient(loss, kl), np.full((2, 2), slope))


def test_free_nats_per_state_by_hand():
    """max(0, 4 - 3) + max(0, 9 - 3) over four states; only those above 3 nats get a gradient."""
    kl = tf.Variable([[1.0, 4.0], [2.0, 9.0]])
    with tf.GradientTape() as tape:
        loss = free_nats_per_state(kl, 3.0)
    assert float(loss) == pytest.approx((1 + 6) / 4)
    np.testing.assert_allclose(tape.gradient(loss, kl), [[0, 0.25], [0, 0.25]])


# The loss


def set_perfect(model, *, grey, reward, prior, posterior):
    """Constant image mean, reward mean, prior and posterior (mean, std)."""
    fix_output(model.decoder.convs[-1], grey)
    fix_output(model.reward_head.out, reward)
    fix_output(model.rssm.prior_out, gaussian_bias(*prior))
    fix_output(model.rssm.posterior_out, gaussian_bias(*posterior))


def open_loop(model, *args):
    seen = model.open_loop(*args)
    assert set(seen) <= {"image", "reward"}
    return seen.get("image"), seen["reward"]


def grey_batch(level, reward, discount=1.0):
    batch = make_batch()
    return batch._replace(
        inputs={"image": tf.fill(batch.image.shape, tf.constant(level, tf.uint8))},
        reward=tf.zeros([B, T]) + reward,
        discount=tf.zeros([B, T]) + discount,
    )


def test_loss_of_a_perfect_prediction():
    """-ln N(x; x, 1) is 0.5 ln 2 pi for each of 12,288 pixels and for the reward; equal distributions have KL 0."""
    model = make()
    set_perfect(model, grey=51 / 255 - 0.5, reward=1.5, prior=(0.3, 0.7), posterior=(0.3, 0.7))
    loss, posterior, metrics = model.loss(grey_batch(51, 1.5), noise())
    constant = 0.5 * np.log(2 * np.pi)
    assert constant * PIXELS == pytest.approx(11291.92, abs=0.01)
    entropy = STOCH * (np.log(0.7) + 0.5 * np.log(2 * np.pi * np.e))
    expected = {
        "image_loss": constant * PIXELS,
        "reward_loss": constant,
        "kl_loss": 3.0,
        "kl": 0.0,
        "model_loss": constant * PIXELS + constant + 3.0,
        "prior_entropy": entropy,
        "posterior_entropy": entropy,
    }
    assert set(metrics) == set(expected)
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=3e-6, abs=1e-5), name
        assert metrics[name].shape == (), name
    assert float(loss) == float(metrics["model_loss"])
    assert posterior.stoch.shape == (B, T, STOCH)
    np.testing.assert_allclose(posterior.stoch, 0.3 + 0.7 * noise(), rtol=1e-5, atol=1e-6)


def test_loss_of_errors_worked_by_hand():
    """Grey off by 0.2, rewards off by 1, 2 and 3, and a KL of 4 (ln 2 - 0.5 + (0.25 + 4) / 2) = 9.27 nats."""
    model = make(kl_scale=0.1)
    set_perfect(model, grey=0.3, reward=0.0, prior=(1.0, 1.0), posterior=(-1.0, 0.5))
    _, _, metrics = model.loss(grey_batch(153, [1.0, -2.0, 3.0]), noise())  # 153 / 255 - 0.5 = 0.1
    constant = 0.5 * np.log(2 * np.pi)
    kl = 4 * (np.log(2) + (0.25 + 4) / 2 - 0.5)
    expected = {
        "image_loss": PIXELS * (constant + 0.5 * 0.2**2),
        "reward_loss": constant + 0.5 * (1 + 4 + 9) / 3,
        "kl": kl,
        "kl_loss": 0.1 * kl,
        "model_loss": PIXELS * (constant + 0.02) + constant + 7 / 3 + 0.1 * kl,
        "prior_entropy": STOCH * 0.5 * np.log(2 * np.pi * np.e),
        "posterior_entropy": STOCH * (np.log(0.5) + 0.5 * np.log(2 * np.pi * np.e)),
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=2e-6), name


@pytest.mark.parametrize("logit", [-1.0, 3.0])
def test_discount_loss_has_soft_targets_and_a_scale(logit):
    model = make(discount_head=True, discount_scale=10.0)
    set_perfect(model, grey=0.0, reward=0.0, prior=(0.0, 1.0), posterior=(0.0, 1.0))
    fix_output(model.discount_head.out, logit)
    loss, _, metrics = model.loss(grey_batch(51, 0.0, discount=[1.0, 1.0, 0.0]), noise())
    p = 1 / (1 + np.exp(-logit))
    alive, dead = GAMMA * np.log(p) + (1 - GAMMA) * np.log(1 - p), np.log(1 - p)
    expected = -10 * (2 * alive + dead) / 3
    assert expected > 0
    assert float(metrics["discount_loss"]) == pytest.approx(expected, rel=1e-5)
    parts = ("image_loss", "reward_loss", "discount_loss", "kl_loss")
    assert float(loss) == pytest.approx(sum(float(metrics[name]) for name in parts), rel=1e-6)


def test_discount_loss_falls_towards_gamma_times_the_target():
    """The loss is smallest, and its gradient zero, where the head predicts gamma d."""
    model = make(discount_head=True)
    fix_output(model.discount_head.out, np.log(GAMMA / (1 - GAMMA)))
    with tf.GradientTape() as tape:
        loss, _, _ = model.loss(grey_batch(51, 0.0), noise())
    assert abs(float(tape.gradient(loss, model.discount_head.out.bias)[0])) < 1e-5


def test_loss_of_random_networks_equals_its_parts():
    """The likelihoods are those of the posterior's features, step by step."""
    model, batch = make(), make_batch()
    loss, posterior, metrics = model.loss(batch, noise())
    seen, (prior_mean, prior_std) = model.observe(batch, noise())
    np.testing.assert_allclose(seen.stoch, posterior.stoch, rtol=1e-5)
    images, rewards = model.decoder(feature(posterior)).numpy(), model.reward(feature(posterior)).numpy()
    target = np.asarray(batch.image, np.float64) / 255 - 0.5
    constant = 0.5 * np.log(2 * np.pi)
    image_loss = (0.5 * (images - target) ** 2 + constant).sum((2, 3, 4)).mean()
    reward_loss = (0.5 * (rewards - batch.reward.numpy().astype(np.float64)) ** 2 + constant).mean()
    kl = numpy_kl(posterior.mean, posterior.std, prior_mean, prior_std).mean()
    assert float(metrics["image_loss"]) == pytest.approx(image_loss, rel=1e-5)
    assert float(metrics["reward_loss"]) == pytest.approx(reward_loss, rel=1e-4)
    assert float(metrics["kl"]) == pytest.approx(kl, rel=1e-3)
    assert float(loss) == pytest.approx(image_loss + reward_loss + max(kl, 3.0), rel=1e-5)


def test_only_the_kl_reaches_the_prior_and_only_above_the_free_nats():
    batch = make_batch()

    def prior_gradient(**options):
        model = make(**options)
        with tf.GradientTape() as tape:
            loss, _, metrics = model.loss(batch, noise())
        return np.abs(tape.gradient(loss, model.rssm.prior_out.kernel)).max(), float(metrics["kl"])

    below, kl = prior_gradient(free_nats=3.0)
    assert 0.01 < kl < 3.0
    assert below == 0
    above, _ = prior_gradient(free_nats=0.0)
    assert above > 1e-4
    scaled, _ = prior_gradient(free_nats=0.0, kl_scale=0.1)
    assert scaled == pytest.approx(0.1 * above, rel=1e-4)


def test_the_loss_takes_the_form_of_free_nats_it_is_given():
    batch = make_batch()
    _, _, metrics = make(free_nats=0.0).loss(batch, noise())
    free_nats = float(metrics["kl"])  # Some states lie above the mean and some below.
    _, _, after_mean = make(free_nats=free_nats, free_nats_per="mean").loss(batch, noise())
    _, _, per_state = make(free_nats=free_nats, free_nats_per="state").loss(batch, noise())
    assert float(after_mean["kl_loss"]) == pytest.approx(free_nats, rel=1e-4)
    assert 0 < float(per_state["kl_loss"]) < free_nats


def test_contrastive_loss_equals_normal_densities_in_numpy():
    """ln q(s | o) of a unit-variance Normal against the sum over all images of the batch, its own included."""
    rng = np.random.default_rng(0)
    states, means = rng.normal(size=(2, 2, 3, 5))
    flat_means = means.reshape(-1, 5)

    def density(state, mean):
        return np.prod(np.exp(-0.5 * (state - mean) ** 2) / np.sqrt(2 * np.pi))

    expected = [
        np.log(sum(density(state, other) for other in flat_means)) - np.log(density(state, own))
        for state, own in zip(states.reshape(-1, 5), flat_means, strict=True)
    ]
    loss = contrastive_loss(tf.constant(states, tf.float32), tf.constant(means, tf.float32))
    np.testing.assert_allclose(loss, np.reshape(expected, (2, 3)), rtol=1e-4, atol=1e-5)


def test_contrastive_loss_by_hand():
    """States that tell their images apart lose nothing; states that tell nothing lose ln N."""
    far = tf.constant([[[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]]])
    np.testing.assert_allclose(contrastive_loss(far, far), np.zeros((1, 4)), atol=1e-6)
    np.testing.assert_allclose(contrastive_loss(tf.zeros([2, 3, 4]), tf.ones([2, 3, 4])), np.full((2, 3), np.log(6)))


@pytest.mark.parametrize("observation", ["contrastive", "none"])
def test_a_model_without_pixels_learns_from_what_is_left(observation):
    model, batch = make(observation=observation, free_nats=0.0), make_batch()
    with tf.GradientTape() as tape:
        loss, posterior, metrics = model.loss(batch, noise())
    parts = ["reward_loss", "kl_loss"] + ["state_loss"] * (observation == "contrastive")
    assert "image_loss" not in metrics
    assert float(loss) == pytest.approx(sum(float(metrics[part]) for part in parts), rel=1e-6)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient).max() > 0, variable.path
    if observation == "contrastive":
        predicted = model.state_head(model.encoder(preprocess(batch.image)))
        expected = tf.reduce_mean(contrastive_loss(feature(posterior), predicted))
        assert float(metrics["state_loss"]) == pytest.approx(float(expected), rel=1e-6)
    images, rewards = open_loop(model, batch, noise(), 2)
    assert images is None
    assert rewards.shape == (B, T)


def test_loss_gives_every_variable_a_gradient():
    model = make(discount_head=True, free_nats=0.0)
    with tf.GradientTape() as tape:
        loss, _, _ = model.loss(make_batch(), noise())
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_heads_of_a_model_without_discount_head():
    model = make()
    features = tf.ones([5, 3, STOCH + DETER])
    np.testing.assert_allclose(model.discount(features), np.full((5, 3), GAMMA), rtol=1e-6)
    assert model.reward(features).shape == (5, 3)


def test_predicted_discount_is_the_probability_of_the_head():
    model = make(discount_head=True)
    features = tf.constant(np.random.default_rng(0).normal(size=(5, 3, STOCH + DETER)), tf.float32)
    logit = model.discount_head(features).numpy()[..., 0]
    np.testing.assert_allclose(model.discount(features), 1 / (1 + np.exp(-logit)), rtol=1e-5)


# Open loop


def test_open_loop_reconstructs_and_then_imagines():
    model, context, length = make(), 2, 5
    batch, eps = make_batch(length=length), noise(length)
    images, rewards = open_loop(model, batch, eps, context)
    assert images.shape == (B, length, 64, 64, 3)
    assert rewards.shape == (B, length)

    state = model.rssm.initial(B)
    embed = model.encoder(preprocess(batch.image))
    for t in range(length):
        if t < context:
            state = model.rssm.obs_step(state, batch.action[:, t], embed[:, t], batch.is_first[:, t], eps[:, t])
        else:
            state = model.rssm.img_step(state, batch.action[:, t], eps[:, t])
        expected = np.clip(model.decoder(feature(state)) + 0.5, 0, 1)
        np.testing.assert_allclose(images[:, t], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(rewards[:, t], model.reward(feature(state)), rtol=1e-4, atol=1e-5)


def test_open_loop_does_not_see_later_images_and_stays_in_range():
    model, context = make(), 2
    model.decoder.convs[-1].kernel.assign(1e4 * model.decoder.convs[-1].kernel)
    batch = make_batch(length=4)
    images, rewards = open_loop(model, batch, noise(4), context)
    assert float(tf.reduce_min(images)) == 0.0
    assert float(tf.reduce_max(images)) == 1.0
    hidden = tf.concat([batch.image[:, :context], 255 - batch.image[:, context:]], 1)
    again, rewards_again = open_loop(model, batch._replace(inputs={"image": hidden}), noise(4), context)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(rewards, rewards_again)


# Precision


def test_losses_in_bfloat16_are_float32_and_close(precision):
    exact_loss, exact_posterior, exact = make(discount_head=True, free_nats=0.0).loss(make_batch(), noise())
    precision("mixed_bfloat16")
    loss, posterior, metrics = make(discount_head=True, free_nats=0.0).loss(make_batch(), noise())
    assert {x.dtype for x in tf.nest.flatten((loss, posterior, metrics))} == {tf.float32}
    # Eight bits keep relative errors near 0.4 %; a few layers and T steps let them grow.
    for name, bound in (
        ("image_loss", 1e-3),
        ("reward_loss", 2e-2),
        ("discount_loss", 2e-2),
        ("kl", 5e-2),
        ("posterior_entropy", 1e-2),
    ):
        assert float(metrics[name]) == pytest.approx(float(exact[name]), rel=bound), name
    # An image loss computed in bfloat16 would be a multiple of 64.
    assert float(metrics["image_loss"]) % 64 != 0
    assert float(loss) == pytest.approx(float(exact_loss), rel=1e-3)
    np.testing.assert_allclose(posterior.stoch, exact_posterior.stoch, atol=0.05)

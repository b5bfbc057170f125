"""A world model that sees vectors, beside images or without any: its losses and predictions, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.layers import seed_stream
from dreamer.types import PIXELS, Batch, Space
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import WorldModel, symexp, symlog
from tests.world_model.test_world_model import OPTIONS

VECTORS = {"speed": Space((1,), "float32"), "angles": Space((3,), "float32")}
INPUTS = {"vectors": VECTORS, "both": PIXELS | VECTORS}
B, T, ACTIONS, STD = 2, 4, 2, 0.2


def make(inputs, **options):
    options = OPTIONS | {"vector_layers": 2, "vector_std": STD} | options
    return WorldModel(ACTIONS, inputs, gamma=0.9, seeds=seed_stream(0), probe_seeds=seed_stream(1), **options)


def make_batch(inputs, seed=0):
    rng = np.random.default_rng(seed)
    vectors = {
        name: tf.constant(rng.normal(scale=20, size=(B, T, *space.shape)), tf.float32)
        for name, space in inputs.items()
        if name != "image"
    }
    image = {"image": tf.constant(rng.integers(0, 256, (B, T, 64, 64, 3)), tf.uint8)} if "image" in inputs else {}
    action = tf.constant(rng.uniform(-1, 1, (B, T, ACTIONS)), tf.float32)
    reward = tf.constant(rng.normal(size=(B, T)), tf.float32)
    return Batch(image | vectors, action, reward, tf.ones([B, T]), tf.constant(np.arange(T)[None].repeat(B, 0) == 0))


def noise(seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=(B, T, OPTIONS["stoch"])), tf.float32)


def test_symlog_and_its_inverse_by_hand():
    x = [-np.expm1(2.0), -0.5, 0.0, 1.0, 1e6]
    np.testing.assert_allclose(symlog(tf.constant(x, tf.float32)), [-2, -0.405465, 0, 0.693147, 13.815512], rtol=1e-6)
    np.testing.assert_allclose(symexp(symlog(tf.constant(x, tf.float32))), x, rtol=1e-4)
    # A wild guess stays finite, and so does its square.
    assert np.isfinite(symexp(tf.constant([-1e9, 500.0])) ** 2).all()


@pytest.mark.parametrize("kind", INPUTS)
def test_each_vector_adds_its_likelihood_to_the_loss(kind):
    """-ln N(symlog(o); m, std), summed over a vector's numbers; with another deviation its other terms change too."""
    model, batch = make(INPUTS[kind]), make_batch(INPUTS[kind])
    total, posterior, metrics = model.loss(batch, noise())
    features = feature(posterior)
    expected = {}
    for name in VECTORS:
        mean = model.vector_heads[name](features).numpy().astype(np.float64)
        truth = batch.inputs[name].numpy().astype(np.float64)
        truth = np.sign(truth) * np.log(1 + np.abs(truth))
        nats = 0.5 * ((truth - mean) / STD) ** 2 + np.log(STD * np.sqrt(2 * np.pi))
        expected[f"vector_{name}_loss"] = nats.sum(-1).mean()
    others = {"reward_loss", "kl_loss"} | ({"image_loss"} if kind == "both" else set())
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-5)
    assert {name for name in metrics if name.endswith("_loss")} - {"model_loss"} == others | set(expected)
    parts = sum(expected.values()) + sum(float(metrics[name]) for name in others)
    assert float(total) == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize("kind", INPUTS)
def test_what_is_embedded(kind):
    """The image's embedding, and beside it the MLP's of all vectors in the order of their names, as symlog."""
    model, batch = make(INPUTS[kind]), make_batch(INPUTS[kind])
    vector = np.concatenate([batch.inputs["angles"], batch.inputs["speed"]], -1).astype(np.float64)
    x = np.sign(vector) * np.log1p(np.abs(vector))
    for layer in model.vector_encoder.hidden:
        x = x @ layer.kernel.numpy() + layer.bias.numpy()
        x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    x = x @ model.vector_encoder.out.kernel.numpy() + model.vector_encoder.out.bias.numpy()
    embed = model.embed(batch.inputs).numpy()
    assert x.shape[-1] == OPTIONS["units"]
    np.testing.assert_allclose(embed[..., -OPTIONS["units"] :], x, rtol=1e-4, atol=1e-5)
    assert embed.shape[-1] == OPTIONS["units"] + (64 if kind == "both" else 0)  # 32 times a conv_depth of 2
    if kind == "both":
        from dreamer.world_model.world_model import preprocess

        np.testing.assert_array_equal(embed[..., :64], model.encoder(preprocess(batch.image)))


@pytest.mark.parametrize("kind", INPUTS)
def test_every_weight_learns(kind):
    model, batch = make(INPUTS[kind], free_nats=0.0), make_batch(INPUTS[kind])
    with tf.GradientTape() as tape:
        loss, *_ = model.loss(batch, noise())
    gradients = tape.gradient(loss, model.model_variables)
    assert len(model.model_variables) == len(model.trainable_variables)
    for variable, gradient in zip(model.model_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.abs(gradient).max() > 0, variable.path


@pytest.mark.parametrize("kind", INPUTS)
def test_open_loop_predicts_vectors_in_their_own_units_and_sees_nothing_more(kind):
    model, batch, context = make(INPUTS[kind]), make_batch(INPUTS[kind]), 2
    predicted = model.open_loop(batch, noise(), context)
    assert set(predicted) == {"reward", *INPUTS[kind]}
    states, _ = model.observe(tf.nest.map_structure(lambda x: x[:, :context], batch), noise()[:, :context])
    for name, space in VECTORS.items():
        assert predicted[name].shape == (B, T, *space.shape)
        mean = model.vector_heads[name](feature(states)).numpy().astype(np.float64)
        expected = np.sign(mean) * np.expm1(np.abs(mean))
        np.testing.assert_allclose(predicted[name][:, :context], expected, rtol=1e-4, atol=1e-5)
    later = {name: tf.concat([x[:, :context], 0 * x[:, context:]], 1) for name, x in batch.inputs.items()}
    again = model.open_loop(batch._replace(inputs=later), noise(), context)
    for name, value in predicted.items():
        np.testing.assert_array_equal(value, again[name])


def test_without_pixels_nothing_is_predicted_of_vectors():
    for observation in ("contrastive", "none"):
        model = make(INPUTS["both"], observation=observation)
        _, _, metrics = model.loss(make_batch(INPUTS["both"]), noise())
        assert ("state_loss" in metrics) == (observation == "contrastive")
        assert not [name for name in metrics if name.startswith(("vector", "image"))]
        assert set(model.open_loop(make_batch(INPUTS["both"]), noise(), 2)) == {"reward"}

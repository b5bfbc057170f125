"""The decoder that looks on: it learns, and nothing else depends on it."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.agents.planet import PlaNet
from dreamer.training.restore import read_weights, write_weights
from dreamer.types import ActionSpace, State

OBJECTIVES = ("contrastive", "none")


@pytest.fixture
def make_planet(model_settings):
    def make(space=None, *, seed=0, **sections):
        return PlaNet(
            space or ActionSpace(3, False),
            model=model_settings | sections.get("model", {}),
            planner={"horizon": 3, "candidates": 20, "best": 5, "iterations": 2, "value": False},
            optimizer={"epsilon": 1e-7, "clip": 1e-3} | sections.get("optimizer", {}),
            explore={"noise": 0.3},
            gamma=0.9,
            seed=seed,
        )

    return make


def pair(make, objective):
    """Two agents that differ in nothing but the probe; gradients are clipped, so that a shared norm would show."""
    options = {"observation": objective}
    return [
        make(model=options | {"probe_decoder": probe}, optimizer={"epsilon": 1e-7, "clip": 1e-3})
        for probe in (False, True)
    ]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", ["make_agent", "make_planet"])
def test_what_is_learned_does_not_depend_on_a_probe(request, method, objective, make_batch):
    """Weights, metrics and draws of two updates are the same bit for bit, apart from what is the probe's own."""
    without, probed = pair(request.getfixturevalue(method), objective)
    for seed in (0, 1):
        expected, metrics = (
            {key: float(value) for key, value in agent.train(make_batch(seed=seed)).items()}
            for agent in (without, probed)
        )
        assert metrics.keys() - expected.keys() == {"probe_loss", "probe_grad_norm", "probe_skipped"}
        assert {key: metrics[key] for key in expected} == expected
    for name in ("world_model", "actor", "value"):
        network, other = (getattr(agent, name, None) for agent in (without, probed))
        if network is not None:
            variables = other.model_variables if name == "world_model" else other.trainable_variables
            for a, b in zip(network.trainable_variables, variables, strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=b.path)
    np.testing.assert_array_equal(without.random.state, probed.random.state)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_gradient_of_the_probe_reaches_the_model(make_agent, make_batch, objective):
    """Neither from its loss to the model's weights, nor from the model's loss to its own."""
    model = make_agent(model={"observation": objective, "probe_decoder": True}).world_model
    batch = make_batch(batch=3)
    noise = tf.random.stateless_normal([3, 3, 4], [1, 2])
    with tf.GradientTape(persistent=True) as tape:
        loss, posterior, metrics = model.loss(batch, noise)
        probe_loss = model.probe_loss(posterior, batch.image)
    assert "image_loss" not in metrics
    assert tape.gradient(probe_loss, model.model_variables) == [None] * len(model.model_variables)
    assert tape.gradient(loss, model.probe_variables) == [None] * len(model.probe_variables)
    gradients = tape.gradient(probe_loss, model.probe_variables)
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in gradients)


def test_the_probes_loss_is_the_images_likelihood(make_agent, make_batch):
    """A Normal of unit variance, summed over pixels and averaged over B and T."""
    model = make_agent(model={"observation": "none", "probe_decoder": True}).world_model
    batch, rng = make_batch(batch=3), np.random.default_rng(0)
    posterior = State(*(tf.constant(rng.normal(size=(3, 3, size)), tf.float32) for size in (4, 4, 4, 8)))
    drawn = model.decoder(tf.concat([posterior.stoch, posterior.deter], -1)).numpy().astype(np.float64)
    errors = np.square(drawn - (batch.image.numpy() / 255.0 - 0.5)).sum((2, 3, 4))
    expected = (0.5 * errors + 64 * 64 * 3 * 0.5 * np.log(2 * np.pi)).mean()
    assert float(model.probe_loss(posterior, batch.image)) == pytest.approx(expected, rel=1e-6)


def test_the_probe_learns_to_draw_and_is_saved_with_the_rest(make_agent, make_batch, tmp_path):
    options = {"observation": "contrastive", "probe_decoder": True, "lr": 1e-2}
    agent, batch = make_agent(model=options), make_batch(batch=3)
    batch = batch._replace(
        inputs={"image": tf.zeros_like(batch.image)}
    )  # black, where a new decoder draws grey: 1,536 nats
    losses = [float(agent.train(batch)["probe_loss"]) for _ in range(30)]
    assert losses[0] - losses[-1] > 700
    write_weights(agent, tmp_path / "weights")
    for only_networks in (False, True):
        other = make_agent(model=options, seed=1)
        read_weights(other, tmp_path / "weights", only_networks=only_networks)
        features = tf.random.stateless_normal([2, 12], [3, 4])
        np.testing.assert_array_equal(other.world_model.decoder(features), agent.world_model.decoder(features))


def test_pixels_need_no_probe(make_agent, make_batch):
    """Their decoder is part of the model, and the key changes nothing."""
    agent = make_agent(model={"probe_decoder": True})
    assert not agent.world_model.probe_variables
    metrics = agent.train(make_batch())
    assert "image_loss" in metrics
    assert "probe_loss" not in metrics
    assert "probe_optimizer" not in agent.checkpoint()

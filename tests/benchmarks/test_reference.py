"""The plain training step and ours: equal, from equal weights, batch and noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.reference import Noise, Reference
from dreamer.agents.dreamer import Dreamer
from dreamer.behavior.actor_critic import imagine
from dreamer.config import load
from dreamer.nets.layers import flatten_leading
from dreamer.types import ActionSpace, Batch
from dreamer.world_model.rssm import feature

ACTIONS, BATCH, LENGTH, HORIZON, STOCH = 3, 3, 4, 5, 4
SEED = 7
NETWORKS = ("model", "actor", "value")
# Every layer has more than one unit, depths and widths differ, and the KL is above its free nats.
SIZES = {
    "replay.batch": BATCH,
    "replay.length": LENGTH,
    "model.deter": 9,
    "model.stoch": STOCH,
    "model.hidden": 10,
    "model.units": 11,
    "model.reward_layers": 2,
    "model.conv_depth": 2,
    "model.kl_scale": 0.7,
    "model.free_nats": 0.01,
    "actor.layers": 3,
    "actor.units": 12,
    "actor.init_std": 1.0,
    "value.layers": 2,
    "value.units": 13,
    "behavior.horizon": HORIZON,
    "behavior.discount": 0.9,
    "behavior.return_lambda": 0.8,
    "optimizer.clip": 1.0,
}


def some_batch():
    rng = np.random.default_rng(0)
    is_first = np.zeros((BATCH, LENGTH), bool)
    is_first[:, 0] = is_first[1, 2] = True
    return Batch(
        inputs={"image": tf.constant(rng.integers(0, 256, (BATCH, LENGTH, 64, 64, 3)), tf.uint8)},
        action=tf.constant(rng.uniform(-1, 1, (BATCH, LENGTH, ACTIONS)), tf.float32),
        reward=tf.constant(rng.normal(size=(BATCH, LENGTH)), tf.float32),
        discount=tf.ones((BATCH, LENGTH)),
        is_first=tf.constant(is_first),
    )


def counterparts(agent, reference):
    """(our layer, the reference's) with weights of the same shapes, by the network whose optimiser moves them."""
    model = agent.world_model

    def stack(ours, theirs):
        return zip([*ours.hidden, ours.out], theirs.layers, strict=True)

    convs = zip(model.encoder.convs, reference.encoder.layers[:-1], strict=True)
    decoder = [layer for layer in reference.decoder.layers if layer.weights]
    transposed = zip([model.decoder.dense, model.decoder.point, *model.decoder.convs], decoder, strict=True)
    rssm = [
        (model.rssm.input_layer, reference.rssm_input.layers[0]),
        (model.rssm.gru, reference.cell),
        (model.rssm.prior_hidden, reference.prior.layers[0]),
        (model.rssm.prior_out, reference.prior.layers[1]),
        (model.rssm.posterior_hidden, reference.posterior.layers[0]),
        (model.rssm.posterior_out, reference.posterior.layers[1]),
    ]
    return {
        "model": [*convs, *rssm, *transposed, *stack(model.reward_head, reference.reward)],
        "actor": [*stack(agent.actor.mlp, reference.actor)],
        "value": [*stack(agent.value.mlp, reference.value)],
    }


def clipped_gradients(adam, variables):
    """Gradients of an optimiser's only step so far, by the id of the variable; ten times its first moments."""
    assert int(adam.iterations) == 1
    moments = [v.numpy() for v in adam.variables if v.path.endswith("momentum")]
    return {id(v): 10 * m for v, m in zip(variables, moments, strict=True)}


@pytest.fixture(scope="module")
def steps(eager):
    """One step of each from the same weights, batch and noise, and the features imagined before it."""
    tf.config.experimental.enable_tensor_float_32_execution(False)
    config = load(["debug"], SIZES)
    sections = ("model", "actor", "value", "behavior", "optimizer", "explore")
    agent = Dreamer(ActionSpace(ACTIONS, False), seed=0, **{name: config[name] for name in sections})
    reference = Reference(ACTIONS, config)
    pairs = counterparts(agent, reference)
    rng = np.random.default_rng(1)
    for ours, theirs in (pair for network in NETWORKS for pair in pairs[network]):
        # Biases begin at zero, where some mistakes would not show.
        weights = [
            w if w.ndim > 1 and "bias" not in v.name else rng.normal(0, 0.1, w.shape)
            for v, w in zip(ours.weights, ours.get_weights(), strict=True)
        ]
        ours.set_weights(weights)
        theirs.set_weights(weights)

    batch = some_batch()
    count = BATCH * LENGTH
    draws = tf.random.Generator.from_seed(SEED, alg="philox")  # in the order of Dreamer.train
    posterior, prior = draws.normal([BATCH, LENGTH, STOCH]), draws.normal([HORIZON, count, STOCH])
    seeds = tf.transpose(draws.make_seeds(HORIZON))
    action = tf.stack([tf.random.stateless_normal([count, ACTIONS], seed) for seed in seeds])
    noise = Noise(posterior, prior, action)

    states, _ = agent.world_model.observe(batch, posterior)
    ours_imagined = imagine(
        agent.world_model.rssm.img_step,
        lambda features, seed: agent.actor.distribution(features).sample(seed),
        feature,
        tf.nest.map_structure(lambda x: flatten_leading(x, 1)[0], states),
        prior,
        seeds,
    )
    _, features, _ = reference.model_loss(batch, posterior)
    theirs_imagined = reference.imagine(features, prior, action)

    agent.random.reset_from_seed(SEED)
    return SimpleNamespace(
        agent=agent,
        reference=reference,
        pairs=pairs,
        imagined=(ours_imagined.numpy(), theirs_imagined.numpy()),
        ours={name: float(x) for name, x in agent.train(batch).items()},
        theirs={name: float(x) for name, x in reference.update(batch, noise).items()},
    )


def test_losses_and_gradient_norms_are_equal(steps):
    assert set(steps.theirs) <= set(steps.ours)
    assert {f"{name}_{what}" for name in NETWORKS for what in ("loss", "grad_norm")} <= set(steps.theirs)
    for name, number in steps.theirs.items():
        assert steps.ours[name] == pytest.approx(number, rel=2e-5, abs=1e-6), name


def test_the_settings_leave_nothing_out(steps):
    """The KL counts and every gradient is clipped, so that neither is equal for being zero or free."""
    assert steps.theirs["kl"] > 0.01
    assert min(steps.theirs[f"{name}_grad_norm"] for name in ("model", "value")) > 1.0


def test_imagined_features_are_equal(steps):
    ours, theirs = steps.imagined
    assert theirs.shape == (HORIZON, BATCH * LENGTH, STOCH + 9)
    assert np.abs(theirs[-1] - theirs[0]).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_all_gradients_are_equal(steps, network):
    part = {"model": steps.agent.world_model, "actor": steps.agent.actor, "value": steps.agent.value}[network]
    ours = clipped_gradients(steps.agent.optimizers[network].adam, part.trainable_variables)
    theirs = clipped_gradients(steps.reference.optimizers[network], steps.reference.variables[network])
    compared = 0
    for mine, other in steps.pairs[network]:
        for one, two in zip(mine.trainable_variables, other.trainable_variables, strict=True):
            expected = theirs[id(two)]
            scale = np.abs(expected).max()
            assert scale > 0, two.path
            error = np.abs(ours[id(one)] - expected).max()
            assert error < 2e-5 * scale, two.path
            compared += 1
    assert compared == len(ours) == len(theirs)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_weights_after_the_step_are_equal(steps, network):
    lr = steps.reference.config[network].lr
    for mine, other in steps.pairs[network]:
        for one, two in zip(mine.get_weights(), other.get_weights(), strict=True):
            # Adam's first step is lr in the direction of the sign, which is noise where a gradient is almost zero.
            near = np.abs(one - two) < 0.02 * lr
            assert near.mean() > 0.98
            assert np.abs(one - two).max() < 2.01 * lr

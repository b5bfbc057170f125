"""One training step against an imagination written in float64 NumPy.

After one step Adam's first moment is 0.1 times the gradient (nothing is clipped here), so that the gradients that
really reached the networks can be read from a compiled step. The learning rates are high: a gradient taken with weights
that another loss has just moved would show.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from dreamer.nets.optimizer import Optimizer
from dreamer.world_model.rssm import feature

HORIZON, GAMMA, LAMBDA, STOCH, ACTIONS = 4, 0.9, 0.8, 4, 3
SEED = 11
NETWORKS = ("model", "actor", "value")
EPS = 1e-5


# Imagination in float64


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def softplus(x):
    return np.log1p(np.exp(x))


def weights_of(layer):
    """(kernel, bias) of a dense layer or (kernel, recurrent_kernel, bias) of a GRU, in float64."""
    return tuple(np.asarray(w, np.float64) for w in layer.trainable_variables)


def linear(weights, x):
    return x @ weights[0] + weights[1]


def mlp(layers, x):
    for weights in layers[:-1]:
        x = elu(linear(weights, x))
    return linear(layers[-1], x)


def mlp_weights(net):
    return [weights_of(layer) for layer in (*net.hidden, net.out)]


class NumpyAgent:
    """Imagination, losses and policy of an agent's present weights."""

    def __init__(self, agent):
        rssm = agent.world_model.rssm
        self.input, self.gru = weights_of(rssm.input_layer), weights_of(rssm.gru)
        self.prior = [weights_of(rssm.prior_hidden), weights_of(rssm.prior_out)]
        self.reward = mlp_weights(agent.world_model.reward_head)
        head = agent.world_model.discount_head
        self.discount = mlp_weights(head) if head is not None else None
        self.actor, self.value = mlp_weights(agent.actor.mlp), mlp_weights(agent.value.mlp)

    def act(self, features, noise):
        mean, raw = np.split(mlp(self.actor, features), 2, -1)
        mean = 5 * np.tanh(mean / 5)
        std = softplus(raw + np.log(np.expm1(1.0))) + 1e-4
        return np.tanh(mean + std * noise)

    def step(self, z, h, action, noise):
        x = elu(linear(self.input, np.concatenate([z, action], -1)))
        kernel, recurrent, bias = self.gru
        xz, xr, xc = np.split(x @ kernel + bias[0], 3, -1)
        hz, hr, hc = np.split(h @ recurrent + bias[1], 3, -1)
        update, reset = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
        h = update * h + (1 - update) * np.tanh(xc + reset * hc)
        mean, raw = np.split(mlp(self.prior, h), 2, -1)
        return mean + (softplus(raw) + 0.1) * noise, h

    def imagine(self, draws, seen=None):
        """Features [H, N, F] and what the policy saw [H, N, F]: `seen`, or the state that it was in."""
        z, h = draws.z, draws.h
        features, inputs = [], []
        for t in range(HORIZON):
            inputs.append(np.concatenate([z, h], -1) if seen is None else seen[t])
            action = self.act(inputs[-1], draws.action_noise[t])
            z, h = self.step(z, h, action, draws.noise[t])
            features.append(np.concatenate([z, h], -1))
        return np.stack(features), np.stack(inputs)

    def discounts(self, features):
        if self.discount is None:
            return np.full(features.shape[:-1], GAMMA)
        return 1 / (1 + np.exp(-mlp(self.discount, features)[..., 0]))

    def returns(self, features):
        """V_lambda [H - 1, N]: eq. 6 as the mixture of k-step returns."""
        reward, value = mlp(self.reward, features)[..., 0], mlp(self.value, features)[..., 0]
        discount = self.discounts(features)
        result = []
        for tau in range(HORIZON - 1):
            longest = HORIZON - 1 - tau
            total = 0.0
            for k in range(1, longest + 1):
                k_step, factor = 0.0, 1.0
                for n in range(tau, tau + k):
                    k_step, factor = k_step + factor * reward[n], factor * discount[n]
                k_step = k_step + factor * value[tau + k]
                total = total + LAMBDA ** (k - 1) * (1 - LAMBDA if k < longest else 1) * k_step
            result.append(total)
        return np.stack(result)

    def weights(self, features):
        discount = self.discounts(features)
        return np.stack([np.prod(discount[:tau], 0) for tau in range(HORIZON - 1)])


# The compiled step that is looked at


@pytest.fixture(scope="module", params=[False, True], ids=["fixed_discount", "discount_head"])
def trained(request, make_agent, make_batch):
    """An agent after one step, and all that went into it: weights before, batch and random draws."""
    with_head = request.param
    options = {
        "model": {"discount_head": with_head, "lr": 0.05},
        "actor": {"lr": 0.05},
        "value": {"lr": 0.05},
    }
    agent, before = make_agent(**options), make_agent(**options)  # Equal: they have the same seed.
    rng = np.random.default_rng(5)
    for one, other in zip(parts(agent).values(), parts(before).values(), strict=True):
        for variable, twin in zip(one.trainable_variables, other.trainable_variables, strict=True):
            if len(variable.shape) == 1:  # Biases that matter.
                value = 0.2 * rng.normal(size=variable.shape)
                variable.assign(value)
                twin.assign(value)
    batch = make_batch()
    agent.random.reset_from_seed(SEED)
    metrics = {name: float(value) for name, value in agent.train(batch).items()}

    gradients = {name: first_gradients(optimizer.adam) for name, optimizer in agent.optimizers.items()}
    for one, other in zip(parts(agent).values(), parts(before).values(), strict=True):
        for variable, twin in zip(one.trainable_variables, other.trainable_variables, strict=True):
            assert not np.array_equal(variable, twin), f"{variable.path} did not move"

    draws = tf.random.Generator.from_seed(SEED, alg="philox")
    noise = draws.normal([2, 3, STOCH])
    posterior, _ = before.world_model.observe(batch, noise)
    length = 2 if with_head else 3  # With a discount head no imagination starts from the last step.
    count = 2 * length
    imagination_noise = draws.normal([HORIZON, count, STOCH]).numpy().astype(np.float64)
    seeds = tf.transpose(draws.make_seeds(HORIZON))
    return SimpleNamespace(
        agent=agent,
        before=before,
        reference=NumpyAgent(before),
        batch=batch,
        metrics=metrics,
        gradients=gradients,
        model_noise=noise,
        z=posterior.stoch[:, :length].numpy().reshape(count, STOCH).astype(np.float64),
        h=posterior.deter[:, :length].numpy().reshape(count, -1).astype(np.float64),
        noise=imagination_noise,
        action_noise=np.stack([tf.random.stateless_normal([count, ACTIONS], seed) for seed in seeds]).astype(
            np.float64
        ),
    )


def parts(agent):
    return {"model": agent.world_model, "actor": agent.actor, "value": agent.value}


def first_gradients(adam):
    """Gradients of an optimiser's only step so far, in the order of its variables."""
    assert int(adam.iterations) == 1
    return [v.numpy().astype(np.float64) / 0.1 for v in adam.variables if v.path.endswith("momentum")]


def test_metrics_are_those_of_the_reference(trained):
    reference = trained.reference
    features, _ = reference.imagine(trained)
    returns, weights = reference.returns(features), reference.weights(features)
    value = mlp(reference.value, features[:-1])[..., 0]
    expected = {
        "actor_loss": -(weights * returns).mean(),
        "value_loss": (weights * (0.5 * (returns - value) ** 2 + 0.5 * np.log(2 * np.pi))).mean(),
        "imagined_reward": mlp(reference.reward, features).mean(),
        "imagined_return": returns.mean(),
        "imagined_value": value.mean(),
    }
    for name, number in expected.items():
        assert trained.metrics[name] == pytest.approx(number, rel=1e-3, abs=1e-4), name
    for name in NETWORKS:
        norm = np.sqrt(sum((g**2).sum() for g in trained.gradients[name]))
        assert trained.metrics[f"{name}_grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert trained.metrics[f"{name}_skipped"] == 0.0


def actor_differences(trained, own_input):
    """Derivative of the actor loss along one random direction per variable: by differences, and by the gradient."""
    reference = trained.reference
    nominal, seen = reference.imagine(trained)
    weights = reference.weights(nominal)  # They carry no gradient.

    def loss():
        features, _ = reference.imagine(trained, None if own_input else seen)
        return -(weights * reference.returns(features)).mean()

    variables = [w for layer in reference.actor for w in layer]
    rng = np.random.default_rng(0)
    expected, found = [], []
    for variable, gradient in zip(variables, trained.gradients["actor"], strict=True):
        direction = rng.normal(size=variable.shape)
        original = variable.copy()
        losses = []
        for sign in (1, -1):
            variable[...] = original + sign * EPS * direction
            losses.append(loss())
        variable[...] = original
        expected.append((losses[0] - losses[1]) / (2 * EPS))
        found.append((gradient * direction).sum())
    return np.array(found), np.array(expected)


def test_actor_gradient_equals_finite_differences(trained):
    """The surroundings move with the actions, what the policy sees does not."""
    found, expected = actor_differences(trained, own_input=False)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3 * np.abs(expected).max())


def test_actor_gradient_ignores_its_own_input(trained):
    found, through_input = actor_differences(trained, own_input=True)
    assert np.abs(found - through_input).max() > 0.02 * np.abs(found).max()


def test_value_gradient_is_that_of_the_regression_alone(trained):
    """The target stands still: only v_1 ... v_{H-1} are moved, by differences again."""
    reference = trained.reference
    features, _ = reference.imagine(trained)
    returns, weights = reference.returns(features), reference.weights(features)
    rng = np.random.default_rng(0)
    for variable, gradient in zip(
        [w for layer in reference.value for w in layer], trained.gradients["value"], strict=True
    ):
        direction = rng.normal(size=variable.shape)
        original = variable.copy()
        losses = []
        for sign in (1, -1):
            variable[...] = original + sign * EPS * direction
            losses.append((weights * 0.5 * (returns - mlp(reference.value, features[:-1])[..., 0]) ** 2).mean())
        variable[...] = original
        expected = (losses[0] - losses[1]) / (2 * EPS)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=5e-3, abs=1e-4)


def test_model_gradient_is_that_of_the_model_loss_alone(trained):
    """Actor and value loss give the world model nothing, although their gradients run through it."""
    model = trained.before.world_model
    with tf.GradientTape() as tape:
        loss, _, metrics = model.loss(trained.batch, trained.model_noise)
    assert trained.metrics["model_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert set(metrics) <= set(trained.metrics)
    for variable, gradient, found in zip(
        model.trainable_variables,
        tape.gradient(loss, model.trainable_variables),
        trained.gradients["model"],
        strict=True,
    ):
        scale = np.abs(gradient).max()
        assert scale > 0, variable.path
        np.testing.assert_allclose(found / scale, gradient / scale, rtol=1e-3, atol=1e-3, err_msg=variable.path)


def test_model_loss_does_not_touch_actor_and_value(trained):
    agent = trained.before
    with tf.GradientTape() as tape:
        loss, posterior, _ = agent.world_model.loss(trained.batch, trained.model_noise)
        total = loss + tf.reduce_sum(feature(posterior))
    behaviour = agent.actor.trainable_variables + agent.value.trainable_variables
    assert tape.gradient(total, behaviour) == [None] * len(behaviour)


@pytest.mark.parametrize("learning", NETWORKS)
def test_a_learning_rate_moves_its_own_network_only(trained, learning):
    agent = trained.agent
    for name in NETWORKS:
        agent.optimizers[name].adam.learning_rate.assign(0.05 if name == learning else 0.0)
    before = {name: part.get_weights() for name, part in parts(agent).items()}
    updates = int(agent.updates)
    agent.train(trained.batch)
    assert int(agent.updates) == updates + 1
    for name, part in parts(agent).items():
        moved = [not np.array_equal(old, new) for old, new in zip(before[name], part.get_weights(), strict=True)]
        assert all(moved) if name == learning else not any(moved)


def test_a_step_that_is_not_finite_changes_nothing(trained):
    agent = trained.agent
    for optimizer in agent.optimizers.values():
        optimizer.adam.learning_rate.assign(0.05)
    before = {name: part.get_weights() for name, part in parts(agent).items()}
    metrics = agent.train(trained.batch._replace(reward=trained.batch.reward * np.nan))
    assert float(metrics["model_skipped"]) == 1.0
    assert float(metrics["actor_skipped"]) == float(metrics["value_skipped"]) == 0.0
    for old, new in zip(before["model"], agent.world_model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_each_optimizer_holds_one_network(trained):
    for name, network in parts(trained.agent).items():
        optimizer = trained.agent.optimizers[name]
        assert isinstance(optimizer, Optimizer)
        assert [id(v) for v in optimizer._variables] == [id(v) for v in network.trainable_variables]

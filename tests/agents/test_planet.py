"""PlaNet as a whole: what it trains, how it plans, and what a checkpoint holds."""

import numpy as np
import pytest
import tensorflow as tf

from dreamer.agents.planet import PlaNet
from dreamer.types import ActionSpace, State

ACTIONS = 3


@pytest.fixture
def make_planet(model_settings):
    """A PlaNet with networks of a few units; keyword arguments replace single keys of the planner."""

    def make(seed=0, noise=0.3, value=None, **planner):
        return PlaNet(
            ActionSpace(ACTIONS, False),
            model=model_settings,
            planner={"horizon": 3, "candidates": 200, "best": 20, "iterations": 8, "value": False} | planner,
            optimizer={"epsilon": 1e-7, "clip": 1e6},
            explore={"noise": noise},
            gamma=0.9,
            seed=seed,
            value=value,
        )

    return make


def images(count, seed=0):
    return tf.constant(np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3)), tf.uint8)


def carry_of(agent, count):
    return agent.world_model.rssm.initial(count), tf.zeros([count, ACTIONS])


@pytest.fixture
def steer(monkeypatch):
    """Replace an agent's world: what costs is the distance of an action from a point, which differs from step to step.

    The point is the tanh of the first entries of h, which begin as they were filtered and become -0.5 times as large.
    """

    def replace(agent):
        def img_step(state, action, noise):
            assert noise.shape == (action.shape[0], agent.world_model.rssm.stoch)
            wanted = tf.tanh(state.deter[:, :ACTIONS])
            cost = tf.reduce_sum(tf.square(action - wanted), -1, keepdims=True)
            return State(cost, cost, cost, -0.5 * state.deter)

        monkeypatch.setattr(agent.world_model.rssm, "img_step", img_step)
        monkeypatch.setattr(agent.world_model, "reward", lambda features: -features[..., 0])

    return replace


def test_trains_the_world_model_as_dreamer_does(make_planet, make_agent, make_batch):
    planet, dreamer = make_planet(), make_agent()
    before = planet.world_model.get_weights()
    for a, b in zip(before, dreamer.world_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = []
    for agent in (planet, dreamer):
        agent.random.reset_from_seed(3)
        metrics.append(agent.train(make_batch()))
        assert int(agent.updates) == 1
    for name, value in metrics[0].items():
        assert float(value) == pytest.approx(float(metrics[1][name]), rel=1e-4), name
    assert metrics[1].keys() - metrics[0].keys() == {
        *("actor_loss", "value_loss", "imagined_reward", "imagined_return", "imagined_value", "actor_entropy"),
        *("actor_grad_norm", "actor_skipped", "value_grad_norm", "value_skipped"),
    }
    after = planet.world_model.get_weights()
    for a, b, start in zip(after, dreamer.world_model.get_weights(), before, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)  # of steps of 1e-3
        assert not np.array_equal(a, start)


def test_every_start_gets_the_plan_for_its_own_state(make_planet, steer):
    agent = make_planet()
    steer(agent)
    image, is_first = images(4), tf.ones([4], bool)
    action, (state, carried) = agent.evaluate({"image": image}, is_first, carry_of(agent, 4))
    wanted = np.tanh(state.deter[:, :ACTIONS])
    np.testing.assert_allclose(action, wanted, atol=0.1)
    assert np.ptp(wanted, 0).max() == 0  # All are at the zero state, which filtering leaves alike.
    # From different states on.
    rng = np.random.default_rng(0)
    mixed = State(*(tf.constant(rng.normal(size=(4, n)), tf.float32) for n in (4, 4, 4, 8))), carried
    action, (state, carried) = agent.evaluate({"image": image}, ~is_first, mixed)
    wanted = np.tanh(state.deter[:, :ACTIONS])
    assert np.ptp(wanted, 0).max() > 0.5
    np.testing.assert_allclose(action, wanted, atol=0.1)
    np.testing.assert_array_equal(carried, action)


def test_a_plan_adds_up_the_rewards_of_all_its_steps(make_planet, monkeypatch):
    """The reward of every successor counts once: the reward here is 1 a step, whatever is done."""
    agent = make_planet(candidates=4, best=2, iterations=1)
    seen = []
    monkeypatch.setattr(agent.world_model, "reward", lambda features: tf.ones(features.shape[:1]))
    monkeypatch.setattr(
        "dreamer.agents.planet.plan",
        lambda evaluate, noise, seeds, best: [seen.append(evaluate(noise[0], seeds[0])), noise[0, :, 0]][1],
    )
    agent.evaluate.python_function({"image": images(2)}, tf.ones([2], bool), carry_of(agent, 2))
    np.testing.assert_array_equal(seen[0], np.full([2, 4], 3.0))


def test_exploring_adds_noise_and_evaluating_does_not(make_planet, steer):
    agent = make_planet(noise=0.2, iterations=12)
    steer(agent)
    count = 200
    image, is_first = tf.repeat(images(1), count, 0), tf.ones([count], bool)
    wanted = np.tanh(agent.evaluate({"image": image}, is_first, carry_of(agent, count))[1][0].deter[0, :ACTIONS])
    inside = np.abs(wanted) < 0.5
    assert inside.any()
    for policy, spread in ((agent.evaluate, 0.0), (agent.explore, 0.2)):
        action, (_, carried) = policy({"image": image}, is_first, carry_of(agent, count))
        np.testing.assert_allclose(np.std(action, 0)[inside], spread, atol=0.04)
        np.testing.assert_allclose(np.mean(action, 0)[inside], wanted[inside], atol=0.06)
        np.testing.assert_array_equal(carried, action, "the model must see the action that was taken")
        assert np.abs(action).max() <= 1.0


def test_acts_for_one_environment_and_repeats_with_the_generator(make_planet):
    agent = make_planet()
    observation = {"image": images(1)[0].numpy(), "is_first": np.bool_(True)}
    for explore in (True, False):
        actions = []
        for seed in (1, 1, 2):
            agent.random.reset_from_seed(seed)
            action, carry = agent.act(observation, agent.initial(), explore)
            assert action.shape == (ACTIONS,)
            assert action.dtype == np.float32
            np.testing.assert_array_equal(carry[1][0], action)
            actions.append(action)
        np.testing.assert_array_equal(actions[0], actions[1])
        assert not np.array_equal(actions[0], actions[2])


def test_a_checkpoint_brings_back_weights_moments_and_draws(make_planet, make_batch, tmp_path):
    agent, other = make_planet(seed=0), make_planet(seed=1)
    agent.train(make_batch())
    path = tf.train.Checkpoint(**agent.checkpoint()).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(**other.checkpoint()).read(path).assert_consumed()
    assert int(other.updates) == 1
    for one in (agent, other):
        one.train(make_batch())
    for a, b in zip(agent.world_model.get_weights(), other.world_model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

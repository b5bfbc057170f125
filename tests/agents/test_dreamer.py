"""Dreamer as a whole: sizes, policy, and what a checkpoint holds."""

import gc
import math
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph

from dreamer.agents.acting import exploration_noise
from dreamer.agents.dreamer import Dreamer, epsilon_greedy, linear
from dreamer.config import load
from dreamer.types import ActionSpace, State
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import preprocess

ACTIONS = 3


def parameters(layer):
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


def images(count, seed=0):
    return tf.constant(np.random.default_rng(seed).integers(0, 256, (count, 64, 64, 3)), tf.uint8)


def some_carry(rows, seed=0):
    rng = np.random.default_rng(seed)
    mean, stoch, deter, action = (
        tf.constant(np.tanh(rng.normal(size=(rows, size))), tf.float32) for size in (4, 4, 8, ACTIONS)
    )
    return State(mean, tf.abs(mean) + 0.1, stoch, deter), action


def rows(nested, index):
    return tf.nest.map_structure(lambda x: tf.gather(x, index), nested)


@pytest.fixture(scope="module")
def agent(make_agent):
    """Not trained by any test here."""
    return make_agent()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_an_agent_that_is_gone_leaves_no_graph_and_no_weights(make_agent, make_batch, precision, policy):
    precision(policy)

    def graphs():
        for _ in range(2):  # TensorFlow takes a graph apart as its function ends
            gc.collect()
        return {id(item): item.name for item in gc.get_objects() if isinstance(item, FuncGraph)}

    def use():
        agent = make_agent()
        agent.train(make_batch())
        agent.act_rows({"image": images(1)}, np.array([True]), agent.initial(), True)
        return weakref.ref(agent.world_model.weights[0].value)

    weights = [use()]  # functions that belong to no agent are traced in its graphs, and stay
    before = graphs()
    weights.append(use())
    assert [name for number, name in graphs().items() if number not in before] == []
    assert [weight() for weight in weights] == [None, None]


# Sizes


def test_parameter_counts_at_the_published_sizes():
    config = load()
    agent = Dreamer(
        ActionSpace(6, False),
        model=config.model,
        actor=config.actor,
        value=config.value,
        behavior=config.behavior,
        optimizer=config.optimizer,
        explore=config.explore,
        seed=0,
    )
    assert parameters(agent.world_model) == 5_296_820
    assert parameters(agent.actor) == 578_412
    assert parameters(agent.value) == 413_601
    # Nothing is held that no optimiser trains.
    for name, network in (("model", agent.world_model), ("actor", agent.actor), ("value", agent.value)):
        assert len(network.variables) == len(network.trainable_variables)
        moments = agent.optimizers[name].adam.variables
        assert sum(int(np.prod(m.shape)) for m in moments) == 2 * parameters(network) + 2


def test_weights_depend_on_the_seed_only(make_agent):
    one, same, other = (make_agent(seed=seed) for seed in (0, 0, 1))
    for part in ("world_model", "actor", "value"):
        weights = [getattr(agent, part).get_weights() for agent in (one, same, other)]
        for a, b, c in zip(*weights, strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.array_equal(a, c) or not a.any()
    np.testing.assert_array_equal(one.random.normal([4]), same.random.normal([4]))
    assert not np.array_equal(one.random.normal([4]), other.random.normal([4]))


def test_no_two_weight_matrices_start_alike(agent):
    seen = {}
    for part in (agent.world_model, agent.actor, agent.value):
        for weight in part.trainable_variables:
            if np.ndim(weight) > 1 and weight.numpy().any():
                key = np.round(np.ravel(weight)[:3] / np.abs(weight).max(), 5).tobytes()
                assert key not in seen, (weight.path, seen.get(key))
                seen[key] = weight.path


# Exploration noise


def test_exploration_noise_by_hand():
    action = tf.constant([[0.5, -0.9, 1.0], [0.0, 0.2, -1.0]])
    noise = tf.constant([[1.0, -1.0, 0.0], [-2.0, 0.5, 10.0]])
    result = exploration_noise(action, 0.3, noise)
    np.testing.assert_allclose(result, [[0.8, -1.0, 1.0], [-0.6, 0.35, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(exploration_noise(action, 0.0, noise), action)


def test_explore_adds_noise_of_the_given_size(make_agent):
    agent = make_agent(explore={"noise": 0.2}, actor={"init_std": 1e-4, "min_std": 1e-6})
    count = 1000
    image, is_first = tf.repeat(images(1), count, 0), tf.ones([count], bool)
    carry = agent.world_model.rssm.initial(count), tf.zeros([count, ACTIONS])
    agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
    agent.actor.mlp.out.bias.assign([0.1, -0.4, 5.0, 0.0, 0.0, 0.0])
    action, (_, carried) = agent.explore({"image": image}, is_first, carry)
    np.testing.assert_allclose(np.mean(action[:, :2], 0), np.tanh([0.1, -0.4]), atol=0.03)
    np.testing.assert_allclose(np.std(action[:, :2], 0), [0.2, 0.2], rtol=0.1)
    assert np.abs(action).max() <= 1.0
    assert 0.3 < np.mean(action[:, 2] == 1.0) < 0.7, "noise is clipped, not reflected"
    np.testing.assert_array_equal(carried, action, "the model must see the action that was taken")


def test_the_paper_explores_around_the_mode(make_agent):
    """From the same state, samples of a wide actor are spread as widely; the mode with a little noise is not."""
    spread = {}
    for mode in (False, True):
        agent = make_agent(explore={"noise": 0.01, "mode": mode}, actor={"init_std": 0.5})
        count = 200
        carry = agent.world_model.rssm.initial(count), tf.zeros([count, ACTIONS])
        agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
        action, _ = agent.explore({"image": tf.repeat(images(1), count, 0)}, tf.ones([count], bool), carry)
        spread[mode] = np.std(action)
    assert spread[False] == pytest.approx(0.4, abs=0.05)  # of tanh(Normal(0, 0.5))
    assert spread[True] < 0.15  # The mode is the likeliest of 100 samples.


def test_discrete_actions_are_sampled_whatever_is_explored_around(make_agent):
    """The paper's exploration around the mode is of continuous actions; discrete ones are samples, epsilon-greedy."""
    agent = make_agent(ActionSpace(3, True), explore={"mode": True, "epsilon": 0.0, "epsilon_end": 0.0})
    agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
    count = 300
    carry = agent.world_model.rssm.initial(count), tf.zeros([count, 3])
    action, _ = agent.explore({"image": tf.repeat(images(1), count, 0)}, tf.ones([count], bool), carry)
    np.testing.assert_allclose(np.mean(action, 0), [1 / 3] * 3, atol=0.1)


# Policy


def test_policy_filters_with_the_previous_action_and_then_acts(agent):
    image, is_first, carry = images(3), tf.constant([False, True, False]), some_carry(3)
    for policy in (agent.evaluate, agent.explore):
        agent.random.reset_from_seed(4)
        action, (state, _) = policy({"image": image}, is_first, carry)
        copy = tf.random.Generator.from_seed(4, alg="philox")
        noise = copy.normal([3, 4])
        kept = tf.where(is_first[:, None], 0.0, carry[1])
        embed = agent.world_model.encoder(preprocess(image))
        expected = agent.world_model.rssm.obs_step(carry[0], kept, embed, is_first, noise)
        for a, b in zip(state, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        dist, seed = agent.actor.distribution(feature(state)), copy.make_seeds(1)[:, 0]
        if policy is agent.evaluate:
            chosen = dist.mode(seed)
        else:
            chosen = exploration_noise(dist.sample(seed), 0.3, copy.normal([3, ACTIONS]))
        np.testing.assert_allclose(action, chosen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("explore", [False, True])
def test_is_first_resets_state_and_action(agent, explore):
    policy = agent.explore if explore else agent.evaluate
    image = images(3)

    def run(is_first, carry):
        agent.random.reset_from_seed(4)
        return policy({"image": image}, tf.constant(is_first), carry)

    initial = agent.world_model.rssm.initial(3), tf.zeros([3, ACTIONS])
    fresh = run([True, True, True], initial)
    again = run([True, True, True], some_carry(3))
    mixed = run([True, False, True], some_carry(3))
    for a, b, c in zip(*map(tf.nest.flatten, (fresh, again, mixed)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(rows(a, [0, 2]), rows(c, [0, 2]))
    deter, mixed_deter = fresh[1][0].deter, mixed[1][0].deter
    assert np.abs(deter[1] - mixed_deter[1]).max() > 0.01
    # Either of state and action alone makes a difference where an episode goes on.
    state, action = some_carry(3)
    for carry in ((initial[0], action), (state, initial[1])):
        going_on = run([False, False, False], carry)[1][0].deter
        assert np.abs(going_on - run([False, False, False], (state, action))[1][0].deter).max() > 1e-3


def test_evaluation_of_a_batch_equals_one_at_a_time(make_agent):
    """With standard deviations near zero nothing random is left, and each state must get its own action."""
    agent = make_agent(model={"min_std": 1e-6}, actor={"init_std": 1e-5, "min_std": 1e-6})
    for out in (agent.world_model.rssm.posterior_out, agent.actor.mlp.out):
        out.kernel.assign(3 * out.kernel)
        half = out.kernel.shape[1] // 2
        mask = np.arange(2 * half) < half
        out.kernel.assign(out.kernel * mask.astype(np.float32))
        out.bias.assign(np.where(mask, 0.0, -30.0))
    carry, image, is_first = some_carry(3), images(3), tf.constant([False, True, False])
    batch_actions = []
    together = carry
    for step in range(2):
        action, together = agent.evaluate({"image": images(3, seed=step)}, is_first, together)
        batch_actions.append(action.numpy())
    assert np.ptp(batch_actions[1], 0).max() > 0.05, "the states must ask for different actions"
    for element in range(3):
        alone = rows(carry, [element])
        for step in range(2):
            image = images(3, seed=step)[element : element + 1]
            action, alone = agent.evaluate({"image": image}, is_first[element : element + 1], alone)
            np.testing.assert_allclose(action[0], batch_actions[step][element], atol=2e-4)


def test_evaluation_takes_the_mode_and_not_a_sample(make_agent):
    """Of 100 draws the likeliest lies near the mode, far closer than a sample."""
    agent = make_agent(actor={"init_std": 0.5})
    agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
    image, is_first = images(3), tf.ones([3], bool)
    carry = agent.world_model.rssm.initial(3), tf.zeros([3, ACTIONS])
    evaluated, explored = [], []
    for _ in range(30):
        evaluated.append(agent.evaluate({"image": image}, is_first, carry)[0])
        explored.append(agent.explore({"image": image}, is_first, carry)[0])
    assert np.std(evaluated) < 0.5 * np.std(explored)


def test_act_returns_one_numpy_action(agent):
    observation = {"image": images(1)[0].numpy(), "is_first": True}
    for explore in (True, False):
        carry = agent.initial()
        for step in range(3):
            action, carry = agent.act(observation | {"is_first": step == 0}, carry, explore)
            assert isinstance(action, np.ndarray)
            assert action.dtype == np.float32
            assert action.shape == (ACTIONS,)
            assert np.abs(action).max() <= 1.0
            np.testing.assert_array_equal(carry[1][0], action)
            assert carry[0].deter.shape == (1, 8)


def test_act_repeats_with_the_generator_state_and_differs_otherwise(agent):
    observation = {"image": images(1)[0].numpy(), "is_first": np.bool_(True)}
    agent.random.reset_from_seed(1)
    one, two = (agent.act(observation, agent.initial(), True)[0] for _ in range(2))
    agent.random.reset_from_seed(1)
    np.testing.assert_array_equal(agent.act(observation, agent.initial(), True)[0], one)
    assert not np.array_equal(one, two)


# Discrete actions


def test_discrete_agent_trains_and_evaluates(make_agent, make_batch):
    agent = make_agent(ActionSpace(3, True), model={"discount_head": True})
    before = agent.actor.get_weights()
    metrics = agent.train(make_batch())
    for name, value in metrics.items():
        assert np.isfinite(value), name
    assert 0 < float(metrics["actor_entropy"]) <= np.log(3) + 1e-6
    assert any(not np.array_equal(a, b) for a, b in zip(before, agent.actor.get_weights(), strict=True))
    observation = {"image": images(1)[0].numpy(), "is_first": True}
    action, _ = agent.act(observation, agent.initial(), explore=False)
    assert sorted(action) == [0.0, 0.0, 1.0]
    # Nothing follows a terminal, so that nothing is learned from imagining on from there, wherever in a window it is.
    assert float(metrics["actor_loss"]) != 0
    batch = make_batch()
    metrics = agent.train(batch._replace(discount=tf.zeros_like(batch.discount)))
    assert float(metrics["actor_loss"]) == float(metrics["value_loss"]) == 0


def test_start_states_that_count_by_hand(make_agent):
    discount = tf.constant([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    with_head = make_agent(ActionSpace(3, True), model={"discount_head": True})
    np.testing.assert_array_equal(with_head._start_weights(discount), [1, 0, 1, 1])
    assert make_agent()._start_weights(discount) == 1


@pytest.mark.parametrize(
    ("bootstrap", "loss"),
    [
        # Returns 6.1192, 5.86 and 5.5: 1 + 0.9 (0.2 * 5 + 0.8 V), from 5 on; weights 1, 0.9 and 0.81.
        (True, -(6.1192 + 0.9 * 5.86 + 0.81 * 5.5) / 3),
        (False, -4.0),  # the sum of all rewards (eq. 4)
    ],
)
def test_the_actors_objective_by_hand_with_and_without_what_the_value_expects(make_agent, make_batch, bootstrap, loss):
    """Every imagined reward is 1 and every value 5; gamma 0.9, lambda 0.8, 4 imagined steps."""
    agent = make_agent(behavior={"bootstrap": bootstrap})
    for out, number in ((agent.world_model.reward_head.out, 1.0), (agent.value.mlp.out, 5.0)):
        out.kernel.assign(tf.zeros_like(out.kernel))
        out.bias.assign([number])
    metrics = agent.train(make_batch())
    assert float(metrics["actor_loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(metrics["imagined_return"]) == pytest.approx((6.1192 + 5.86 + 5.5) / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("predicted", "total"),
    [
        (0.45, 1.875),  # half of the episodes go on after every step: 1 + 0.5 + 0.25 + 0.125
        (0.99, 4.0),  # above gamma: no more than certain
    ],
)
def test_without_bootstrap_rewards_count_as_likely_as_they_are_reached(make_agent, make_batch, predicted, total):
    """Every imagined reward is 1; gamma 0.9, 4 imagined steps, all start states but terminals."""
    agent = make_agent(ActionSpace(3, True), model={"discount_head": True}, behavior={"bootstrap": False})
    model, logit = agent.world_model, math.log(predicted / (1 - predicted))
    for out, number in ((model.reward_head.out, 1.0), (model.discount_head.out, logit)):
        out.kernel.assign(tf.zeros_like(out.kernel))
        out.bias.assign([number])
    batch = make_batch()._replace(discount=tf.ones([2, 3]), action=tf.one_hot([[0, 1, 2], [2, 0, 1]], 3))
    # Nothing is imagined from the last step of a window, and a start at a terminal in its middle counts with 0.
    terminal = batch._replace(discount=tf.constant([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    for seen, share in ((batch, 1.0), (terminal, 3 / 4)):
        loss = agent.losses(seen, agent.noise(seen)).metrics["actor_loss"]
        assert float(loss) == pytest.approx(-total * share, rel=1e-5)
    assert float(agent.train(batch)["actor_loss"]) == pytest.approx(-total, rel=1e-5)


def test_without_bootstrap_nothing_is_divided_by_a_discount_of_0(make_agent, make_batch):
    agent = make_agent(behavior={"bootstrap": False, "discount": 0.0})
    out = agent.world_model.reward_head.out
    out.kernel.assign(tf.zeros_like(out.kernel))
    out.bias.assign([1.0])
    assert float(agent.train(make_batch())["actor_loss"]) == pytest.approx(-4.0)


def test_without_bootstrap_the_actor_learns_alike_whatever_the_value_says(make_agent, make_batch):
    actors = []
    for scale in (1.0, 3.0):
        agent = make_agent(behavior={"bootstrap": False})
        agent.value.mlp.out.kernel.assign(scale * agent.value.mlp.out.kernel)
        before = agent.actor.get_weights()
        agent.train(make_batch())
        actors.append(agent.actor.get_weights())
    for start, one, other in zip(before, *actors, strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, start)


def test_evaluation_is_epsilon_greedy_with_its_own_epsilon(make_agent):
    image, is_first = tf.repeat(images(1), 300, 0), tf.ones([300], bool)
    shares = []
    for epsilon in (0.0, 0.3):
        agent = make_agent(ActionSpace(3, True), explore={"epsilon": 1.0, "epsilon_eval": epsilon})
        agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
        agent.actor.mlp.out.bias.assign([0.0, 0.1, 0.0])
        carry = agent.world_model.rssm.initial(300), tf.zeros([300, 3])
        action, (_, carried) = agent.evaluate({"image": image}, is_first, carry)
        np.testing.assert_array_equal(action, carried)
        shares.append(np.mean(action, 0))
    np.testing.assert_array_equal(shares[0], [0, 1, 0])
    # A random choice may be the mode too. The deviation of each share is at most 0.024.
    np.testing.assert_allclose(shares[1], [0.1, 0.8, 0.1], atol=0.08)


# Several choices at once


GROUPS = ActionSpace(5, True, (2, 3))


def test_an_agent_of_several_choices_trains_and_acts(make_agent, make_batch):
    agent = make_agent(GROUPS, model={"discount_head": True})
    batch = make_batch()
    action = np.zeros([*batch.reward.shape, 5], np.float32)
    action[..., [0, 4]] = 1
    metrics = agent.train(batch._replace(action=tf.constant(action)))
    assert all(np.isfinite(value) for value in metrics.values())
    assert np.log(3) < float(metrics["actor_entropy"]) <= np.log(2) + np.log(3) + 1e-6
    carry = agent.initial(3)
    for explore in (False, True):
        actions, carry = agent.act_rows({"image": images(3).numpy()}, np.ones(3, bool), carry, explore)
        np.testing.assert_array_equal([part.sum(-1) for part in np.split(actions, [2], -1)], np.ones([2, 3]))


def test_exploration_is_epsilon_greedy_in_each_group_by_itself(make_agent):
    image, is_first = tf.repeat(images(1), 1000, 0), tf.ones([1000], bool)
    agent = make_agent(GROUPS, explore={"epsilon_eval": 0.4})
    agent.actor.mlp.out.kernel.assign(tf.zeros_like(agent.actor.mlp.out.kernel))
    agent.actor.mlp.out.bias.assign([0.0, 0.1, 0.0, 0.0, 0.1])
    action, _ = agent.evaluate({"image": image}, is_first, (agent.world_model.rssm.initial(1000), tf.zeros([1000, 5])))
    shares = np.mean(action, 0)
    # A random choice may be the mode too. The deviation of each share is at most 0.014.
    np.testing.assert_allclose(shares, [0.2, 0.8, 0.4 / 3, 0.4 / 3, 0.6 + 0.4 / 3], atol=0.06)
    both = np.mean(action[:, 1] * action[:, 4])
    np.testing.assert_allclose(both, shares[1] * shares[4], atol=0.05)


# Checkpoint


def test_a_checkpoint_restores_everything(make_agent, make_batch, tmp_path):
    agent, other = make_agent(seed=0), make_agent(seed=1)
    for optimizer in agent.optimizers.values():  # Moments that are not zero, without a training step.
        for index, variable in enumerate(optimizer.adam.variables):
            if np.ndim(variable):
                variable.assign(np.full(variable.shape, 0.1 + index))
        optimizer.adam.iterations.assign(7)
    agent.updates.assign(12)
    agent.random.normal([3])
    path = tf.train.Checkpoint(**agent.checkpoint()).save(tmp_path / "checkpoint")
    tf.train.Checkpoint(**other.checkpoint()).restore(path).assert_consumed()

    def variables(agent):
        parts = [agent.world_model, agent.actor, agent.value, *(o.adam for o in agent.optimizers.values())]
        return [v.numpy() for part in parts for v in part.variables if "learning_rate" not in v.path]

    for a, b in zip(variables(agent), variables(other), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(other.updates) == 12
    np.testing.assert_array_equal(agent.random.normal([3]), other.random.normal([3]))


def test_open_loop_of_the_agent_is_that_of_its_model(agent, make_batch):
    batch = make_batch(length=5)
    agent.random.reset_from_seed(9)
    predicted = agent.open_loop(batch, tf.constant(2))
    noise = tf.random.Generator.from_seed(9, alg="philox").normal([2, 5, 4])
    expected = agent.world_model.open_loop(batch, noise, 2)
    assert set(predicted) == {"image", "reward"}
    for name, value in predicted.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_open_loop_of_episodes_of_any_length(agent, make_batch):
    """From the third length on, TensorFlow uses one trace for all of them."""
    for length in (4, 7, 5, 6):
        predicted = agent.open_loop(make_batch(length=length), tf.constant(3))
        assert predicted["image"].shape == (2, length, 64, 64, 3)
        assert predicted["reward"].shape == (2, length)


def test_epsilon_greedy_by_hand():
    action = tf.one_hot([0, 1, 2], 4)
    uniform = tf.constant([[0.1, 0.3, 0.29], [0.99, 0.0, 0.5]])
    # 0.1 and 0.29 lie below epsilon: choices floor(0.99 * 4) = 3 and floor(0.5 * 4) = 2; 0.3 does not.
    np.testing.assert_array_equal(epsilon_greedy(action, 0.3, uniform), np.eye(4)[[3, 1, 2]])
    np.testing.assert_array_equal(epsilon_greedy(action, 0.0, uniform), action)


def test_linear_schedule_by_hand():
    epsilon = linear(0.4, 0.1, 200_000)
    np.testing.assert_allclose([epsilon(n) for n in (0, 100_000, 200_000, 400_000)], [0.4, 0.25, 0.1, 0.1], rtol=1e-6)

"""What the overlays of paper and releases come to, held to recorded numbers.

The numbers were worked out once in float64 NumPy from the texts of the formulas, by the functions here that begin with
`plain_`, which know nothing of the package. Each is held to its recorded number as well as what the package computes:
a change of the formula, of the inputs or of the package shows. Where a release is known to have another form without a
key (configs/tf1.yaml, docs/settings.md, "Where it differs"), its number stands beside ours.
"""

import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.agents import dreamer as dreamer_module
from dreamer.agents.build import build_agent
from dreamer.behavior.returns import lambda_return
from dreamer.nets.distributions import OneHot, TanhNormal
from dreamer.nets.layers import GRU, seed_stream
from dreamer.types import ActionSpace, Batch
from dreamer.world_model.world_model import FREE_NATS, contrastive_loss, gaussian_kl, preprocess

DISCRETE = ActionSpace(4, True)

# On a GPU, float32 products would otherwise keep ten bits, and the values here are held to six digits.
tf.config.experimental.enable_tensor_float_32_execution(False)


def normals(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def float32(*arrays):
    tensors = [tf.constant(array, tf.float32) for array in arrays]
    return tensors if len(tensors) > 1 else tensors[0]


def small(*overlays, **values):
    """A Dreamer of discrete actions with the settings of these overlays, apart from the sizes of its networks."""
    run = config.load([*overlays, "debug"], {key.replace("__", "."): str(value) for key, value in values.items()})
    return build_agent(run, DISCRETE, seed=0)


def constant_head(layer, *numbers):
    """Let the last layer of a head give the same numbers whatever it sees."""
    layer.kernel.assign(tf.zeros_like(layer.kernel))
    layer.bias.assign(numbers)


def batch(discount):
    """Two rows of experience, of which nothing but the discounts matters here."""
    lead = np.shape(discount)
    return Batch(
        inputs={"image": tf.zeros([*lead, 64, 64, 3], tf.uint8)},
        action=tf.zeros([*lead, DISCRETE.size]),
        reward=tf.zeros(lead),
        discount=float32(discount),
        is_first=tf.zeros(lead, tf.bool),
    )


# Keys


TF1 = [
    ("env.noops", 30, 29),
    ("env.hold_out", True, False),
    ("model.discount_scale", 10.0, 1.0),
    ("model.free_nats_per", "mean", "state"),
    ("optimizer.epsilon", 1e-7, 1e-4),
    ("explore.epsilon_updates", 200_000, 150_000),
]
PAPER = [
    ("model.units", 400, 300),
    ("model.reward_layers", 2, 3),
    ("model.free_nats_per", "mean", "state"),
    ("actor.layers", 4, 3),
    ("actor.units", 400, 300),
    ("value.units", 400, 300),
    ("explore.mode", False, True),
]
EVALUATION = [("explore.epsilon_eval", 0.0, 0.001)]
WITHIN = [("replay.cross_ends", True, False)]
ROUNDS = [("loop.prefill", 5000, 10_000), ("loop.train_every", 1000, 2000), ("loop.eval_every", 10_000, 20_000)]


@pytest.mark.parametrize(
    ("suite", "overlays", "changed"),
    [
        ("dmc", ["paper"], PAPER),
        ("atari", ["paper"], PAPER),
        ("dmc", ["tf1"], TF1 + EVALUATION),
        ("atari", ["tf1"], TF1 + WITHIN),
        ("atari", ["tf1", "tf1_discrete"], TF1 + WITHIN + ROUNDS),
        ("dmlab", ["tf1", "tf1_discrete"], TF1 + WITHIN + ROUNDS),
    ],
)
def test_what_the_overlays_change(suite, overlays, changed):
    assert sorted(config.load([suite]).diff(config.load([suite, *overlays]))) == sorted(changed)


def test_what_the_discrete_suites_change():
    shared = {
        "env.action_repeat": 4,
        "env.time_limit": 4 * 27_000,
        "replay.cross_ends": True,
        "replay.tanh_rewards": True,
        "model.kl_scale": 0.1,
        "behavior.horizon": 10,
        "explore.epsilon_eval": 0.001,
    }
    for suite, own in (
        ("atari", {"task": "boxing", "model.discount_head": True}),
        ("dmlab", {"task": "collect"}),
    ):
        changed = {key: value for key, _, value in config.load().diff(config.load([suite]))}
        assert changed == {"suite": suite} | shared | own


# Schedules


def plain_tf1_epsilon(updates):
    """A factor on 0.4 with a floor of 0.25; the step that it falls with counts the 50 sequences of every update."""
    return 0.4 * np.maximum(1 - 50 * np.array(updates, np.float64) / 1e7, 0.25)


UPDATES = [0, 1000, 50_000, 75_000, 100_000, 149_999, 150_000, 175_000, 200_000, 10**6]
TF1_EPSILON = [0.4, 0.398, 0.3, 0.25, 0.2, 0.100002, 0.1, 0.1, 0.1, 0.1]
PAPER_EPSILON = [0.4, 0.3985, 0.325, 0.2875, 0.25, 0.1750015, 0.175, 0.1375, 0.1, 0.1]


@pytest.mark.parametrize(
    ("overlays", "recorded"),
    [(["tf1"], TF1_EPSILON), (["paper"], PAPER_EPSILON), ([], PAPER_EPSILON)],
    ids=["tf1", "paper", "defaults"],
)
def test_epsilon_that_an_agent_explores_with(overlays, recorded, monkeypatch):
    np.testing.assert_allclose(plain_tf1_epsilon(UPDATES), TF1_EPSILON, rtol=1e-12)
    agent = small("atari", *overlays)
    monkeypatch.setattr(dreamer_module, "epsilon_greedy", lambda action, epsilon, uniform: 0 * action + epsilon)
    image, is_first = tf.zeros([2, 64, 64, 3], tf.uint8), tf.ones([2], bool)
    carry = agent.world_model.rssm.initial(2), tf.zeros([2, DISCRETE.size])
    shown = []
    for updates in UPDATES:
        agent.updates.assign(updates)
        shown.append(agent.explore({"image": image}, is_first, carry)[0])
    np.testing.assert_allclose(shown, np.broadcast_to(np.reshape(recorded, (-1, 1, 1)), np.shape(shown)), rtol=1e-6)


def test_rounds_of_the_tf1_release_in_frames():
    """500 agent steps per 100 updates, 2,500 before the first, an evaluation per 1,000 updates."""
    for overlays, recorded in ((["dmc"], (5000, 1000, 10_000)), (["atari", "tf1_discrete"], (10_000, 2000, 20_000))):
        run = config.load([overlays[0], "tf1", *overlays[1:]])
        repeat, loop = run.env.action_repeat, run.loop
        assert (2500 * repeat, 500 * repeat, 10 * 500 * repeat) == recorded
        assert (loop.prefill, loop.train_every, loop.eval_every) == recorded
        assert loop.train_updates == loop.pretrain == 100


# World model


def plain_kl(mean, std, prior_mean, prior_std):
    terms = np.log(prior_std / std) + (std**2 + (mean - prior_mean) ** 2) / (2 * prior_std**2) - 0.5
    return terms.sum(-1)


KL_RECORDED = {"mean": 4.06215431657409, "state": 1.447329386539282}


def test_free_nats_of_a_batch_and_of_each_state():
    """The KL of 2 x 4 states lies on both sides of 3 nats, so that the two forms differ."""
    mean, prior_mean = 0.9 * normals(0, 2, 2, 4, 6)
    std, prior_std = 0.1 + np.exp(0.3 * normals(1, 2, 2, 4, 6))
    kl = plain_kl(mean, std, prior_mean, prior_std)
    assert (kl < 3).any()
    assert (kl > 3).any()
    after_mean, per_state = np.maximum(kl.mean(), 3.0), np.maximum(kl - 3.0, 0.0).mean()
    np.testing.assert_allclose([after_mean, per_state], [KL_RECORDED["mean"], KL_RECORDED["state"]], rtol=1e-9)
    computed = gaussian_kl(*float32(mean, std, prior_mean, prior_std))
    for overlays, form in ([], "mean"), (["paper"], "state"), (["tf1"], "state"):
        model = config.load(overlays).model
        result = FREE_NATS[model.free_nats_per](computed, model.free_nats)
        assert float(result) == pytest.approx(KL_RECORDED[form], rel=1e-5)


def plain_bernoulli(logit, target):
    p = 1 / (1 + np.exp(-logit))
    return target * np.log(p) + (1 - target) * np.log(1 - p)


DISCOUNT_RECORDED = {"tf1": 0.46391327798275245, "defaults": 4.639132779827524}


@pytest.mark.parametrize("release", ["tf1", "defaults"])
def test_weight_of_the_discount_loss(release):
    """Soft targets gamma * d for a logit of 1.5: five of them 0.99, one 0."""
    discount = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    scale = {"tf1": 1.0, "defaults": 10.0}[release]
    assert -scale * plain_bernoulli(1.5, 0.99 * discount).mean() == pytest.approx(DISCOUNT_RECORDED[release], rel=1e-9)
    agent = small("atari", *(["tf1"] if release == "tf1" else []))
    constant_head(agent.world_model.discount_head.out, 1.5)
    _, _, metrics = agent.world_model.loss(batch(discount), tf.zeros([2, 3, 4]))
    assert float(metrics["discount_loss"]) == pytest.approx(DISCOUNT_RECORDED[release], rel=1e-5)


def plain_contrast(states, means, over):
    """-J_S of eq. 12 with unit variance, the mean over all places; the sum over other images, or other states."""
    states, means = states.reshape(-1, states.shape[-1]), means.reshape(-1, means.shape[-1])
    log_density = -0.5 * ((states[:, None] - means[None]) ** 2 + np.log(2 * np.pi)).sum(-1)  # [state, image]
    axis = {"images": 1, "states": 0}[over]
    return (np.log(np.exp(log_density).sum(axis)) - np.diag(log_density)).mean()


CONTRAST_RECORDED = {"images": 3.3050196405675423, "states": 3.335127009518842}


def test_contrast_is_over_the_images_of_the_batch():
    states, means = normals(2, 2, 2, 3, 5)
    for over, recorded in CONTRAST_RECORDED.items():
        assert plain_contrast(states, means, over) == pytest.approx(recorded, rel=1e-9)
    assert np.mean(contrastive_loss(*float32(states, means))) == pytest.approx(CONTRAST_RECORDED["images"], rel=1e-5)


def plain_gru(x, h, kernel, recurrent, bias, form):
    """Keras's form has the reset gate after the recurrent product and its bias, the block cell of TF1 before it."""
    units = h.shape[-1]
    (xz, xr, xc), (hz, hr, hc) = np.split(x @ kernel + bias[0], 3, -1), np.split(h @ recurrent + bias[1], 3, -1)
    z, r = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
    if form == "block":
        return z * h + (1 - z) * np.tanh(xc + (r * h) @ recurrent[:, 2 * units :] + bias[1, 2 * units :])
    return z * h + (1 - z) * np.tanh(xc + r * hc)


GRU_RECORDED = {
    "keras": [
        [0.9820910825023125, 0.5674088821002622, 0.9330372122407342],
        [0.36994337765686147, -0.8956175276746066, 0.15499379296228696],
    ],
    "block": [
        [0.9980103280928608, -0.8144475238226672, 0.9329210721100742],
        [0.5619863131407397, -0.9217256098959961, 0.17852719711068296],
    ],
}


def test_gru_has_the_reset_gate_after_the_product():
    x, h = normals(3, 2, 4), np.tanh(normals(4, 2, 3))
    kernel, recurrent, bias = normals(5, 4, 9), normals(6, 3, 9), normals(7, 2, 9)
    for form, recorded in GRU_RECORDED.items():
        np.testing.assert_allclose(plain_gru(x, h, kernel, recurrent, bias, form), recorded, rtol=1e-8)
    gru = GRU(4, 3, seeds=seed_stream(0))
    gru.set_weights([kernel, recurrent, bias])
    np.testing.assert_allclose(gru(*float32(x, h)), GRU_RECORDED["keras"], rtol=1e-5)


def test_images_are_not_dithered():
    """0, 1, 128 and 255 divided by 255, minus 0.5; dithered ones would be below 0.5 and differ from call to call."""
    recorded = [-0.5, -0.49607843137, 0.00196078431, 0.5]
    image = tf.constant([[0, 1, 128, 255], [255, 128, 1, 0]], tf.uint8)
    np.testing.assert_allclose(preprocess(image), [recorded, recorded[::-1]], atol=1e-7)
    np.testing.assert_array_equal(preprocess(image), preprocess(image))


# Behaviour


def plain_return(reward, value, discount, lambda_, last):
    """Eq. 6 as the sum over k-step returns that it stands for, [H - 1, N]; `last` is the value of the last state."""
    horizon = len(reward)
    values = np.concatenate([value[:-1], [last]])

    def k_steps(tau, k):
        total, weight = np.zeros_like(reward[0]), np.ones_like(reward[0])
        for step in range(tau, tau + k):
            total, weight = total + weight * reward[step], weight * discount[step]
        return total + weight * values[tau + k]

    returns = []
    for tau in range(horizon - 1):
        most = horizon - 1 - tau
        mixed = sum((1 - lambda_) * lambda_ ** (k - 1) * k_steps(tau, k) for k in range(1, most))
        returns.append(mixed + lambda_ ** (most - 1) * k_steps(tau, most))
    return np.stack(returns)


RETURN_RECORDED = {
    "last": [-0.8496293811080046, 6.910592181390404],
    "early": [-0.9132506689696551, 8.093395608797973],
}


def test_returns_bootstrap_from_the_last_value():
    """The release of 2019 has v_{H-1} in the place of v_H."""
    behavior = config.load(["dmc"]).behavior
    reward, value = normals(8, 2, behavior.horizon, 2)
    discount = np.full_like(reward, behavior.discount)
    plain = {
        name: plain_return(reward, 5 + value, discount, behavior.return_lambda, 5 + value[at])[0]
        for name, at in (("last", -1), ("early", -2))
    }
    for name, recorded in RETURN_RECORDED.items():
        np.testing.assert_allclose(plain[name], recorded, rtol=1e-9)
    computed = lambda_return(*float32(reward, 5 + value, discount), behavior.return_lambda)
    np.testing.assert_allclose(computed[0], RETURN_RECORDED["last"], rtol=1e-5)


def plain_actor_loss(discount, gamma, counted):
    """Eq. 7 where each reward is 1, each value 5 and lambda 0.95, over 3 imagined steps from every start that counts.

    The starts are all steps but the last of each row. counted: the weight of each of them, [N].
    """
    one = 1 + gamma * 5
    returns = np.array([1 + gamma * (0.05 * 5 + 0.95 * one), one])
    return -np.mean(np.outer([1, gamma], counted) * returns[:, None])


START_RECORDED = {"counted with 0": -3.938189109056814, "left out": -5.250918812075752}


def test_a_start_that_is_a_terminal_weighs_nothing_and_is_counted_all_the_same():
    discount = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    starts = discount[:, :-1].ravel()
    gamma = 1 / (1 + np.exp(-2.0))  # What a discount head says whose logit is 2.
    for name, counted in (("counted with 0", starts), ("left out", starts[starts > 0])):
        assert plain_actor_loss(discount, gamma, counted) == pytest.approx(START_RECORDED[name], rel=1e-9)
    agent = small("atari", "tf1")
    for layer, number in (
        (agent.world_model.reward_head.out, 1.0),
        (agent.world_model.discount_head.out, 2.0),
        (agent.value.mlp.out, 5.0),
    ):
        constant_head(layer, number)
    metrics = agent.train(batch(discount))
    assert float(metrics["actor_loss"]) == pytest.approx(START_RECORDED["counted with 0"], rel=1e-5)


def plain_mode(mean, std, draws):
    """Index of the likeliest of the draws [K, B, A] before the tanh, for each row of the batch: [B]."""
    log_density = -0.5 * ((draws - mean) / std) ** 2 - np.log(std) - np.log(1 - np.tanh(draws) ** 2)
    return log_density.sum(-1).argmax(0)


MODE_RECORDED = [88, 7, 87]


def test_each_row_has_a_mode_of_its_own(monkeypatch):
    """The release of 2020 takes the first row's draw for all rows, that of 2019 each row's own."""
    mean, std = normals(9, 3, 2), np.array([[0.5, 0.4], [0.3, 0.6], [0.7, 0.2]])
    draws = mean + std * normals(10, 100, 3, 2)
    np.testing.assert_array_equal(plain_mode(mean, std, draws), MODE_RECORDED)
    assert len(set(MODE_RECORDED)) == 3
    policy = TanhNormal(*float32(mean, std))
    monkeypatch.setattr(policy, "_draw", lambda shape, seed: float32(draws))
    expected = np.tanh([draws[index, row] for row, index in enumerate(MODE_RECORDED)])
    np.testing.assert_allclose(policy.mode(seed=None), expected, rtol=1e-5)


def plain_action_gradient(logits, slope, action, form):
    """Gradient of slope . action with respect to the logits, [B, A]."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    if form == "score":  # Gradient of ln p(action), times what the action is worth.
        return (slope * action).sum(-1, keepdims=True) * (action - p)
    return p * (slope - (p * slope).sum(-1, keepdims=True))


ACTION_RECORDED = {
    "straight-through": [
        [0.10141648834563344, -0.7493728046669159, 0.6457903088134112, 0.0021660075078712236],
        [0.11612297604344206, -0.026849246540207615, -0.186401364570812, 0.09712763506757754],
    ],
    "score": [
        [-0.1814558402101339, -0.6830493368936418, 0.9697734924993496, -0.10526831539557423],
        [0.025057631425042397, -0.11664554722571147, 0.0596726801970691, 0.03191523560359996],
    ],
}


def test_discrete_actions_have_straight_through_gradients():
    logits, slope = normals(11, 2, 2, 4)
    with tf.GradientTape() as tape:
        parameters = float32(logits)
        tape.watch(parameters)
        action = OneHot(parameters).sample(tf.constant([0, 1]))
        worth = tf.reduce_sum(float32(slope) * action)
    gradient = tape.gradient(worth, parameters)
    for form, recorded in ACTION_RECORDED.items():
        chosen = np.eye(4)[[2, 1]]  # Only the score function depends on which actions are drawn.
        np.testing.assert_allclose(plain_action_gradient(logits, slope, chosen, form), recorded, rtol=1e-8)
    np.testing.assert_allclose(gradient, ACTION_RECORDED["straight-through"], rtol=1e-5)

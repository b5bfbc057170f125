"""One environment through every stage: which image, action, reward and discount meet which.

The environment's image tells the agent step n, the action that led to it and the frames so far; its reward is a
function of all three. Networks are replaced by oracles that know these functions, so that a loss has its least possible
value, and an imagined return its exact one, only if everything is paired right.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from dreamer.replay.dataset import Windows
from dreamer.replay.episodes import EpisodeStore
from dreamer.training.driver import Driver
from dreamer.types import ActionSpace, Space
from tests.agents.conftest import small_agent

REPEAT, GAMMA, LAMBDA, HORIZON = 2, 0.9, 0.8, 4
TERMINAL_FRAME, LIMIT = 9, 12  # 9 is odd: the last action is held for one frame only.
NUMBERS = ("step", "code", "frame", "terminal")  # what the image tells, in the first values of its first row
HALF = 32 * 64 * 3  # Values in half an image: the rest of the first half is 20 * step, the second half the code.


class Telltale:
    """Seeds that are even end in a terminal at frame 9, odd ones at the time limit of 12 frames."""

    action_space = ActionSpace(1, False)
    action_repeat = REPEAT
    observation_spaces = {"image": Space((64, 64, 3), "uint8")}

    def reset(self, seed=None):
        self._terminal = seed % 2 == 0
        self._step = self._frame = 0
        return self._observe(0.0, 0.0)

    def step(self, action):
        self._step += 1
        reward = 0.0
        for _ in range(REPEAT):
            if self._over():
                break
            self._frame += 1
            reward += frame_reward(self._frame, float(action[0]))
        return self._observe(float(action[0]), reward)

    def _over(self):
        return self._frame >= (TERMINAL_FRAME if self._terminal else LIMIT)

    def _observe(self, action, reward):
        terminal = self._over() and self._terminal
        image = np.full((64, 64, 3), 20 * self._step, np.uint8)
        image.reshape(-1)[HALF:] = code(action)
        image.reshape(-1)[: len(NUMBERS)] = self._step, code(action), self._frame, terminal
        return {
            "image": image,
            "reward": np.float32(reward),
            "is_first": np.bool_(self._step == 0),
            "is_last": np.bool_(self._over()),
            "is_terminal": np.bool_(terminal),
        }


def code(action):
    return 100 + round(100 * action)


def frame_reward(frame, action):
    return 0.1 * frame + action


def step_reward(step, frame, action):
    """Sum of frame_reward over the frames of an agent step: 2 step - 1, and 2 step unless the episode ended before."""
    both = frame - REPEAT * (step - 1)
    return 0.1 * (both * frame - 0.5 * both * (both - 1)) + both * action


class Coded:
    """An agent whose next action tells what it saw: its own clock and the step in the image."""

    def initial(self):
        return 0

    def act(self, observation, carry, explore):
        assert observation["image"][0, 0, 0] == carry
        return np.array([(-1) ** carry * (carry + 1) / 20], np.float32), carry + 1


def told(image):
    """The NUMBERS in uint8 images [..., 64, 64, 3]: a dict of float64 arrays [...]."""
    values = np.asarray(image).reshape(*image.shape[:-3], -1)[..., : len(NUMBERS)].astype(np.float64)
    return dict(zip(NUMBERS, np.moveaxis(values, -1, 0), strict=True))


def check(image, action, reward, discount):
    """Assert that arrays [..., 64, 64, 3], [..., 1], [...] and [...] belong to the same steps."""
    says = told(image)
    np.testing.assert_array_equal(100 + np.round(100 * np.asarray(action)[..., 0]), says["code"])
    expected = step_reward(says["step"], says["frame"], (says["code"] - 100) / 100)
    np.testing.assert_allclose(reward, np.where(says["step"] > 0, expected, 0), atol=1e-5)
    np.testing.assert_array_equal(discount, 1 - says["terminal"])


@pytest.fixture
def store(tmp_path):
    store = EpisodeStore(tmp_path, action_repeat=REPEAT)
    driver = Driver(Telltale(), Coded(), explore=True, seed_of=lambda n: n)
    while len(store) < 4:
        if episode := driver.step():
            store.add(episode)
    return store


@pytest.fixture
def batches(store):
    """Batches of 3 windows of 9 steps from episodes of 6 and 7 steps: every window crosses an end."""
    windows = Windows(store, batch=3, length=9, seed=0)
    windows.request(20)
    dataset = windows.batches()
    yield [next(dataset) for _ in range(20)]
    windows.close()


def test_files_hold_what_belongs_together(store):
    episodes = [dict(np.load(path)) for path in store.paths()]
    assert [len(episode["reward"]) for episode in episodes] == [6, 7, 6, 7]
    assert [episode["is_terminal"][-1] for episode in episodes] == [True, False, True, False]
    for episode in episodes:
        check(episode["image"], episode["action"], episode["reward"], episode["discount"])
    # Worked by hand: frame 9 alone with the action 5 / 20, and frames 11 and 12 with -6 / 20.
    assert episodes[0]["reward"][-1] == pytest.approx(0.9 + 0.25)
    assert episodes[1]["reward"][-1] == pytest.approx(1.1 + 1.2 - 0.6)


def test_batches_hold_what_belongs_together_across_the_ends_of_episodes(batches):
    terminals = 0
    for batch in batches:
        batch = tf.nest.map_structure(lambda array: array.numpy(), batch)
        check(batch.image, batch.action, batch.reward, batch.discount)
        steps, terminal = told(batch.image)["step"], told(batch.image)["terminal"]
        assert batch.is_first[:, 0].all()
        np.testing.assert_array_equal(steps[:, 1:][~batch.is_first[:, 1:]] - 1, steps[:, :-1][~batch.is_first[:, 1:]])
        assert batch.is_first[:, 1:][terminal[:, :-1] == 1].all()
        terminals += terminal.sum()
    assert terminals > 20


# The model. Its oracle keeps the step, frame and terminal that it saw in z, and the step it expected and the action
# that it was given in h.


class Oracle:
    """Replaces the networks of an agent; sizes as the agent's RSSM has them."""

    def __init__(self, agent):
        self.agent, model = agent, agent.world_model
        self.stoch, self.deter = model.rssm.stoch, model.rssm.deter
        object.__setattr__(model, "encoder", self.encoder)
        object.__setattr__(model, "decoder", self.decoder)
        object.__setattr__(model, "reward_head", self.reward_head)
        object.__setattr__(model, "discount_head", self.discount_head)
        for name in ("transition", "prior", "posterior"):
            object.__setattr__(model.rssm, name, getattr(self, name))

    def encoder(self, image):
        """What the image tells, from preprocessed images."""
        flat = tf.reshape(image, [*image.shape[:-3], 2 * HALF])
        return tf.round((flat[..., : len(NUMBERS)] + 0.5) * 255)

    def transition(self, state, action):
        return self.pad([state.stoch[..., 0] + 1, action[..., 0]], self.deter)

    def posterior(self, deter, embed):
        step, _, frame, terminal = tf.unstack(embed, axis=-1)
        mean = self.pad([step, frame, terminal], self.stoch)
        return mean, tf.fill(tf.shape(mean), 1e-12)

    def prior(self, deter):
        step = deter[..., 0]
        frame = tf.minimum(REPEAT * step, TERMINAL_FRAME)
        mean = self.pad([step, frame, tf.cast(frame == TERMINAL_FRAME, tf.float32)], self.stoch)
        return mean, tf.fill(tf.shape(mean), 1e-12)

    def reward_head(self, features):
        step, frame, _, _, action = self.read(features)
        return tf.where(step > 0.5, step_reward(step, frame, action), 0.0)[..., None]

    def discount_head(self, features):
        terminal = self.read(features)[2]
        return tf.where(terminal > 0.5, -40.0, tf.math.log(GAMMA / (1 - GAMMA)))[..., None]

    def decoder(self, features):
        step, frame, terminal, _, action = self.read(features)
        codes = 100 + tf.round(100 * action)
        first = tf.stack([step, codes, frame, terminal], -1)
        upper = tf.repeat(20 * step[..., None], HALF - len(NUMBERS), -1)
        flat = tf.concat([first, upper, tf.repeat(codes[..., None], HALF, -1)], -1)
        return tf.reshape(flat / 255, [*features.shape[:-1], 64, 64, 3]) - 0.5

    def read(self, features):
        """Step, frame and terminal as seen, step as expected, action."""
        return [features[..., index] for index in (0, 1, 2, self.stoch, self.stoch + 1)]

    @staticmethod
    def pad(values, width):
        values = tf.stack(values, -1)
        return tf.concat([values, tf.zeros([*values.shape[:-1], width - values.shape[-1]])], -1)


@pytest.fixture
def oracle():
    agent = small_agent(
        ActionSpace(1, False),
        model={"discount_head": True, "discount_scale": 1.0},
        behavior={"horizon": HORIZON, "discount": GAMMA, "return_lambda": LAMBDA, "bootstrap": True},
    )
    return Oracle(agent)


def test_the_loss_is_least_where_features_meet_the_targets_of_their_own_step(oracle, batches):
    model = oracle.agent.world_model
    for batch in batches:
        _, posterior, metrics = model.loss(batch, tf.zeros([3, 9, oracle.stoch]))
        constant = 0.5 * np.log(2 * np.pi)
        assert float(metrics["reward_loss"]) == pytest.approx(constant, abs=1e-5)
        assert float(metrics["image_loss"]) == pytest.approx(2 * HALF * constant, abs=0.05)
        entropy = -(GAMMA * np.log(GAMMA) + (1 - GAMMA) * np.log(1 - GAMMA))
        assert float(metrics["discount_loss"]) == pytest.approx(entropy * batch.discount.numpy().mean(), abs=1e-5)
        # The recurrence: the step expected from the state before is the one seen; a piece begins with the zero state.
        expected = np.where(batch.is_first, 1, told(batch.image)["step"])
        np.testing.assert_array_equal(posterior.deter[..., 0], expected)


class StepPolicy:
    """Stands for the actor: the action tells the step of the state that it was chosen in."""

    def distribution(self, features):
        action = features[..., :1] / 20
        return SimpleNamespace(sample=lambda seed, part: action, entropy=lambda seed, samples: tf.zeros([]))


class FixedValue:
    """Stands for the value network: 50 + 3 step, and a variable to have a gradient for."""

    def __call__(self, features):
        return 50.0 + 3.0 * features[..., 0]


class Idle:
    """Stands for an optimiser."""

    def scale(self, loss):
        return loss

    def step(self, tape, loss):
        return {}


def imagined(step, is_terminal):
    """Returns V_1 ... V_{H-1} and weights from a state at `step`, worked out one by one; and the H rewards."""
    rewards, discounts, values = [], [], []
    for _ in range(HORIZON):
        action, step = step / 20, step + 1
        frame = min(REPEAT * step, TERMINAL_FRAME)
        rewards.append(step_reward(step, frame, action))
        discounts.append(0.0 if frame == TERMINAL_FRAME else GAMMA)
        values.append(50 + 3 * step)
    returns = []
    for tau in range(HORIZON - 1):
        # The lambda-weighted mean of all k-step returns (eq. 6).
        n_step = []
        for k in range(1, HORIZON - tau):
            total, weight = 0.0, 1.0
            for n in range(tau, tau + k):
                total, weight = total + weight * rewards[n], weight * discounts[n]
            n_step.append(total + weight * values[tau + k])
        last = len(n_step) - 1
        mixed = sum((1 - LAMBDA) * LAMBDA**k * value for k, value in enumerate(n_step[:-1]))
        returns.append(mixed + LAMBDA**last * n_step[-1])
    weights = np.cumprod([1.0, *discounts[: HORIZON - 2]])
    return rewards, np.array(returns), weights, np.array(values)


def test_imagined_returns_pair_rewards_discounts_and_values(oracle, batches):
    agent = oracle.agent
    agent.actor, agent.value = StepPolicy(), FixedValue()
    agent.optimizers = {name: Idle() for name in agent.optimizers}
    for batch in batches[:3]:
        metrics = {name: float(value) for name, value in agent.train(batch).items()}
        # From every state of the batch but the last of each sequence.
        starts = told(batch.image.numpy()[:, :-1])
        runs = [imagined(*start) for start in zip(starts["step"].ravel(), starts["terminal"].ravel(), strict=True)]
        rewards, returns, weights, values = (np.array(part) for part in zip(*runs, strict=True))
        assert weights.shape == (3 * 8, HORIZON - 1)
        weights *= 1 - starts["terminal"].reshape(-1, 1)  # Nothing follows a terminal.
        assert metrics["imagined_reward"] == pytest.approx(rewards.mean(), rel=1e-5)
        assert metrics["imagined_return"] == pytest.approx(returns.mean(), rel=1e-5)
        assert metrics["actor_loss"] == pytest.approx(-(weights * returns).mean(), rel=1e-5)
        squares = 0.5 * (returns - values[:, :-1]) ** 2 + 0.5 * np.log(2 * np.pi)
        assert metrics["value_loss"] == pytest.approx((weights * squares).mean(), rel=1e-5)


@pytest.mark.parametrize("explore", [True, False])
def test_acting_meets_each_image_with_the_action_that_led_to_it(oracle, explore):
    """Noise included; and nothing of an episode reaches the next one."""
    agent, seen = oracle.agent, []

    class Watched:
        initial = staticmethod(agent.initial)

        @staticmethod
        def act(observation, carry, explore):
            action, carry = agent.act(observation, carry, explore)
            seen.append((told(observation["image"]), carry[0].deter.numpy()[0]))
            return action, carry

    driver = Driver(Telltale(), Watched(), explore=explore, seed_of=lambda n: n)
    while len(seen) < 5 + 6 + 2:
        driver.step()
    for says, deter in seen:
        assert deter[0] == max(1, says["step"])
        assert code(float(deter[1])) == says["code"]
    assert len({says["code"] for says, _ in seen}) > 3

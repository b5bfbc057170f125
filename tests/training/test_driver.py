import numpy as np
import pytest

from dreamer.training.driver import Driver, episode_return
from dreamer.types import ActionSpace, Space


class Recorder:
    """Its image shows the step number and the last action; its reward is a function of both."""

    action_space = ActionSpace(2, False)
    action_repeat = 2
    observation_spaces = {"image": Space((64, 64, 3), "uint8")}

    def __init__(self, length, terminal):
        self._length, self._terminal = length, terminal
        self.seeds = []

    def reset(self, seed=None):
        self.seeds.append(seed)
        self._t = 0
        return self._observe(np.zeros(2, np.float32))

    def step(self, action):
        self._t += 1
        return self._observe(action)

    def _observe(self, action):
        last = self._t == self._length
        image = np.full((64, 64, 3), self._t, np.uint8)
        image[:, :, 1] = round(float(100 * action[0]))
        return {
            "image": image,
            "reward": np.float32(10 * self._t + action[0]) if self._t else np.float32(0),
            "is_first": np.bool_(self._t == 0),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(last and self._terminal),
        }


class Counter:
    """An agent whose carry counts its steps in the episode, and whose action tells the step it saw."""

    def __init__(self):
        self.explored = []

    def initial(self):
        return 0

    def act(self, observation, carry, explore):
        assert observation["image"][0, 0, 0] == carry, "the agent must see the newest observation with its own memory"
        self.explored.append(explore)
        return np.array([(carry + 1) / 100, 0.5], np.float32), carry + 1


def run(driver, steps):
    return [episode for _ in range(steps) if (episode := driver.step()) is not None]


@pytest.mark.parametrize("terminal", [True, False])
def test_actions_and_rewards_stand_beside_the_image_they_led_to(terminal):
    first, second = run(Driver(Recorder(3, terminal), Counter(), explore=True, seed_of=lambda n: n), 6)
    for episode in (first, second):
        np.testing.assert_array_equal(episode["image"][:, 0, 0, 0], [0, 1, 2, 3])
        np.testing.assert_array_equal(episode["image"][:, 0, 0, 1], [0, 1, 2, 3])
        np.testing.assert_allclose(episode["action"], [[0, 0], [0.01, 0.5], [0.02, 0.5], [0.03, 0.5]])
        np.testing.assert_allclose(episode["reward"], [0, 10.01, 20.02, 30.03], rtol=1e-6)
        np.testing.assert_array_equal(episode["discount"], [1, 1, 1, 0 if terminal else 1])
        np.testing.assert_array_equal(episode["is_first"], [True, False, False, False])
        np.testing.assert_array_equal(episode["is_last"], [False, False, False, True])
        assert episode["reward"].dtype == episode["action"].dtype == episode["discount"].dtype == np.float32
        assert episode_return(episode) == pytest.approx(60.06)


def test_an_episode_goes_on_where_the_last_call_stopped():
    env, agent = Recorder(4, False), Counter()
    driver = Driver(env, agent, explore=False, seed_of=lambda n: 100 + n)
    assert run(driver, 3) == []
    assert driver.steps == 3
    (episode,) = run(driver, 1)
    assert len(episode["reward"]) == 5
    assert driver.steps == 0
    assert env.seeds == [100]
    run(driver, 1)
    assert env.seeds == [100, 101]
    assert agent.explored == 5 * [False]


def test_a_cut_episode_keeps_its_steps_and_ends_as_a_time_limit_would():
    driver = Driver(Recorder(10, True), Counter(), explore=True, seed_of=lambda n: n)
    assert driver.cut() is None
    run(driver, 2)
    episode = driver.cut()
    np.testing.assert_array_equal(episode["image"][:, 0, 0, 0], [0, 1, 2])
    np.testing.assert_array_equal(episode["is_last"], [False, False, True])
    np.testing.assert_array_equal(episode["is_terminal"], 3 * [False])
    np.testing.assert_array_equal(episode["discount"], [1, 1, 1])
    assert driver.cut() is None
    assert run(driver, 1) == []  # A new episode begins with a reset.
    assert driver.steps == 1

import numpy as np
import pytest
import tensorflow as tf

from dreamer.envs import EnvError
from dreamer.training.driver import Driver, episode_infos, episode_return, mean_infos
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


def test_one_step_is_enough_for_a_cut_episode():
    """The least that the replay takes: the reset and one action."""
    driver = Driver(Recorder(10, True), Counter(), explore=True, seed_of=lambda n: n)
    run(driver, 1)
    np.testing.assert_array_equal(driver.cut()["image"][:, 0, 0, 0], [0, 1])
    assert driver.steps == 0


class Remembering(Counter):
    """Its carry is a tensor, as that of an agent with networks."""

    def initial(self):
        return tf.zeros([], tf.int32)

    def act(self, observation, carry, explore):
        action, carry = super().act(observation, int(carry), explore)
        return action, tf.constant(carry)


def through_a_file(arrays, path):
    np.savez(path, **arrays)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def driver(env, agent):
    return Driver(env, agent, explore=True, seed_of=lambda n: 100 + n)


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 6])
def test_a_stream_that_is_restored_goes_on_as_if_it_had_not_stopped(tmp_path, taken):
    """In the middle of an episode, where one has ended (after 4 steps), and before the first."""
    whole = driver(Recorder(4, True), Remembering())
    expected = run(whole, 12)
    stopped = driver(Recorder(4, True), Remembering())
    episodes = run(stopped, taken)
    env = Recorder(4, True)
    again = driver(env, Remembering())
    assert again.restore(through_a_file(stopped.state(), tmp_path / "state.npz"))
    assert again.steps == stopped.steps
    episodes += run(again, 12 - taken)
    assert len(episodes) == len(expected) == 3
    for one, other in zip(episodes, expected, strict=True):
        for key in other:
            np.testing.assert_array_equal(one[key], other[key])
    assert env.seeds[-1] == 102


class Failing(Recorder):
    """Raises at one step, once."""

    def __init__(self, at):
        super().__init__(4, True)
        self._left = at

    def step(self, action):
        self._left -= 1
        if not self._left:
            raise EnvError("out of order")
        return super().step(action)


def test_the_action_that_an_environment_failed_at_is_taken_by_the_next(tmp_path):
    agent = Remembering()
    stopped = driver(Failing(3), agent)
    run(stopped, 2)
    with pytest.raises(EnvError, match="out of order"):
        stopped.step()
    state = through_a_file(stopped.state(), tmp_path / "state.npz")
    again = driver(Recorder(4, True), agent)
    assert again.restore(state)
    (episode,) = run(again, 2)
    np.testing.assert_allclose(episode["action"][:, 0], [0, 0.01, 0.02, 0.03, 0.04])
    assert agent.explored == 4 * [True]  # no action was chosen twice


class Forgetful(Recorder):
    """The same seed and actions give another reward on another day."""

    days = 0

    def _observe(self, action):
        return super()._observe(action) | {"reward": np.float32(self.days if self._t == 2 else 0)}


def test_an_environment_that_does_not_repeat_itself_is_noticed_and_the_steps_are_kept(tmp_path):
    stopped = driver(Forgetful(9, True), Remembering())
    run(stopped, 3)
    state = through_a_file(stopped.state(), tmp_path / "state.npz")
    env = Forgetful(9, True)
    env.days = 1
    again = driver(env, Remembering())
    assert not again.restore(state)
    episode = again.cut()
    np.testing.assert_array_equal(episode["image"][:, 0, 0, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(episode["reward"], [0, 0, 0, 0])
    assert run(again, 1) == []


def test_steps_of_a_release_that_kept_less_of_them_are_no_other_steps(tmp_path):
    stopped = driver(Recorder(9, True), Remembering())
    run(stopped, 3)
    state = through_a_file(stopped.state(), tmp_path / "state.npz")

    class More(Recorder):
        def _observe(self, action):
            return super()._observe(action) | {"speed": np.zeros(2, np.float32)}

    again = driver(More(9, True), Remembering())
    assert again.restore(state)
    (episode,) = run(again, 6)
    assert "speed" not in episode
    (episode,) = run(again, 9)
    assert episode["speed"].shape == (10, 2)


class Telling(Recorder):
    """It tells a number that is not always there."""

    def _observe(self, action):
        return super()._observe(action) | {"info.x": np.float32(np.nan if self._t % 2 else self._t)}


@pytest.mark.parametrize(("before", "after"), [(Telling, Telling), (Telling, Recorder), (Recorder, Telling)])
def test_what_is_told_of_info_may_change_within_an_episode(tmp_path, before, after):
    stopped = driver(before(9, True), Remembering())
    run(stopped, 3)
    again = driver(after(9, True), Remembering())
    assert again.restore(through_a_file(stopped.state(), tmp_path / "state.npz"))
    (episode,) = run(again, 6)
    assert len(episode["reward"]) == 10
    if before == after:
        np.testing.assert_array_equal(episode["info.x"][::2], [0, 2, 4, 6, 8])
        assert np.isnan(episode["info.x"][1::2]).all()
    else:
        assert "info.x" not in episode


def test_a_number_of_info_that_never_comes_again_is_no_other_world(tmp_path):
    """A time, say."""

    class Timed(Recorder):
        times = 0

        def _observe(self, action):
            Timed.times += 1
            return super()._observe(action) | {"info.t": np.float32(Timed.times)}

    stopped = driver(Timed(9, True), Remembering())
    run(stopped, 3)
    again = driver(Timed(9, True), Remembering())
    assert again.restore(through_a_file(stopped.state(), tmp_path / "state.npz"))


def test_what_is_told_of_info_is_summed_up_by_episode():
    nan = np.nan
    first = {"info.a": [nan, 4, 1, nan], "info.b": [nan] * 4, "info": np.ones(4), "info.c": np.ones((4, 2))}
    second = {"info.a": [-8, -2], "info.b": [3, 6], "reward": [0, 1]}
    episodes = [{name: np.array(values, np.float32) for name, values in of.items()} for of in (first, second)]
    found = [episode_infos(episode) for episode in episodes]
    assert found == [
        {"info.a_last": 1, "info.a_mean": 2.5, "info.a_max": 4},
        {"info.a_last": -2, "info.a_mean": -5, "info.a_max": -2, "info.b_last": 6, "info.b_mean": 4.5, "info.b_max": 6},
    ]
    assert mean_infos(found) == {
        **{"info.a_last": -0.5, "info.a_mean": -1.25, "info.a_max": 1},
        **{"info.b_last": 6, "info.b_mean": 4.5, "info.b_max": 6},
    }
    assert mean_infos([]) == mean_infos([{}]) == {}


class Game(Recorder):
    """An episode ends with a life, and the game goes on in the next: its steps count on."""

    goes_on = False

    def reset(self, seed=None):
        if not self.goes_on:
            self._t, self._lives = 0, 3
        self.seeds.append(seed)
        self.goes_on = False
        return {**self._observe(np.zeros(2, np.float32)), "reward": np.float32(0), "is_first": np.bool_(True)}

    def step(self, action):
        step = super().step(action)
        last = self._t % 3 == 0
        self._lives -= last
        self.goes_on = bool(last and self._lives)
        return {**step, "is_last": np.bool_(last), "is_terminal": np.bool_(last)}


class Blind(Remembering):
    def act(self, observation, carry, explore):
        return np.array([int(carry) / 100, 0.5], np.float32), tf.constant(int(carry) + 1)


@pytest.mark.parametrize("taken", range(13))
def test_a_game_of_several_episodes_is_lived_through_from_its_beginning(tmp_path, taken):
    expected = run(driver(Game(99, True), Blind()), 20)
    stopped = driver(Game(99, True), Blind())
    episodes = run(stopped, taken)
    again = driver(Game(99, True), Blind())
    assert again.restore(through_a_file(stopped.state(), tmp_path / "state.npz"))
    episodes += run(again, 20 - taken)
    for one, other in zip(episodes, expected, strict=True):
        np.testing.assert_array_equal(one["image"][:, 0, 0, 0], other["image"][:, 0, 0, 0])

"""Several environments stepped together: what each lives through is its own, whatever the others do."""

import time

import numpy as np
import pytest
import tensorflow as tf

from dreamer.envs import EnvError
from dreamer.envs.wrappers import Checked
from dreamer.training.driver import Driver
from dreamer.training.streams import Streams
from dreamer.types import PIXELS, ActionSpace, Space


class Counting:
    """The image shows the step and the number of the environment; episodes have `length` steps."""

    action_space = ActionSpace(2, False)
    action_repeat = 1
    observation_spaces = {"image": Space((64, 64, 3), "uint8")}

    def __init__(self, number, length, fails_at=()):
        self.number, self.length, self.fails_at = number, length, list(fails_at)
        self.seeds, self.taken = [], 0

    def reset(self, seed=None):
        self.seeds.append(seed)
        self._t = 0
        return self._observe(0.0)

    def step(self, action):
        self.taken += 1
        if self.taken in self.fails_at:
            self.fails_at.remove(self.taken)
            self.taken -= 1
            raise EnvError(f"environment {self.number} fell over")
        self._t += 1
        return self._observe(float(action[0]))

    def close(self):
        pass

    def _observe(self, reward):
        image = np.full((64, 64, 3), self._t, np.uint8)
        image[:, :, 1] = self.number
        flags = {"is_first": self._t == 0, "is_last": self._t == self.length, "is_terminal": False}
        return {"image": image, "reward": np.float32(reward), **{key: np.bool_(flag) for key, flag in flags.items()}}


class Rows:
    """Its carry counts the steps of each row, and its actions tell count, row and call."""

    def __init__(self):
        self.calls = 0

    def initial(self, rows=1):
        return tf.zeros([rows])

    inputs = PIXELS

    def act_rows(self, inputs, is_first, carry, explore):
        assert explore
        image = inputs["image"]
        counts = np.where(is_first, 0, carry) + 1
        self.calls += 1
        rows = np.arange(len(image))
        assert ((image[:, 0, 0, 1] == rows) | is_first).all()
        actions = np.stack([counts / 100 + rows / 10, np.full(len(image), 0.001 * self.calls)], 1)
        return actions.astype(np.float32), tf.constant(counts, tf.float32)


def streams(agent, *envs):
    def seed_of(number):
        return lambda begun: 100 * number + begun

    drivers = [Driver(Checked(env), agent, explore=True, seed_of=seed_of(n)) for n, env in enumerate(envs)]
    return Streams(drivers)


def two(fails_at=()):
    return Counting(0, 3), Counting(1, 4, fails_at)


def run(together, steps):
    return [(n, episode) for _ in range(steps) for n, episode in together.step().items()]


def assert_same(first, second):
    assert [n for n, _ in first] == [n for n, _ in second]
    for (_, one), (_, other) in zip(first, second, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_every_stream_has_its_own_episodes_seeds_and_memory():
    envs, agent = two(), Rows()
    episodes = run(streams(agent, *envs), 12)
    assert [n for n, _ in episodes] == [0, 1, 0, 1, 0, 0, 1]
    assert agent.calls == 12
    for n, episode in episodes:
        steps = np.arange(4 + n)
        np.testing.assert_array_equal(episode["image"][:, 0, 0, 0], steps)
        np.testing.assert_allclose(episode["action"][1:, 0], steps[1:] / 100 + n / 10, rtol=1e-6)
        np.testing.assert_array_equal(episode["reward"], episode["action"][:, 0])
    assert [env.seeds for env in envs] == [[0, 1, 2, 3], [100, 101, 102]]


def through_a_file(arrays, path):
    np.savez(path, **arrays)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 7, 12])
def test_streams_that_are_restored_go_on_as_if_they_had_not_stopped(taken, tmp_path):
    expected = run(streams(Rows(), *two()), 20)
    agent = Rows()
    stopped = streams(agent, *two())
    episodes = run(stopped, taken)
    copied = stopped.copy()
    state = through_a_file(stopped.state(), tmp_path / "state.npz")
    run(stopped, 5)
    for name, value in copied.state().items():
        np.testing.assert_array_equal(value, state[name], name)
    again = streams(agent, *two())
    agent.calls = taken
    assert again.restore(state) == []
    assert again.steps == copied.steps
    assert_same(episodes + run(again, 20 - taken), expected)


@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize("restart", [False, True])
def test_a_step_in_which_one_has_failed_is_completed_by_the_next_and_nothing_is_chosen_twice(at, restart, tmp_path):
    """Also where another stream has finished its episode in that step."""
    expected = run(streams(Rows(), *two()), 12)
    agent = Rows()
    together = streams(agent, *two(fails_at=[at]))
    episodes = run(together, at)
    assert {n: str(error) for n, error in together.failed.items()} == {1: "environment 1 fell over"}
    if restart:
        state = through_a_file(together.state(), tmp_path / "state.npz")
        together = streams(agent, *two())
        assert together.restore(state) == []
    completed = run(together, 1)
    assert not together.failed
    assert agent.calls == at
    assert_same(episodes + completed + run(together, 12 - at), expected)


def test_a_stream_whose_environment_is_built_anew_begins_an_episode_and_the_others_go_on():
    agent = Rows()
    together = streams(agent, *two(fails_at=[2]))
    run(together, 2)
    assert (together.steps_of(0), together.steps_of(1)) == (2, 1)
    together.drop(1, Checked(Counting(1, 4)))
    episodes = run(together, 4)
    assert [n for n, _ in episodes] == [0, 0, 1]
    (whole,) = (episode for n, episode in episodes if n == 1)
    np.testing.assert_allclose(whole["action"][1:, 0], 0.1 + np.arange(1, 5) / 100, rtol=1e-6)


def test_streams_that_may_not_begin_stand_still():
    envs = two()
    together = streams(Rows(), *envs)
    episodes = [n for _ in range(9) for n in together.step(lambda playing: playing < 1)]
    assert episodes == [0, 0, 0]
    assert envs[1].seeds == []
    assert together.cut() == []


class Sent(Counting):
    """As one in a process of its own: asked first, and answering later."""

    def __init__(self, number, length, log):
        super().__init__(number, length)
        self.log = log

    def send(self, method, argument):
        self.log.append(f"send {method} {self.number}")
        self.asked = method, argument

    def receive(self):
        method, argument = self.asked
        self.log.append(f"receive {method} {self.number}")
        return getattr(self, method)(argument)


def test_all_environments_are_at_work_before_one_is_waited_for():
    log = []
    together = streams(Rows(), Sent(0, 3, log), Sent(1, 4, log))
    together.step()
    assert log == [
        f"{what} {method} {n}" for method in ("reset", "step") for what in ("send", "receive") for n in (0, 1)
    ]


class Slow(Counting):
    def step(self, action):
        time.sleep(np.random.default_rng().uniform(0, 0.01))
        return super().step(action)


def test_time_decides_nothing():
    assert_same(run(streams(Rows(), Slow(0, 3), Slow(1, 4)), 12), run(streams(Rows(), *two()), 12))

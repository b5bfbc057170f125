"""Atari, against ALE driven directly."""

import ale_py
import gymnasium
import numpy as np
import pytest
from ale_py import roms
from PIL import Image

from dreamer import envs
from dreamer.config import load
from dreamer.envs.atari import TASKS, Atari, game_id
from dreamer.envs.wrappers import Checked
from dreamer.types import ActionSpace


def one_hot(choice, size):
    return np.eye(size, dtype=np.float32)[choice]


def make(task, **options):
    return Checked(Atari(task, **options))


def bare_ale(game, seed, *, sticky, noops):
    """ALE itself at the first frame of a game, and the screens of the last two frames."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", sticky)
    # gymnasium's own derivation of ALE's seed from that of reset().
    ale.setInt("random_seed", int(np.random.SeedSequence(seed).generate_state(2)[1].astype(np.int32)))
    ale.loadROM(roms.get_rom_path(game))
    ale.reset_game()
    screens = [ale.getScreenRGB()] * 2
    for _ in range(np.random.default_rng(seed).integers(1, noops + 1) if noops else 0):
        ale.act(ale_py.Action.NOOP)
        screens.append(ale.getScreenRGB())
    return ale, screens


def shown(screens):
    image = Image.fromarray(np.stack(screens[-2:]).max(0))
    return np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ("game", "options", "steps"),
    [
        ("pong", {}, 150),
        ("space_invaders", {"full_actions": True, "sticky": 0.5, "noops": 0, "action_repeat": 3}, 150),
        ("boxing", {"sticky": 0.0, "noops": 7, "action_repeat": 1}, 300),
    ],
)
def test_screens_and_rewards_are_those_of_ale(game, options, steps):
    seed, repeat = 11, options.get("action_repeat", 4)
    env = make(game, **options)
    ale, screens = bare_ale(game, seed, sticky=options.get("sticky", 0.25), noops=options.get("noops", 30))
    actions = ale.getLegalActionSet() if options.get("full_actions") else ale.getMinimalActionSet()
    assert env.action_space == ActionSpace(len(actions), True)
    assert (len(actions) == len(ale.getMinimalActionSet())) != options.get("full_actions", False)
    np.testing.assert_array_equal(env.reset(seed)["image"], shown(screens))
    rewards = []
    for choice in np.random.default_rng(0).integers(len(actions), size=steps):
        step = env.step(one_hot(choice, len(actions)))
        reward = 0
        for _ in range(repeat):
            reward += ale.act(actions[choice])
            screens.append(ale.getScreenRGB())
        np.testing.assert_array_equal(step["image"], shown(screens))
        assert step["reward"] == reward
        assert not step["is_last"]
        rewards.append(reward)
    assert any(rewards), "a script without a reward would prove little"
    env.close()


def play(env, seed, choices):
    """Steps of one episode, and what is left of the choices."""
    steps = [env.reset(seed)]
    while not steps[-1]["is_last"]:
        steps.append(env.step(one_hot(choices.pop(0), env.action_space.size)))
    return steps


@pytest.fixture(scope="module")
def breakout():
    """The lives of a game in training, the same game in evaluation, and what follows; same seed and choices."""
    choices = np.random.default_rng(5).integers(4, size=500).repeat(8).tolist()
    training, evaluation = (make("breakout", action_repeat=1, training=training) for training in (True, False))
    left, lives = list(choices), []
    while not lives or len(lives) < 5:
        lives.append(play(training, 3, left))
    after = training.reset(3)
    return lives, play(evaluation, 3, list(choices)), after


def test_a_life_ends_a_training_episode_and_the_game_goes_on(breakout):
    lives, _, after = breakout
    assert len(lives) == 5  # Breakout has five
    assert all(steps[-1]["is_terminal"] for steps in lives)
    for before, following in zip(lives[:-1], lives[1:], strict=True):
        np.testing.assert_array_equal(before[-1]["image"], following[0]["image"])
        assert following[0]["is_first"]
    # After the last one a new game begins, from the seed of this reset.
    np.testing.assert_array_equal(after["image"], lives[0][0]["image"])
    assert (after["image"] != lives[-1][-1]["image"]).any()


def test_an_evaluation_episode_is_the_whole_game_with_its_score(breakout):
    lives, game, _ = breakout
    images = np.stack([steps["image"] for life in lives for steps in life[1:]])
    np.testing.assert_array_equal(images, np.stack([step["image"] for step in game[1:]]))
    assert [bool(step["is_terminal"]) for step in game] == [False] * (len(game) - 1) + [True]
    total = sum(step["reward"] for step in game)
    assert total == sum(step["reward"] for life in lives for step in life)
    assert total > 0


@pytest.mark.parametrize(
    ("game", "options", "whole"),
    [
        ("breakout", {"training": True}, False),
        ("breakout", {"training": False}, True),
        ("breakout", {"training": True, "life_loss": False}, True),
        ("boxing", {"training": True}, True),  # nobody has lives there
        ("amidar", {"training": True}, False),  # which counts them from its first frame on
    ],
)
def test_an_environment_says_whether_its_episodes_are_whole_games(game, options, whole):
    assert make(game, **options).whole_games is whole


def test_life_loss_can_be_switched_off():
    env = make("breakout", training=True, life_loss=False, noops=0)
    choices = np.random.default_rng(5).integers(4, size=2000).tolist()
    play(env, 3, choices)
    assert env._env._lives == 0


class Script:
    """In place of ALE: lives and whether the game is over, frame by frame; `resets` counts."""

    def __init__(self, *frames):
        self.frames, self.resets = list(frames), 0

    def reset(self, seed=None):
        self.resets += 1
        return np.zeros((210, 160, 3), np.uint8), {"lives": 3}

    def step(self, choice):
        lives, over = self.frames.pop(0)
        return np.zeros((210, 160, 3), np.uint8), 1.0, over, False, {"lives": lives}


def test_a_life_that_is_won_ends_nothing():
    env = make("pong", training=True, action_repeat=2, noops=0)
    env._env._env.close()
    env._env._env = Script((4, False), (4, False), (4, False), (3, False), (3, False))
    env.reset(0)
    steps = [env.step(one_hot(0, 6)) for _ in range(2)]
    assert [bool(step["is_terminal"]) for step in steps] == [False, True]


def test_a_game_that_ends_before_its_beginning_is_begun_again():
    env = make("pong", noops=1)
    env._env._env.close()
    env._env._env = Script((0, True))
    env.reset(0)
    assert env._env._env.resets == 2
    assert env._env._lives == 3


def test_the_time_limit_is_no_terminal_and_the_next_game_is_a_new_one():
    env = make("pong", time_limit=38, training=True)
    steps = play(env, 1, [0, 2] * 50)
    assert len(steps) == 11  # 38 frames are 9 steps of 4 and one of 2
    assert not steps[-1]["is_terminal"]
    again = play(env, 1, [0, 2] * 50)
    for one, two in zip(steps, again, strict=True):
        np.testing.assert_array_equal(one["image"], two["image"])


def test_a_reset_in_the_middle_of_an_episode_begins_a_new_game():
    env = make("pong")
    first = env.reset(1)
    for _ in range(20):
        env.step(one_hot(2, 6))
    np.testing.assert_array_equal(env.reset(1)["image"], first["image"])


def test_seeds_decide_and_none_goes_on():
    def images(env, seeds):
        result = []
        for seed in seeds:
            env.reset(seed)
            steps = [env.step(one_hot(choice, 6)) for choice in [2, 3, 5, 2, 4] * 6]
            result.append(np.stack([step["image"] for step in steps]).tobytes())
        return result

    fresh, other = make("pong"), make("pong")
    unseeded, zero, one, after = images(fresh, [None, 0, 1, None])
    assert unseeded == zero
    assert one != zero
    assert [one, after] == images(other, [1, None])
    assert after != one


def test_the_57_games_of_the_release():
    gymnasium.register_envs(ale_py)
    assert len(TASKS) == len(set(TASKS)) == 57
    for task in TASKS:
        spec = gymnasium.spec(game_id(task))
        assert spec.kwargs["game"] == task
        envs.validate("atari", task)
        envs.validate("atari", task.replace("_", ""))
    assert game_id("MsPacman") == game_id("mspacman") == "ALE/MsPacman-v5"
    with pytest.raises(ValueError, match='unknown task of atari "boxin": the nearest valid names are boxing, '):
        envs.validate("atari", "boxin")


def test_the_overlay_builds_training_and_evaluation():
    config = load(["atari"], {"env.life_loss": "true"})
    assert config.env.time_limit == 27_000 * config.env.action_repeat
    ends = []
    for training in (True, False):
        env = envs.make("atari", "breakout", training=training, **config.env)
        ale = env._env._env.unwrapped.ale
        assert ale.getFloat("repeat_action_probability") == 0.25
        assert env.action_repeat == 4
        ends.append(env._env._ends_with_life)
        env.close()
    assert ends == [True, False]

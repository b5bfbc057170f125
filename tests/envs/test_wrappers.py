import numpy as np
import pytest

from dreamer.envs.core import EnvError
from dreamer.envs.wrappers import Checked, check_action
from dreamer.types import ActionSpace, Space

ACTION = np.array([-1, 0.25, 1], np.float32)


def test_lets_a_correct_episode_through(scripted):
    env = Checked(scripted())
    assert env.observation_spaces == {"image": Space((64, 64, 3), "uint8"), "speed": Space((2,), "float32")}
    assert env.action_space == ActionSpace(size=3, discrete=False)
    assert env.action_repeat == 2
    for seed in (4, 5):
        assert env.reset(seed)["image"][0, 0, 0] == seed
        assert [float(env.step(ACTION)["reward"]) for _ in range(3)] == [1, 2, 3]


def test_numbers_for_the_log_are_declared_float32_and_no_observations(scripted):
    for value, problem in ((np.float64(1), "dtype float64"), (np.zeros(1, np.float32), r"shape \(1,\)")):
        env = Checked(scripted(infos=("info.x",), at=0, changes={"info.x": value}))
        with pytest.raises(EnvError, match=rf"info.x of .*{problem}.*: expected \(\) and float32"):
            env.reset(0)
    with pytest.raises(EnvError, match=r"has \['speed'\], which are names of other parts of a step"):
        Checked(scripted(infos=("speed",)))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0, 0, 0], r"action of type list: expected a NumPy array"),
        (np.zeros(2, np.float32), r"action of shape \(2,\): expected \(3,\)"),
        (np.zeros((1, 3), np.float32), r"action of shape \(1, 3\): expected \(3,\)"),
        (np.zeros(3), r"action of dtype float64: expected float32"),
        (np.array([0, np.nan, 0], np.float32), r"action \[ 0. nan  0.\]: expected finite numbers"),
        (np.array([0, 0, 1.001], np.float32), r"expected numbers within \[-1, 1\]"),
        (np.array([-1.001, 0, 0], np.float32), r"expected numbers within \[-1, 1\]"),
    ],
)
def test_refuses_a_wrong_continuous_action(scripted, action, message):
    env = Checked(scripted())
    env.reset(0)
    with pytest.raises(EnvError, match=message):
        env.step(action)


@pytest.mark.parametrize("action", [[0, 0, 0], [1, 1, 0], [0, 0.5, 0], [0, -1, 0], [0.5, 0.5, 0]])
def test_refuses_a_discrete_action_that_is_not_one_hot(scripted, action):
    env = Checked(scripted(discrete=True))
    env.reset(0)
    env.step(np.array([0, 1, 0], np.float32))
    with pytest.raises(EnvError, match="expected a one-hot vector"):
        env.step(np.array(action, np.float32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": None}, r"missing keys \['speed'\]"),
        ({"is_last": None}, r"missing keys \['is_last'\]"),
        ({"color": np.zeros(1)}, r"undeclared keys \['color'\]"),
        ({"image": np.zeros((64, 64), np.uint8)}, r"image of shape \(64, 64\) .* expected \(64, 64, 3\) and uint8"),
        ({"image": np.zeros((64, 64, 3), np.float32)}, r"image of .* dtype float32: expected \(64, 64, 3\) and uint8"),
        ({"speed": np.zeros(2)}, r"speed of .* dtype float64: expected \(2,\) and float32"),
        ({"reward": 1.0}, r"reward of type float: expected a NumPy value"),
        ({"reward": np.float64(1)}, r"reward of .* float64: expected \(\) and float32"),
        ({"reward": np.float32("nan")}, r"reward nan: expected a finite number"),
        ({"reward": np.float32("inf")}, r"reward inf: expected a finite number"),
        ({"is_terminal": np.bool_(True)}, r"is_terminal True with is_last False"),
        ({"is_first": np.bool_(True)}, r"step\(\) returned is_first True"),
        ({"is_last": True}, r"is_last of type bool"),
    ],
)
def test_refuses_a_wrong_step(scripted, changes, message):
    env = Checked(scripted(changes=changes))
    env.reset(0)
    with pytest.raises(EnvError, match=message):
        env.step(ACTION)


@pytest.mark.parametrize("changes", [{"is_first": np.bool_(False)}, {"reward": np.float32(1)}])
def test_refuses_a_wrong_first_step(scripted, changes):
    with pytest.raises(EnvError, match="expected True and 0"):
        Checked(scripted(at=0, changes=changes)).reset(0)


def test_refuses_steps_outside_an_episode(scripted):
    env = Checked(scripted(at=2, changes={"is_last": np.bool_(True), "is_terminal": np.bool_(True)}))
    with pytest.raises(EnvError, match="before the first reset"):
        env.step(ACTION)
    env.reset(0)
    env.step(ACTION)
    assert env.step(ACTION)["is_terminal"]
    with pytest.raises(EnvError, match="after the last step of an episode"):
        env.step(ACTION)
    env.reset(None)
    env.step(ACTION)


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({"speed": Space((), "float32")}, r"speed of shape \(\) and dtype float32: expected an image"),
        ({"image": Space((64, 64, 3), "uint8"), "reward": Space((1,), "float32")}, r"\['reward'\]"),
    ],
)
def test_refuses_wrong_spaces(scripted, spaces, message):
    env = scripted()
    env.observation_spaces = spaces
    with pytest.raises(EnvError, match=message):
        Checked(env)


@pytest.mark.parametrize("error", [TypeError("two\nlines"), KeyError("x"), SystemExit(7), EnvError("its own")])
@pytest.mark.parametrize("call", ["reset", "step"])
def test_what_an_environment_in_this_process_raises_is_its_own_error(scripted, monkeypatch, call, error):
    env = scripted()
    checked = Checked(env)
    checked.reset(0)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(env, call, fail)
    name = type(error).__name__
    expected = r"^its own$" if isinstance(error, EnvError) else rf"^{call}\(\) raised {name}: [^\n]+$"
    with pytest.raises(EnvError, match=expected):
        checked.reset(0) if call == "reset" else checked.step(ACTION)


def test_several_choices_are_each_one_hot():
    space = ActionSpace(5, True, (2, 3))
    check_action(np.array([0, 1, 1, 0, 0], np.float32), space)
    for wrong in ([1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0.5, 0, 0]):
        with pytest.raises(EnvError, match="expected a one-hot vector in each of the groups of 2, 3, a single 1"):
            check_action(np.array(wrong, np.float32), space)

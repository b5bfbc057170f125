import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

from dreamer import envs
from dreamer.config import load
from dreamer.envs.core import EnvError, EnvRefused
from dreamer.envs.gymnasium import Gymnasium, _number_in, name_of
from dreamer.envs.wrappers import Checked
from dreamer.types import ActionSpace

NOTHING = np.array([0.0, 0.0, 0.0, 0.0], np.float32)


@pytest.fixture
def make(monkeypatch):
    """Builds an environment of gym_examples.py in this process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return lambda name, **options: Checked(Gymnasium(f"gym_examples:{name}", **options))


def inside(env):
    return env._env._env.unwrapped


def play(env, action, seed=0):
    steps = [env.reset(seed)]
    while not steps[-1]["is_last"]:
        steps.append(env.step(action))
    return steps


def test_terminated_is_a_terminal_and_the_last_step(make):
    steps = play(make("Image-v0"), NOTHING)
    assert [float(step["reward"]) for step in steps] == [0, 1, 2, 3]
    assert [bool(step["is_last"]) for step in steps] == [False, False, False, True]
    assert [bool(step["is_terminal"]) for step in steps] == [False, False, False, True]


def test_truncated_is_a_last_step_and_no_terminal(make):
    choice = np.array([0, 1, 0], np.float32)
    steps = play(make("Discrete-v0"), choice)
    assert [bool(step["is_last"]) for step in steps] == [False] * 5 + [True]
    assert not any(step["is_terminal"] for step in steps)
    steps = play(make("Discrete-v0", time_limit=3), choice)
    assert [bool(step["is_last"]) for step in steps] == [False] * 3 + [True]
    assert not any(step["is_terminal"] for step in steps)


def test_action_repeat_adds_rewards_and_stops_with_the_episode(make):
    steps = play(make("Image-v0", action_repeat=2), NOTHING)
    assert [float(step["reward"]) for step in steps] == [0, 1 + 2, 3]
    steps = play(make("Discrete-v0", action_repeat=2), np.array([1, 0, 0], np.float32))
    assert [float(step["reward"]) for step in steps] == [0, 1 + 2, 3 + 4, 5]


def test_box_actions_are_scaled_to_their_bounds(make):
    env = make("Image-v0")
    assert env.action_space == ActionSpace(4, False)
    env.reset(0)
    for action in ([-1, -1, -1, -1], [1, 1, 1, 1]):
        env.step(np.array(action, np.float32))
    low, high = inside(env).received
    np.testing.assert_allclose(low, [[-2, 0], [-1, 5]])  # the third dimension has no lower bound
    np.testing.assert_allclose(high, [[2, 10], [1, 7]])
    assert low.dtype == np.float32
    env.reset(0)
    env.step(np.array([0.5, 0, -0.25, 1], np.float32))
    np.testing.assert_allclose(inside(env).received[-1], [[1, 5], [-0.25, 7]])


def test_a_bound_that_is_missing_is_that_of_the_agent(make):
    env = make("OneBound-v0")
    env.reset(0)
    for action in ([-1, -1], [1, 1]):
        env.step(np.array(action, np.float32))
    np.testing.assert_allclose(inside(env).received, [[0, -1], [1, -0.5]])
    with pytest.raises(envs.EnvError, match=r"FarBound-v0 has actions with one bound, .* needs the other bound too"):
        make("FarBound-v0")


def test_rounding_does_not_leave_the_action_space(make):
    env = make("Doubles-v0")
    for action in np.linspace(-1, 1, 41, dtype=np.float32):
        env.reset(0)
        env.step(action[None])
    assert all(env._env._env.action_space.contains(action) for action in inside(env).received)
    assert [inside(env).received[0], inside(env).received[-1]] == [-0.1, 0.3]


def test_discrete_actions_are_one_hot_and_may_start_anywhere(make):
    env = make("Discrete-v0")
    assert env.action_space == ActionSpace(3, True)
    env.reset(0)
    for choice in (0, 2):
        env.step(np.eye(3, dtype=np.float32)[choice])
    assert inside(env).received == [5, 7]


@pytest.mark.parametrize("name", ["Image-v0", "Gray-v0", "Gray1-v0", "Dict-v0"])
def test_image_observations_are_shown(make, name):
    env = make(name)
    image, level = env.reset(4)["image"], inside(env)._level
    assert image.shape == (64, 64, 3)
    frame = np.full((48, 96, 3), 90, np.uint8)
    frame[:, :48, slice(None) if "Gray" in name else 0] = level
    np.testing.assert_array_equal(image, Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR))
    assert inside(env).rendered == 0


def test_other_observations_need_rendered_frames(make):
    env = make("Discrete-v0", action_repeat=2)
    np.testing.assert_array_equal(env.reset(0)["image"][3, 4], [200, 0, 30])
    assert inside(env).rendered == 1
    np.testing.assert_array_equal(env.step(np.array([1, 0, 0], np.float32))["image"][3, 4], [200, 2, 30])
    assert inside(env).rendered == 2, "frames that are skipped must not be rendered"


@pytest.mark.filterwarnings("ignore:.*WARN")  # gymnasium has its own opinion of these
def test_frames_of_any_size_and_kind_that_pictures_have(make):
    env = make("Frames-v0")
    shades = [env.reset(0)["image"], env.step(NOTHING)["image"]]
    assert [(shade.shape, shade.min(), shade.max()) for shade in shades] == [((64, 64, 3), 9, 9)] * 2
    for wrong in (
        "of type str",
        r"of shape \(20, 30, 3\) and dtype float64",
        r"of shape \(3, 20, 30\) and dtype uint8",
    ):
        with pytest.raises(envs.EnvError, match=f"an image {wrong}: expected uint8 arrays of shape .* or .H, W, 3"):
            env.step(NOTHING)


@pytest.mark.filterwarnings("ignore:.*WARN")  # gymnasium has its own opinion of these
def test_rewards_may_be_integers_but_must_be_numbers(make):
    assert [float(step["reward"]) for step in play(make("IntegerReward-v0"), NOTHING)] == [0, 7, 7, 7]
    env = make("NoReward-v0")
    env.reset(0)
    with pytest.raises(envs.EnvError, match=r"step\(\) returned the reward 'seven': expected a number"):
        env.step(NOTHING)


def test_a_reward_beyond_float32_is_named_as_it_is(make):
    for reward in (1e39, -1e300):
        env = make("Counting", kwargs=json.dumps({"reward": reward}))
        env.reset(0)
        with pytest.raises(EnvError, match=re.escape(f"the reward {reward:g}: expected a number that float32 has")):
            env.step(NOTHING)


def test_seeds_decide_and_none_goes_on(make):
    def levels(env, seeds):
        return [int(env.reset(seed)["image"][0, 0, 0]) for seed in seeds]

    unseeded, zero, one, after = levels(make("Image-v0"), [None, 0, 1, None])
    assert unseeded == zero
    assert [one, after] == levels(make("Image-v0"), [1, None])
    assert len({zero, one, after}) == 3


def test_arguments_that_a_constructor_needs_or_lacks_are_told_with_the_key(make):
    with pytest.raises(envs.EnvRefused, match=r"Needing needs arguments, --env.kwargs '{\"NAME\": VALUE}': .*'ends'"):
        make("Needing")
    with pytest.raises(envs.EnvRefused, match="Modeless has its images rendered, and does not take render_mode"):
        make("Modeless", kwargs='{"ends": 3}')


def test_what_cannot_be_trained_on_is_refused(make):
    with pytest.raises(envs.EnvError, match=r'gym_examples:folder/Blind-v1 has no images: .* render_mode "rgb_array"'):
        make("folder/Blind-v1")
    with pytest.raises(envs.EnvError, match=r"has no images: .*; --model\.inputs vectors learns from its numbers"):
        make("folder/Blind-v1")
    with pytest.raises(envs.EnvError, match=r"NoActions-v0 has actions of the kind Box.* this one has no numbers"):
        make("NoActions-v0")


def test_unknown_tasks_get_one_line(make, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='"CarRacin-v3": the nearest valid name.* CarRacing-v3.*MODULE:ID'):
        envs.validate("gym", "CarRacin-v3")
    with pytest.raises(ValueError, match='"Imag-v0": the nearest valid names are Image-v0, '):
        envs.validate("gym", "gym_examples:Imag-v0")
    with pytest.raises(ValueError, match='unknown environment of gymnasium "Qqqq": valid names are Counting, '):
        envs.validate("gym", "gym_examples:Qqqq")
    with pytest.raises(ValueError, match='cannot import the module "gym_exampels" .*ModuleNotFoundError: No module'):
        envs.validate("gym", "gym_exampels:Image-v0")
    (tmp_path / "broken_environment.py").write_text("import gymnasium\nx = (\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"SyntaxError: .*broken_environment\.py, line 2") as caught:
        envs.validate("gym", "broken_environment:X-v0")
    assert "\n" not in str(caught.value)
    (tmp_path / "script_environment.py").write_text("import sys\nsys.exit('usage: script')\n")
    with pytest.raises(ValueError, match='the module "script_environment" .*: SystemExit: usage: script'):
        envs.validate("gym", "script_environment:X-v0")


def test_car_racing_in_a_process_of_its_own():
    config = load(["gym"], {"env.time_limit": "3"})
    assert config.task == "CarRacing-v3"
    env = envs.make(config.suite, config.task, **config.env)
    plain = gymnasium.make("CarRacing-v3")
    expected = [plain.reset(seed=2)[0]]
    action = np.array([0.5, 1.0, -1.0], np.float32)
    # Steering lies in -1..1, gas and brake in 0..1.
    expected += [plain.step(np.array([0.5, 1.0, 0.0], np.float32))[0] for _ in range(3)]
    for step, frame in zip(play(env, action, seed=2), expected, strict=True):
        np.testing.assert_array_equal(step["image"], Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR))
    assert env._env.pid
    env.close()


def test_a_module_in_the_working_directory_is_found_by_the_command_and_its_workers(tmp_path):
    """As the console script starts: without the working directory on the path."""
    (tmp_path / "my_module.py").write_text((Path(__file__).parent / "gym_examples.py").read_text())
    code = """
import sys
sys.path[:] = [path for path in sys.path if path]
from dreamer import envs
env = envs.make("gym", "my_module:Image-v0")
print(env.reset(0)["image"].shape, env.action_space)
env.close()
"""
    variables = {**os.environ, "PYTHONPATH": str(Path(envs.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.stdout == "(64, 64, 3) ActionSpace(size=4, discrete=False, groups=())\n", done.stderr


def test_the_package_and_our_module_do_not_meet():
    assert gymnasium.__file__ != envs.gymnasium.__file__
    assert envs.gymnasium.__name__ == "dreamer.envs.gymnasium"


def test_a_class_of_a_module_makes_the_environment(make):
    """By its name, where the module registers no such id, and as a task of a command."""
    steps = play(make("Counting"), NOTHING)
    assert [float(step["reward"]) for step in steps] == [0, 1, 2, 3]
    envs.validate("gym", "gym_examples:Counting")
    import gym_examples

    assert name_of(gym_examples.Counting) == "gym_examples:Counting"
    with pytest.raises(ValueError, match='unknown environment of gymnasium "Counter"'):
        envs.validate("gym", "gym_examples:Counter")
    with pytest.raises(ValueError, match="was defined in a script or a notebook, and only there can it be made"):
        envs.validate("gym", "__main__:Counter")


def test_a_function_that_makes_something_else_is_refused(make):
    with pytest.raises(EnvError, match=r"^gym_examples:nothing made an object of type NoneType: expected a gymnasium"):
        make("nothing")


@pytest.mark.parametrize("constructor", [lambda: None, "text".upper, 3, None])
def test_what_its_name_does_not_lead_to_cannot_be_recorded(constructor):
    with pytest.raises(ValueError, match="^env: expected a class or function at the top of a module"):
        name_of(constructor)


@pytest.mark.parametrize("name", ["Choosing", "Choosing-v0"])
def test_arguments_reach_the_constructor(name, make):
    """Of a class, and of an id that a class is registered under."""
    env = make(name, kwargs='{"ends": 2, "speed": 0.5}')
    assert inside(env).speed == 0.5
    assert len(play(env, NOTHING)) == 3
    with pytest.raises(envs.EnvRefused, match=rf"gym_examples:{name} does not take --env.kwargs '.*': .*'sped'"):
        make(name, kwargs='{"sped": 1}')
    with pytest.raises(ValueError, match="speed is negative"):  # is the environment's own to say
        make(name, kwargs='{"speed": -1}')


def test_arguments_reach_the_constructor_in_a_process_of_its_own(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    options = {**load(["gym"]).env, "time_limit": 9}
    env = envs.make("gym", "gym_examples:Choosing", **{**options, "kwargs": '{"ends": 2}'})
    assert len(play(env, NOTHING)) == 3
    assert env.note == 'gym_examples:Choosing: the image is "observation" (48, 96, 3) uint8, colours.'
    env.close()
    with pytest.raises(envs.EnvRefused, match="^gym_examples:Choosing does not take --env.kwargs"):
        envs.make("gym", "gym_examples:Choosing", **{**options, "kwargs": '{"sped": 2}'})


@pytest.mark.filterwarnings("ignore:.*WARN")  # gymnasium has its own opinion of these
@pytest.mark.parametrize("name", ["OldStep", "OldStep-v0", "OnlyOldStep", "OnlyOldStep-v0", "OldSeed", "OldSeed-v0"])
def test_the_interface_of_the_old_gym_is_named(name, make):
    env = make(name)

    def use():
        env.reset(0)
        env.step(NOTHING)

    with pytest.raises(envs.EnvRefused, match="has the interface of the old gym: its reset.* of the package shimmy"):
        use()


def test_what_is_no_environment_of_gymnasium_is_named_with_its_remedy(make):
    for name in ("OldClass", "OldClass-v0"):
        with pytest.raises(envs.EnvRefused, match="interface of the old gym.* of the package shimmy"):
            make(name)
    for name in ("Several", "Several-v0"):
        with pytest.raises(envs.EnvRefused, match="is a vector environment: give the single one, of "):
            make(name)
    with pytest.raises(envs.EnvRefused, match="is a FuncEnv, of functions: wrap it in"):
        make("Functions")


def test_an_error_within_the_environment_is_not_taken_for_the_old_interface(make):
    env = make("Broken")
    env.reset(0)
    with pytest.raises(EnvError, match=r"too many values to unpack \(expected 2"):
        env.step(NOTHING)


def telling(told, info, **options):
    """An environment in which `info` of each step, the reset first, is in `told`."""
    return Checked(Gymnasium("gym_examples:Telling", kwargs=json.dumps({"told": told}), info=info, **options))


def test_numbers_of_info_stand_in_the_steps(make):
    told = [
        {"won": False, "goal": {"far": 3}},
        {"goal": {"far": None, "x": {"y": 2.5}}, "goal.far": 7},
        {"won": 1e39, "goal": 4},
        {"won": True, "goal": {"far": -0.5}},
    ]
    env = telling(told, "won, goal.far,goal.x.y")
    assert env.infos == ("info.won", "info.goal.far", "info.goal.x.y")
    steps = play(env, NOTHING)
    assert all(step[name].dtype == np.float32 and step[name].shape == () for step in steps for name in env.infos)
    nan = np.nan
    expected = {
        "info.won": [0, nan, nan, 1],  # 1e39 is no float32
        "info.goal.far": [3, 7, nan, -0.5],  # "goal.far" comes before "far" in "goal"
        "info.goal.x.y": [nan, 2.5, nan, nan],
    }
    for name, numbers in expected.items():
        np.testing.assert_array_equal([step[name] for step in steps], numbers)
    assert make("Image-v0").infos == ()


def test_with_an_action_repeat_the_last_frame_that_tells_a_number_counts(make):
    told = [{"a": 1}, {"a": 2, "b": 5}, {"a": 3}, {}]
    steps = play(telling(told, "a,b", action_repeat=2), NOTHING)
    for name, numbers in (("info.a", [1, 3, np.nan]), ("info.b", [np.nan, 5, np.nan])):
        np.testing.assert_array_equal([step[name] for step in steps], numbers)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float16(0.5), 0.5),
        (np.array([3]), 3),
        (np.array(True), 1),
        (np.array([[2.5]]), 2.5),
        (-np.inf, np.nan),
        (10**400, np.nan),
        (2**70, 2.0**70),
    ],
)
def test_what_passes_for_a_number_of_info(value, number):
    np.testing.assert_array_equal(_number_in({"x": value}, "x"), np.float32(number))


@pytest.mark.parametrize("value", ["3", [1, 2], [[1], [1, 2]], {"a": 1}, np.zeros(2), np.zeros(0), 1j, b"3"])
def test_what_is_no_number_of_info(value):
    with pytest.raises(EnvError, match=r"^info has x .*: expected a number \(--env.info\)$"):
        _number_in({"x": value}, "x")


@pytest.mark.parametrize("info", ["", ",", "a,", "a,b,a"])
def test_names_of_info_that_are_none(make, info):
    with pytest.raises(EnvRefused, match=r"--env.info .*: expected names in `info`, each once, such as success"):
        telling([{}], info)


def test_a_name_of_info_that_an_observation_has(make):
    problem = r"--env.info y,x: gym_examples:Named has an observation that is stored as info.x already"
    with pytest.raises(EnvRefused, match=problem):
        Gymnasium("gym_examples:Named", info="y,x")

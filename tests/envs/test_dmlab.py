"""DeepMind Lab against a stand-in for its native module, and in one test against the module itself."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dreamer import envs
from dreamer.cli import main as cli
from dreamer.config import load
from dreamer.envs.dmlab import ACTIONS, LEVELS, TASKS, DMLab
from dreamer.envs.wrappers import Checked
from dreamer.training.driver import Driver
from dreamer.types import ActionSpace

ROOT = Path(__file__).resolve().parent.parent.parent


def make(task="collect", **options):
    return Checked(DMLab(task, **options))


def one_hot(choice):
    return np.eye(9, dtype=np.float32)[choice]


def play(env, seed=0, choice=0):
    steps = [env.reset(seed)]
    while not steps[-1]["is_last"]:
        steps.append(env.step(one_hot(choice)))
    return steps


def test_the_stand_in_refuses_what_the_module_refuses(lab):
    level, image = "contributed/dmlab30/rooms_watermaze", ["RGB_INTERLEAVED"]
    for wrong in (
        lambda: lab.Lab(level, tuple(image)),
        lambda: lab.Lab(level, [7]),
        lambda: lab.Lab(7, image),
        lambda: lab.Lab(level, image, {"width": 64}),
        lambda: lab.Lab(level, image, None),
        lambda: lab.Lab(level, image, temp_folder=None),
    ):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="RGBX"):
        lab.Lab(level, ["RGBX"])
    for words in (
        {"level": "nowhere"},
        {"renderer": "vulkan"},
        *({"config": {"width": w}} for w in ("0", "wide", "6")),
    ):
        with pytest.raises(RuntimeError):
            lab.Lab(**{"level": level, "observations": image, **words})
    game = lab.Lab(level, image)
    with pytest.raises(RuntimeError):
        game.observations()
    for wrong in (np.int64(1), 1.0, "1"):
        with pytest.raises(ValueError, match="'seed' must be int or None"):
            game.reset(seed=wrong)
    for accepted in (-1, 2**31, True, None):
        assert game.reset(seed=accepted) is True
    assert game.reset(np.int64(3), seed=1) is True
    with pytest.raises(TypeError):
        game.step([0] * 7)
    for wrong in (np.zeros(7, np.int64), np.zeros(6, np.intc), np.zeros((1, 7), np.intc)):
        with pytest.raises(ValueError, match="action"):
            game.step(wrong)
    game.step(np.arange(14, dtype=np.intc)[::2])
    assert game.received[-1] == [0, 1, 2, 3, 4, 5, 6]
    game.step(np.zeros(7, np.intc), num_steps=100)
    for call in (game.observations, lambda: game.step(np.zeros(7, np.intc))):
        with pytest.raises(RuntimeError):
            call()
    assert game.close() is game.close() is True


def test_a_reset_after_close_ends_the_process_of_the_module_and_never_comes_from_here(lab):
    script = "import deepmind_lab as lab; game = lab.Lab('lt_chasm', []); game.reset(); game.close(); game.reset()"
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parent)}
    assert subprocess.run([sys.executable, "-c", script], env=environment).returncode == -signal.SIGSEGV
    env = make()
    env.reset(0)
    env.close()
    with pytest.raises(envs.EnvError, match=r"reset\(\) after close\(\)"):
        env.reset(0)


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_the_module_would_cut_off_is_refused(lab, seed):
    with pytest.raises(envs.EnvError, match=f"seed {seed}: expected 0 to 2147483647"):
        make().reset(seed)


def test_nine_actions_as_the_release_has_them(lab):
    env = make()
    env.reset(0)
    for choice in range(9):
        env.step(one_hot(choice))
    received = lab.INSTANCES[-1].received
    names = ["look", "down_up", "strafe", "move", "fire", "jump", "crouch"]
    sent = [{name: value for name, value in zip(names, raw, strict=True) if value} for raw in received]
    assert sent == [
        {"move": 1},
        {"move": -1},
        {"strafe": -1},
        {"strafe": 1},
        {"look": -20},
        {"look": 20},
        {"look": -20, "move": 1},
        {"look": 20, "move": 1},
        {"fire": 1},
    ]
    assert env.action_space == ActionSpace(len(ACTIONS), discrete=True)
    assert lab.INSTANCES[-1].steps == [4] * 9


def test_an_episode_ends_by_time_without_a_terminal(lab):
    steps = play(make())
    assert len(steps) == 11  # 40 frames, 4 a step
    assert [float(step["reward"]) for step in steps] == [0.0] + [1.0] * 10
    assert [int(step["image"][0, 0, 0]) for step in steps] == [*range(0, 37, 4), 36]  # the last image is kept
    assert steps[0]["image"].shape == (64, 64, 3)
    assert not any(step["is_terminal"] for step in steps)


def test_an_episode_that_ends_before_its_time_is_terminal(lab):
    steps = play(make("watermaze", action_repeat=3))
    assert len(steps) == 8  # 20 frames: 6 steps of 3 and one of 2
    assert float(steps[-1]["reward"]) == 0.5
    assert [bool(step["is_terminal"]) for step in steps] == [False] * 7 + [True]


def test_a_level_that_counts_no_time_ends_without_a_terminal(lab):
    assert not play(make("tests/endless"))[-1]["is_terminal"]


def test_our_own_time_limit(lab):
    env = make(time_limit=9)
    steps = play(env)
    assert len(steps) == 4
    assert not steps[-1]["is_terminal"]
    assert lab.INSTANCES[-1].steps == [4, 4, 1]
    np.testing.assert_array_equal(env.reset(7)["image"][0, 0], [0, 7, 1])


def test_levels_by_their_short_and_full_names(lab):
    assert len(TASKS) == len(set(LEVELS.values())) == 13
    for name in (*TASKS, "contributed/dmlab30/rooms_watermaze", "lt_chasm"):
        envs.validate("dmlab", name)
    with pytest.raises(ValueError, match='unknown task of dmlab "colect": the nearest valid names are collect, '):
        envs.validate("dmlab", "colect")
    make("watermaze"), make("contributed/dmlab30/rooms_watermaze"), make("explore_small")
    with pytest.raises(ValueError, match="and any other level by its full name, such as contributed/dmlab30/"):
        envs.validate("dmlab", "language_select_located_object")
    with pytest.raises(envs.EnvError, match=r'does not start the level "contributed/no": .*no'):
        make("contributed/no")


def test_names_in_folders_are_asked_of_the_levels_that_the_module_brings(installed):
    for name in ("contributed/dmlab30/rooms_collect_good_objects_test", "lt_chasm", "tests/endless", *TASKS):
        envs.validate("dmlab", name)
    nearest = "the nearest valid names are contributed/dmlab30/rooms_watermaze, "
    for wrong in ("rooms_watermaze_test", "rooms_watermase"):
        with pytest.raises(
            ValueError, match=f'unknown level of the installed DeepMind Lab "contributed/dmlab30/{wrong}": {nearest}'
        ):
            envs.validate("dmlab", f"contributed/dmlab30/{wrong}")
    with pytest.raises(ValueError, match="valid names are contributed/dmlab30/explore_object_locations_small, "):
        envs.validate("dmlab", "/")
    for part in ("contributed/psychlab/factories/harlow_factory", "../levels/lt_chasm"):
        with pytest.raises(ValueError, match="unknown level"):
            envs.validate("dmlab", part)
    with pytest.raises(ValueError, match='unknown task of dmlab "colect": the nearest valid names are collect, '):
        envs.validate("dmlab", "colect")


def test_a_level_that_there_is_not_leaves_no_folder_of_a_run(installed, tmp_path, capsys):
    words = ["--configs", "dmlab", "debug", "--task", "contributed/dmlab30/rooms_watermaze_test"]
    assert cli.main([*words, "--logdir", str(tmp_path / "runs" / "one")]) == 2
    assert capsys.readouterr().err.startswith("dreamer: unknown level of the installed DeepMind Lab")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("training", "hold_out", "test_mode"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_evaluation_takes_the_layouts_that_are_held_out(lab, training, hold_out, test_mode):
    make(training=training, hold_out=hold_out)
    expected = {"width": "64", "height": "64"}
    if test_mode:
        expected |= {"allowHoldOutLevels": "true", "mixerSeed": "1611489005"}
    assert lab.INSTANCES[-1].config == expected


def test_seeds_reach_the_module_as_integers(lab):
    env, fresh = make(), make()
    for seed in (None, 5, None, 2**31 - 1):
        env.reset(seed)
    for seed in (0, 5, None):
        fresh.reset(None if seed == 0 else seed)
    used, again = (instance.seeds for instance in lab.INSTANCES[-2:])
    assert used[1] == 5
    assert used[3] == 2**31 - 1
    assert used[:3] == again
    assert len(set(used)) == 4


def test_compiled_maps_are_kept_in_a_folder(lab, tmp_path):
    for _ in range(2):
        env = make("explore_small", level_cache=str(tmp_path / "maps"))
        env.reset(0), env.reset(1)
    assert [instance.compiled for instance in lab.INSTANCES[-2:]] == [["maze"], []]
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["maze"]
    env = make("explore_small")
    env.reset(0), env.reset(1)
    assert lab.INSTANCES[-1].compiled == ["maze", "maze"]


def test_a_run_that_goes_on_says_where_an_episode_cannot_be_repeated(lab):
    """The first episode of an environment can; a later one depends on the resets before it."""

    class Walks:
        def initial(self):
            return None

        def act(self, observation, carry, explore):
            return one_hot(0), carry

    def driver():
        return Driver(make(), Walks(), explore=True, seed_of=lambda n: n)

    first, again = driver(), driver()
    for _ in range(4):
        first.step()
    assert again.restore(first.state())
    while not first.step():
        pass
    for _ in range(4):
        first.step()
    strayed = driver()
    assert not strayed.restore(first.state())
    assert lab.INSTANCES[-1].steps == []  # which the first image has told already
    assert len(strayed.cut()["reward"]) == 5


def test_it_runs_in_a_process_of_its_own(lab):
    config = load(["dmlab"])
    assert envs.missing("dmlab") is None
    env = envs.make("dmlab", "watermaze", training=True, **config.env)
    steps = play(env, choice=3)
    assert steps[-1]["is_terminal"]
    assert env._env.pid
    env.close(), env.close()
    assert lab.INSTANCES == []
    with pytest.raises(
        envs.EnvError, match=r"failed in start: DeepMind Lab does not start the level .*no level contributed/no.$"
    ):
        envs.make("dmlab", "contributed/no")
    with pytest.raises(envs.EnvError, match="renders in software, which would crash this process"):
        envs.make("dmlab", "watermaze", worker=False)


def test_closing_twice_is_allowed(lab):
    env = make()
    env.close(), env.close()


def test_a_missing_module_gets_one_line_with_the_target_that_has_it(monkeypatch):
    monkeypatch.setattr(envs.importlib.util, "find_spec", lambda name: None)
    problem = envs.missing("dmlab")
    assert "\n" not in problem
    assert "deepmind_lab" in problem
    assert "`docker build --target dmlab`" in problem
    assert " AS dmlab\n" in (ROOT / "Dockerfile").read_text()
    with pytest.raises(envs.EnvError, match="the suite dmlab needs the module deepmind_lab"):
        envs.make("dmlab", "collect")
    monkeypatch.setitem(sys.modules, "deepmind_lab", None)
    with pytest.raises(envs.EnvError, match="the module deepmind_lab is missing"):
        DMLab("collect")


def test_a_module_that_does_not_load_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "deepmind_lab.py").write_text("raise ImportError('libOSMesa.so.8: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(envs.EnvError, match=r"installed but does not load: libOSMesa\.so\.8: .*Debian's libosmesa6"):
        DMLab("collect")
    (tmp_path / "deepmind_lab.py").write_text("import no_such_part_of_it")
    with pytest.raises(envs.EnvError, match="installed but does not load: No module named 'no_such_part_of_it'"):
        DMLab("collect")


@pytest.mark.dmlab
@pytest.mark.skipif(
    importlib.util.find_spec("deepmind_lab") is None, reason="the native module deepmind_lab is not installed"
)
def test_the_native_module():
    """Two fresh processes show the same; a whole episode can be played; images move and rewards are finite."""
    choices = np.random.default_rng(0).integers(9, size=20)
    shown = []
    for _ in range(2):
        env = envs.make("dmlab", "collect", **load(["dmlab"]).env)
        images = [env.reset(1)["image"]]
        images += [env.step(one_hot(choice))["image"] for choice in choices]
        shown.append(np.stack(images))
        env.close()
    np.testing.assert_array_equal(*shown)
    assert np.ptp(shown[0]) > 50
    assert (shown[0][0] != shown[0][-1]).any()
    env = envs.make("dmlab", "collect", training=True)
    steps = play(env, seed=2)
    assert len(steps) > 100
    assert not steps[-1]["is_terminal"]
    env.close()

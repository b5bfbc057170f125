import inspect
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from dreamer import config, envs, start
from dreamer.envs import toy
from dreamer.envs.rendering import Rendering


def test_import_is_light():
    """What the worker imports must not import TensorFlow; listing tasks must not touch OpenGL."""
    script = """
import sys
from dreamer import envs
envs.tasks(), envs.other_tasks(), envs.validate("dmc", "walker_walk")
heavy = {"tensorflow", "keras", "dm_control", "mujoco", "OpenGL", "gymnasium", "ale_py"}
print(sorted({name.partition(".")[0] for name in sys.modules} & heavy))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def test_every_listed_task_is_valid():
    assert len(envs.tasks()["dmc"]) == 20
    assert not set(envs.tasks()["dmc"]) & set(envs.other_tasks()["dmc"])
    for task in envs.tasks()["dmc"] + envs.other_tasks()["dmc"]:
        envs.validate("dmc", task)


@pytest.mark.parametrize(
    ("suite", "task", "name"),
    [
        ("atari", "MsPacman", "ms_pacman"),
        ("atari", "boxing", "boxing"),
        ("dmc", "ball_in_cup_catch", "cup_catch"),
        ("dmc", "walker_walk", "walker_walk"),
        ("dmlab", "contributed/dmlab30/rooms_watermaze", "watermaze"),
        ("dmlab", "contributed/dmlab30/skymaze", "contributed/dmlab30/skymaze"),
        ("gym", "CarRacing-v3", "CarRacing-v3"),
    ],
)
def test_runs_of_a_task_go_by_one_name(suite, task, name):
    assert envs.canonical(suite, task) == name


def test_unknown_names_are_refused_before_anything_starts(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ValueError, match='unknown suite "dm_control": valid names are dmc, atari, dmlab, gym, toy$'):
        envs.make("dm_control", "walker_walk")
    with pytest.raises(ValueError, match='unknown task of dmc "cartpole_swing": the nearest .* cartpole_swingup, '):
        envs.make("dmc", "cartpole_swing")


@pytest.mark.parametrize(
    ("suite", "task", "told"),
    [
        ("dmc", "grayscale", "valid names are acrobot_swingup, cartpole_balance, "),  # and not the nearest by letters
        ("dmc", "Walker_Walk", "the nearest valid names are walker_walk, "),
        ("atari", "ALE/Pong-v5", "the nearest valid name is pong$"),
        ("toy", "dto", "the nearest valid name is dot$"),
    ],
)
def test_names_that_are_told_are_plausible(suite, task, told):
    with pytest.raises(ValueError, match=f'^unknown task of {suite} "{task}": {told}'):
        envs.validate(suite, task)


def test_every_key_of_the_config_belongs_to_a_suite():
    options = set()
    for suite in envs.SUITES.values():
        parameters = set(inspect.signature(suite.constructor).parameters)
        assert set(suite.options) | {"task"} <= parameters
        options |= set(suite.options)
    assert set(config.load().env.keys()) | {"training", "images"} == options | {"renderer", "worker"} | {
        "timeout",
        "start_timeout",
        "retries",
    }
    with pytest.raises(TypeError, match=r"no suite takes: \['shadows'\]"):
        envs.make("toy", "dot", shadows=1)


def test_a_suite_gets_its_own_options_only(monkeypatch):
    made = []
    for name in ("dmc", "toy", "atari"):
        recorder = lambda **kwargs: made.append(kwargs) or toy.Dot("dot", action_repeat=1, time_limit=1)  # noqa: E731
        monkeypatch.setitem(envs.SUITES, name, envs.SUITES[name]._replace(constructor=recorder, rendering="none"))
        envs.make(name, envs.SUITES[name].tasks[0], training=True, **config.load().env)
    dmc, dot, atari = made
    both = {"action_repeat": 2, "time_limit": 1000, "size": 64, "images": True}
    assert dmc == {"task": "acrobot_swingup", **both, "camera": -1, "shadow_map": 0}
    assert dot == {"task": "dot", **both}
    assert atari["training"] is atari["life_loss"] is True
    assert not {"camera", "shadow_map", "hold_out"} & set(atari)


def test_renders_beside_tensorflow():
    import tensorflow as tf

    assert float(tf.reduce_sum(tf.matmul(tf.ones((2, 3)), tf.ones((3, 2))))) == 12
    before = dict(os.environ)
    env = envs.make("dmc", "cup_catch", shadow_map=256, time_limit=10)
    try:
        assert dict(os.environ) == before
        step = env.reset(1)
        images = [step["image"]]
        while not step["is_last"]:
            step = env.step(np.ones(env.action_space.size, np.float32))
            images.append(step["image"])
        assert len(images) == 6
        assert np.ptp(images[-1]) > 50
        assert (images[0] != images[-1]).any()
        assert float(tf.reduce_mean(tf.cast(tf.stack(images), tf.float32))) > 0
        with pytest.raises(envs.EnvError, match="after the last step"):
            env.step(np.ones(2, np.float32))
        env.reset(2)
        with pytest.raises(envs.EnvError, match=r"action of shape \(3,\): expected \(2,\)"):
            env.step(np.ones(3, np.float32))
        os.kill(env._env.pid, signal.SIGKILL)
        with pytest.raises(envs.WorkerDied, match=r"DMC\(task='cup_catch', .*\) was killed by SIGKILL during step"):
            env.step(np.ones(2, np.float32))
    finally:
        env.close()


@pytest.mark.parametrize("value", ["off", "glfw", "foo"])
def test_a_mujoco_gl_that_renders_nothing_matters_only_to_what_renders_with_opengl(value, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", value)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    env = envs.make("gym", "gym_examples:Image-v0")
    assert env.reset(0)["is_first"]
    env.close()
    for words in (["toy"], ["atari"], ["gym"]):
        start.check_task(config.load(words, {"task": "gym_examples:Image-v0"} if words == ["gym"] else {}))
    if value != "glfw":  # which is one, and fails where it renders
        with pytest.raises(start.UsageError, match=f"^MUJOCO_GL is '{value}'.*: expected egl, osmesa, glfw, or unset$"):
            start.check_task(config.load(["dmc"]))


def test_software_rendering_in_this_process_is_refused(monkeypatch):
    monkeypatch.setattr(envs, "choose", lambda renderer: Rendering("egl", "llvmpipe (LLVM 15)", software=True))
    with pytest.raises(envs.EnvError, match=r"worker=False needs OpenGL on a GPU.*llvmpipe \(LLVM 15\)"):
        envs.make("dmc", "walker_walk", worker=False)


def test_rendering_in_this_process_needs_its_platform(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(envs, "choose", lambda renderer: Rendering("egl", "NVIDIA H100", software=False))
    with pytest.raises(envs.EnvError, match="start it with MUJOCO_GL=egl"):
        envs.make("dmc", "walker_walk", worker=False)

"""The benchmark of collecting experience, and the environments that it compares ours with."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import act, common, several, sleeping
from dreamer import envs
from dreamer.config import load
from dreamer.training import loop

# Rendering in software beside TensorFlow, which other tests import, would crash this process.
RENDER = """
import json, os
import numpy as np
from benchmarks import act, every_frame
from dreamer.config import load
from dreamer.envs.dmc import DMC

measured = act.measure_rendering(load(["dmc"], {"task": "cartpole_balance"}), shadow_map=64, frames=3)
kwargs = {"task": "cartpole_balance", "action_repeat": 3, "time_limit": 7}
makers = {"ours": DMC, "every frame": every_frame.every_frame, "plain": every_frame.plain_dm_control}
played = {}
for name, make in makers.items():
    env = make(**kwargs)
    actions = np.random.default_rng(0).uniform(-1, 1, (3, env.action_space.size)).astype(np.float32)
    steps = [env.reset(seed=1)] + [env.step(action) for action in actions]
    played[name] = {
        "image": np.stack([step["image"] for step in steps]).tolist(),
        **{key: [step[key].item() for step in steps] for key in ("reward", "is_first", "is_last", "is_terminal")},
    }
    env.close()
print(json.dumps({"measured": measured, "played": played}), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def rendered():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(common.ROOT), *sys.path])}
    done = subprocess.run([sys.executable, "-c", RENDER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(**json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("other", ["every frame", "plain"])
def test_what_ours_is_compared_with_does_the_same(rendered, other):
    ours, theirs = rendered.played["ours"], rendered.played[other]
    assert ours["is_last"] == [False, False, False, True]  # frame 7 ends the third step early
    assert ours["reward"][0] == 0 < min(ours["reward"][1:])
    for key in ("is_first", "is_last", "is_terminal"):
        assert theirs[key] == ours[key]
    assert theirs["reward"] == pytest.approx(ours["reward"], rel=1e-6)
    assert np.abs(np.array(theirs["image"]) - np.array(ours["image"])).max() <= 1


def test_rendering_is_measured_and_pixels_are_compared(rendered):
    measured = rendered.measured
    assert set(measured["rendering"]) == set(act.constructors(64))
    assert measured["physics"] >= 0
    assert min(measured["rendering"].values()) > 0
    pixels = measured["pixels"]
    assert 0 < pixels["changed"] < 0.2
    assert 0 < pixels["mean"] < 2
    assert 1 <= pixels["max"] <= 255


def test_seconds_are_counted_per_agent_step_and_part(monkeypatch, tmp_path):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    class Slow:
        """The toy task with an own clock: 10 seconds for a reset, the first one 500, and 2 for a step."""

        def __init__(self):
            self._env = envs.make("toy", "dot", action_repeat=2, time_limit=8)
            self.action_space, self.action_repeat = self._env.action_space, 2
            self._next_reset = 500.0

        def reset(self, seed):
            now[0] += self._next_reset
            self._next_reset = 10.0
            return self._env.reset(seed)

        def step(self, action):
            now[0] += 2.0
            return self._env.step(action)

    class Agent:
        def initial(self):
            now[0] += 4.0

        def act(self, observation, carry, explore):
            assert explore
            now[0] += 3.0
            return np.zeros(2, np.float32), carry

    seen = act.collect({"a": Slow(), "b": Slow()}, Agent(), 1, tmp_path)
    # Four agent steps an episode.
    expected = {
        "environment": (10 + 4 * 2) / 4,
        "policy": 3.0,
        "storing": 0.0,
        "driver": 4 / 4,
        "all": 8.5,
        "slower": 1.0,
    }
    assert seen["a"] == pytest.approx(expected)
    assert seen["b"] == pytest.approx(expected)
    assert len(list(tmp_path.glob("*/*.npz"))) == 2 * 2  # an episode each as a warm-up


def test_figures_follow_from_the_measurements(capsys):
    ways = act.constructors(512)
    whole = dict(zip(ways, (0.020, 0.010, 0.036, 0.050), strict=True))
    collected = {
        way: {
            **{"policy": 0.004, "environment": whole[way] - 0.006, "storing": 0.001, "driver": 0.001},
            **{"all": whole[way], "slower": whole[way] / 0.020 + 0.01},
        }
        for way in ways
    }
    rendering = {
        "physics": 0.0005,
        "rendering": dict(zip(ways, (0.012, 0.002, 0.012, 0.02), strict=True)),
        "pixels": {"mean": 0.0123, "max": 40, "changed": 0.005},
    }
    act.report(collected, rendering, repeat=2)
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["policy", "4.00", "4.00", "4.00", "4.00"] in lines
    assert ["physics", "1.00", "1.00", "1.00", "1.00"] in lines
    assert ["rendering", "12.00", "2.00", "24.00", "40.00"] in lines
    assert ["pipe, checks", "1.00", "1.00", "5.00", "3.00"] in lines
    assert ["agent steps a second", "50.0", "100.0", "27.8", "20.0"] in lines
    assert "changes 0.50% of the pixels, by 0.0123 of 255 grey levels on average and 40 at most" in lines[-2][0]
    expected = "small shadow map / ours: 1.96x, ours / every frame: 1.81x, ours / plain dm_control: 2.51x"
    assert lines[-1] == [f"collecting, {expected}"]


def test_a_suite_without_opengl_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        act.main(["--configs", "toy"])
    assert "suite toy does not render with OpenGL" in capsys.readouterr().err


@pytest.mark.usefixtures("precision")  # which the command sets for its process, and the fixture sets back
def test_the_policy_call_alone_of_any_suite(capsys):
    act.main(["--policy", "--configs", "debug", "atari", "--calls", "10"])
    lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"  +", line) for line in lines if line.startswith(("tf.function", "ours"))]
    assert [len(row) for row in rows] == [3, 3]
    assert float(rows[0][1]) > 0
    assert re.fullmatch(r"policy calls, ours / tf.function: \d+\.\d\dx", lines[-1])


def test_several_environments_are_compared_with_the_first_number_in_turns(monkeypatch, capsys):
    """With a clock of its own: a step of all takes 2 s and 1 s for each environment."""
    now, made = [0.0], []

    class Stream:
        failed = {}

        def __init__(self, count):
            self.count = count

        def step(self):
            now[0] += 2.0 + self.count
            return {}

    def make(config, count):
        made.append((config.task, count))
        return SimpleNamespace(action_space=None, close=lambda: None)

    monkeypatch.setattr(several.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(several, "make", make)
    monkeypatch.setattr(several, "together", lambda envs, agent: Stream(len(envs)))
    monkeypatch.setattr(common, "set_up_tensorflow", lambda precision: None)
    monkeypatch.setattr("dreamer.agents.build.build_agent", lambda *arguments, **keywords: object())
    act.main(["--configs", "toy", "debug", "--envs", "1", "4", "--steps", "10", "--episodes", "3", "--sleep", "5"])
    assert made == [(sleeping.TASK, 1), *4 * [(sleeping.TASK, 4)]]
    lines = capsys.readouterr().out.splitlines()
    assert re.split("  +", lines[-4]) == ["1", "0.3", "1.00x"]
    assert re.split("  +", lines[-3]) == ["4", "0.7", "2.00x"]  # 3 s, and 6 s for four
    assert lines[-1] == "agent steps a second of several environments / 1: 4: 2.00x"


def test_several_toys_act_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(common, "set_up_tensorflow", lambda precision: None)
    seen = several.measure(load(["toy", "debug"]), [1, 2], 5, 1, 0.0)
    assert all(row["seconds"] > 0 and row["gain"] > 0 for row in seen.values())

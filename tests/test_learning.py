"""The whole agent, from images to actions, on tasks with a known best policy: it has to learn them.

scripts/sabotage.py breaks one equation after the other and runs the same.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer import config
from dreamer.envs import toy
from dreamer.envs.gymnasium import Gymnasium
from dreamer.results import scores
from dreamer.training.driver import Driver, episode_return
from dreamer.training.restore import restore_agent

EPISODES = 20


def words(task, logdir):
    """What follows `dreamer` in the command that the quick tests train with."""
    return ["--configs", "small", "toy", "--task", task, "--logdir", str(logdir)]


def train(*words):
    """Run `dreamer` in a process of its own."""
    subprocess.run([sys.executable, "-m", "dreamer", *words], check=True)


def fraction_of_the_best(task, logdir, make=toy.Dot):
    """The mean return of EPISODES episodes of the trained agent, divided by that of the best policy."""
    settings = config.load_file(logdir / "config.yaml")
    env = make(task, **{name: settings.env[name] for name in ("action_repeat", "time_limit")})
    agent, *_ = restore_agent(settings, logdir, env.action_space, seed=0)
    driver = Driver(env, agent, explore=False, seed_of=lambda n: n)
    reached = best = episodes = 0
    while episodes < EPISODES:
        if episode := driver.step():
            start, frames = episode["position"][0], settings.env.time_limit
            reached += episode_return(episode)
            best += toy.best_return(start, discrete=task == "dot_discrete", frames=frames)
            episodes += 1
    return reached / best


def test_learns_nine_tenths_of_the_best_return_from_images(tmp_path):
    """With discrete actions; the demo's test in test_demo.py has continuous ones, on two seeds."""
    train(*words("dot_discrete", tmp_path))
    assert fraction_of_the_best("dot_discrete", tmp_path) >= 0.9


@pytest.mark.slow
def test_learns_as_much_while_a_thread_collects(tmp_path):
    train(*words("dot", tmp_path), "--loop.overlap", "true")
    assert fraction_of_the_best("dot", tmp_path) >= 0.9


@pytest.mark.slow
def test_learns_several_choices_at_once(tmp_path, monkeypatch):
    """MultiDiscrete actions, in an environment of gymnasium; what MultiBinary is made of are such groups too."""
    task = "dot_pads:Pads"
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, sys.path)]))
    monkeypatch.syspath_prepend(here)
    train(*words(task, tmp_path), "--suite", "gym")
    assert fraction_of_the_best(task, tmp_path, Gymnasium) >= 0.85


@pytest.mark.slow
def test_planet_plans_four_fifths_of_the_best_return_from_images(tmp_path):
    """Four seeds came to 92 to 98 % after 2,000 frames or little more; random actions come to 5 to 8 %.

    At 1,250 frames and 450 updates it is still being learned: 57 to 92 %.
    """
    planner = {"candidates": 200, "best": 20, "iterations": 5}
    more = [f"--planner.{name}={value}" for name, value in planner.items()]
    more += ["--loop.eval_every", "2000", "--loop.eval_episodes", "2"]  # as few as there can be: a plan takes long
    train(*words("dot", tmp_path), "--method", "planet", "--steps", "2000", *more)
    assert fraction_of_the_best("dot", tmp_path) >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "more", "least"),
    [
        # One run each came to 79, 96, 98, 96 and 94 % with horizons of 2, 3, 5, 15 and 45.
        ("no_value", ["--behavior.horizon", "5"], 0.85),
        # 59 % after 1,500 frames, 83 % after 2,000 and 88 to 96 % from there to 3,000.
        ("contrastive", ["--steps", "2000"], 0.6),
    ],
)
def test_ablations_learn_from_images(overlay, more, least, tmp_path):
    """The paper's other objectives. Rewards alone are too little here: 2 % after 1,500 frames, 6 % after 3,000."""
    command = words("dot", tmp_path)
    train(*command[:3], overlay, *command[3:], *more)
    assert fraction_of_the_best("dot", tmp_path) >= least


@pytest.mark.slow
def test_balances_a_pole_in_dm_control_from_states(tmp_path):
    """The settings of the demo without its images, which take most of its time; five runs had 947 to 979 so late."""
    words = ["--configs", "dmc", "small", "cpu", "proprio", "--task", "cartpole_balance", "--steps", "20000"]
    train(*words, "--logdir", str(tmp_path))
    (score,) = scores.read(tmp_path / scores.FILENAME)
    assert score.ys[-1] > 0.6 * 992.8  # of the best return known, D4PG's; random actions come to 340

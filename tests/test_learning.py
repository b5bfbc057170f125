"""The whole agent, from images to actions, on tasks with a known best policy: it has to learn them.

scripts/sabotage.py breaks one equation after the other and runs the same.
"""

import subprocess
import sys

import pytest

from dreamer import config
from dreamer.envs import toy
from dreamer.training.driver import Driver, episode_return
from dreamer.training.restore import restore_agent

EPISODES = 20


def words(task, logdir):
    """The command that the tests train with."""
    return ["--configs", "small", "toy", "--task", task, "--logdir", str(logdir)]


def fraction_of_the_best(task, logdir):
    """The mean return of EPISODES episodes of the trained agent, divided by that of the best policy."""
    settings = config.load(["small", "toy"], {"task": task})
    env = toy.Dot(task, **{name: settings.env[name] for name in ("action_repeat", "time_limit")})
    agent = restore_agent(settings, logdir, env.action_space, seed=0)
    driver = Driver(env, agent, explore=False, seed_of=lambda n: n)
    reached = best = episodes = 0
    while episodes < EPISODES:
        if episode := driver.step():
            start, frames = episode["position"][0], settings.env.time_limit
            reached += episode_return(episode)
            best += toy.best_return(start, discrete=task == "dot_discrete", frames=frames)
            episodes += 1
    return reached / best


@pytest.mark.parametrize("task", toy.TASKS)
def test_learns_nine_tenths_of_the_best_return_from_images(task, tmp_path):
    subprocess.run([sys.executable, "-m", "dreamer", *words(task, tmp_path)], check=True)
    assert fraction_of_the_best(task, tmp_path) >= 0.9

"""The benchmark of planning, and the Python loop that it compares ours with."""

import re
import subprocess
import sys

import numpy as np
import tensorflow as tf

from benchmarks import common, plan
from dreamer import config
from dreamer.agents.build import build_agent
from dreamer.behavior import planner
from dreamer.types import ActionSpace, State
from dreamer.world_model.rssm import feature

RUN = config.load(["toy", "planet", "debug"])


def test_the_loop_makes_the_same_plans():
    agent, rng = build_agent(RUN, ActionSpace(2, False), seed=0), np.random.default_rng(0)
    start = State(*(tf.constant(rng.normal(size=(3, size)), tf.float32) for size in (4, 4, 4, 8)))
    noise, dreams = (tf.constant(rng.normal(size=(2, 3, 8, 3, size)), tf.float32) for size in (2, 4))
    model = agent.world_model

    def evaluate(actions, seed):
        repeated = tf.nest.map_structure(lambda x: tf.repeat(x, 8, 0), start)
        actions, draws = tf.reshape(actions, [-1, 3, 2]), tf.reshape(tf.gather(dreams, seed[0]), [-1, 3, 4])
        reward = lambda state: model.reward(feature(state))  # noqa: E731
        return tf.reshape(planner.predicted_return(model.rssm.img_step, reward, repeated, actions, draws), [3, 8])

    ours = planner.plan(evaluate, noise, tf.constant([[0, 0], [1, 0]]), RUN.planner.best)
    theirs = plan.plan_in_python(agent, RUN.planner, start, noise, dreams)
    np.testing.assert_allclose(theirs, ours[:, 0], atol=1e-5)


def test_operations_are_those_of_steps_and_rewards():
    """By hand: 8 plans of 3 steps, twice; D 8, S 4, hidden 8, A 2, one reward layer of 8."""
    step = (4 + 2) * 8 + 8 * 24 + 8 * 24 + 8 * 8 + 8 * 8
    assert plan.operations(RUN, 2) == 2 * (step + 12 * 8 + 8) * 8 * 3 * 2


def test_the_command_prints_a_ratio():
    words = ["--configs", "toy", "debug", "--matmul", "64", "--repeats", "1", "--environments", "1", "2"]
    command = [sys.executable, str(common.ROOT / "benchmarks" / "plan.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"planning, ours / Python loop: \d+\.\d\dx", lines[-1])
    assert [line.split()[0] for line in lines[3:6]] == ["environments", "1", "2"]

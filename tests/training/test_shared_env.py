"""An environment that exists only once: evaluations take it between two training episodes."""

import json

import numpy as np
import pytest

from dreamer import config
from dreamer.agents import RunError
from dreamer.envs import EnvError, toy
from dreamer.run import lock, settings
from dreamer.stops import Stops
from dreamer.training import loop

KEYS = {
    "method": "random",
    "steps": "300",
    "env.action_repeat": "2",
    "env.time_limit": "30",
    "loop.prefill": "40",
    "loop.train_every": "20",
    "loop.eval_every": "50",
    "loop.eval_episodes": "2",
    "loop.eval_env": "shared",
}


def train(logdir, **values):
    run = config.load(["toy", "debug"], {**KEYS, **{name.replace("__", "."): value for name, value in values.items()}})
    with Stops() as stops, lock.exclusive(logdir):
        return loop.train(settings.agree(run, logdir), logdir, stops)


@pytest.fixture
def made(monkeypatch):
    """Every environment that is made, and what is asked of each."""
    made = []

    class Noted(toy.Dot):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.asked = []
            made.append(self)

        def reset(self, seed=None):
            self.asked.append("reset")
            return super().reset(seed)

        def step(self, action):
            self.asked.append("step")
            return super().step(action)

    suite = loop.envs.SUITES["toy"]
    monkeypatch.setitem(loop.envs.SUITES, "toy", suite._replace(constructor=Noted))
    return made


def stored(logdir):
    return sorted(path.name for path in (logdir / "episodes").glob("*.npz"))


def test_evaluations_and_training_take_turns_in_one_environment(tmp_path, made):
    assert train(tmp_path / "shared") == 0
    assert len(made) == 1
    # No episode was left in its midst, of either kind: each has its 15 steps.
    lengths = [len(steps.split()) for steps in " ".join(made[0].asked).split("reset")[1:]]
    assert set(lengths) == {15}
    scores = json.loads((tmp_path / "shared" / "scores.json").read_text())
    # Due at 40, 90, 140, 190 and 240 frames, and made where the episode in progress ends; 300 is the end of the run.
    assert scores["xs"] == [60, 90, 150, 210, 240, 300]
    assert len(lengths) == 300 // 30 + 2 * len(scores["xs"])
    assert train(tmp_path / "own", loop__eval_env="own") == 0
    assert len(made) == 1 + 2
    assert json.loads((tmp_path / "own" / "scores.json").read_text())["xs"] == [60, 100, 140, 200, 240, 300]
    # What is collected are the same episodes, in the same order, and each is whole.
    assert stored(tmp_path / "shared") == stored(tmp_path / "own")
    for name in stored(tmp_path / "shared"):
        with np.load(tmp_path / "shared" / "episodes" / name) as episode:
            assert len(episode["reward"]) == 16


def test_an_environment_that_fails_in_an_evaluation_is_replaced_for_both(tmp_path, made, monkeypatch):
    step, steps = toy.Dot.step, []

    def failing(self, action):
        steps.append(self)
        if len(steps) == 40:  # after the prefill's 30, in the first evaluation
            raise EnvError("the cable fell off")
        return step(self, action)

    monkeypatch.setattr(toy.Dot, "step", failing)
    assert train(tmp_path, env__retries=1) == 0
    first, second = made
    assert len(first.asked) == 40 + 3
    assert "step" in second.asked
    assert json.loads((tmp_path / "scores.json").read_text())["xs"] == [60, 90, 150, 210, 240, 300]
    assert len(stored(tmp_path)) == 10


def test_an_environment_that_fails_in_training_is_replaced_for_both(tmp_path, made, monkeypatch):
    step, steps = toy.Dot.step, []

    def failing(self, action):
        steps.append(self)
        if len(steps) == 5:
            raise EnvError("the cable fell off")
        return step(self, action)

    monkeypatch.setattr(toy.Dot, "step", failing)
    assert train(tmp_path, env__retries=1) == 0
    assert len(made) == 2
    assert len(made[0].asked) == 6
    assert len(json.loads((tmp_path / "scores.json").read_text())["xs"]) == 6


@pytest.mark.parametrize(
    "values", [{"envs__count": 2}, {"loop__overlap": True, "method": "dreamer"}], ids=["count", "overlap"]
)
def test_it_is_for_a_single_environment(values, tmp_path, made):
    with pytest.raises(RunError, match="shared is for a single environment: --envs.count 1, --loop.overlap false"):
        train(tmp_path, **values)
    assert not made


def test_less_than_whole_games_cannot_be_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(toy.Dot, "whole_games", False, raising=False)
    with pytest.raises(RunError, match="would evaluate less than whole games: --env.life_loss false"):
        train(tmp_path)

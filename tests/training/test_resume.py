"""Exact resume: a run that is stopped anywhere and started again ends as the one that never was, bit for bit."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.run import commits, settings
from dreamer.stops import Stops
from dreamer.training import loop

# No value here equals the default, so that a key that a resume forgets shows.
KEYS = {
    "precision": "float32",
    "seed": "5",
    "steps": "220",
    "env.action_repeat": "2",
    "env.time_limit": "30",
    "replay.batch": "2",
    "replay.length": "5",
    "replay.capacity": "70",
    "replay.compress": "true",
    "replay.prefetch": "2",
    "replay.cross_ends": "true",
    "replay.tanh_rewards": "true",
    "explore.noise": "0.2",
    "loop.prefill": "70",
    "loop.pretrain": "4",
    "loop.train_every": "24",
    "loop.train_updates": "3",
    "loop.eval_every": "50",
    "loop.eval_episodes": "2",
    "loop.save_every": "40",
}


class Killed(BaseException):
    """As kill -9: nothing of ours runs after it."""


class Countdown(Stops):
    """A stop that arrives when the loop looks for one for the n-th time: politely, or as kill -9."""

    def __init__(self, looks, kill):
        self.left, self.kill, self.came = looks, kill, False

    @property
    def signal(self):
        self.left -= 1
        if self.left < 0:
            if self.kill and not self.came:
                self.came = True
                raise Killed
            return signal.SIGTERM
        return None


def train(run, logdir, looks=10**9, kill=False):
    with settings.exclusive(logdir):
        return loop.train(settings.agree(run, logdir), logdir, Countdown(looks, kill))


def train_in_pieces(run, logdir, generator, pieces):
    """Until it is finished, stopped `pieces` times on the way, every second time as by kill -9."""
    for piece in range(pieces):
        looks = int(generator.integers(1, 60))
        try:
            if train(run, logdir, looks, kill=piece % 2) == 0:
                return piece
        except Killed:
            pass
    assert train(run, logdir) == 0
    return pieces


def lines(path):
    return [
        {key: value for key, value in json.loads(line).items() if not key.startswith("time/")}
        for line in path.read_text().splitlines()
    ]


def left_behind(logdir):
    """Everything of a run that must be the same; weights, optimisers and generators of the last state among it."""
    newest = commits.Commits(logdir / "checkpoints").newest(print)
    weights = {}
    if list(newest.folder.glob(f"{commits.WEIGHTS}*")):  # random actions have none
        reader = tf.train.load_checkpoint(str(newest.folder / commits.WEIGHTS))
        names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
        weights = {name: reader.get_tensor(name).tobytes() for name in names}
    return {
        "metrics": lines(logdir / "metrics.jsonl"),
        "open loop": lines(logdir / "open_loop.jsonl"),
        "scores": (logdir / "scores.json").read_text(),
        "random": json.loads((logdir / "random.json").read_text()),
        "episodes": {path.name: path.read_bytes() for path in (logdir / "episodes").glob("*.npz")},
        "weights": weights,
        "state": {key: value for key, value in newest.state.items() if key not in ("checksums", "sizes")},
        "videos": sorted(path.name for path in (logdir / "videos").iterdir()),
    }


def assert_equal(first, second):
    for name in first:
        assert first[name] == second[name], name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert train(config.load(["toy", "debug"], KEYS), logdir) == 0
    return left_behind(logdir)


def test_the_keys_of_these_tests_are_not_the_defaults():
    for key, value in KEYS.items():
        assert config.load(["toy", "debug"]).flat()[key] != config.load(["toy", "debug"], {key: value}).flat()[key]


def test_a_run_in_pieces_ends_as_the_whole_one(uninterrupted, tmp_path):
    run = config.load(["toy", "debug"], KEYS)
    assert train_in_pieces(run, tmp_path / "run", np.random.default_rng(1), pieces=6) == 6
    assert_equal(left_behind(tmp_path / "run"), uninterrupted)

"""Exact resume: a run that is stopped anywhere and started again ends as the one that never was, bit for bit."""

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dreamer import config
from dreamer.envs import EnvError, toy
from dreamer.run import commits, lock, settings
from dreamer.stops import Stopped, Stops
from dreamer.training import loop
from dreamer.training.ahead import Ahead
from dreamer.training.recorder import Recorder
from dreamer.types import ActionSpace

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


def start(run, logdir, stops):
    with lock.exclusive(logdir):
        return loop.train(settings.agree(run, logdir), logdir, stops)


def train(run, logdir, looks=10**9, kill=False):
    return start(run, logdir, Countdown(looks, kill))


def train_in_pieces(run, logdir, generator, pieces):
    """Until it is finished, stopped `pieces` times on the way, every second time as by kill -9."""
    for piece in range(pieces):
        looks = int(generator.integers(1, 60))
        try:
            if train(run, logdir, looks, kill=piece % 2) == 0:
                return piece
        except (Killed, Stopped):  # Stopped: in the first update of the process, before which all is committed
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
    random = logdir / "random.json"  # not where episodes are less than whole games
    weights = {}
    if list(newest.folder.glob(f"{commits.WEIGHTS}*")):  # random actions have none
        reader = tf.train.load_checkpoint(str(newest.folder / commits.WEIGHTS))
        names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
        weights = {name: reader.get_tensor(name).tobytes() for name in names}
    # Older ones are no longer drawn, and stay for the states committed before, of which a stop makes one more.
    drawn = [path for path in (logdir / "episodes").glob("*.npz") if int(path.name[:10]) >= newest.state["oldest"]]
    return {
        "metrics": lines(logdir / "metrics.jsonl"),
        "open loop": lines(logdir / "open_loop.jsonl"),
        "scores": (logdir / "scores.json").read_text(),
        "random": json.loads(random.read_text()) if random.exists() else None,
        "episodes": {path.name: path.read_bytes() for path in drawn},
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


QUICK = {**KEYS, "steps": "120", "loop.eval_episodes": "1"}
KINDS = {
    "discrete": {"task": "dot_discrete", "model.discount_head": "true"},
    "planet": {"method": "planet"},
    "random": {"method": "random"},
    "half": {"precision": "bfloat16"},
    "overlap": {"loop.overlap": "true"},
    "several": {"envs.count": "3"},
    "shared": {"loop.eval_env": "shared"},
    "several, discrete, overlap": {"envs.count": "2", "task": "dot_discrete", "loop.overlap": "true"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_so_does_a_run_of_another_kind(kind, tmp_path, precision):
    precision("mixed_bfloat16" if kind == "half" else "float32")
    run = config.load(["toy", "debug"], QUICK | KINDS[kind])
    assert train(run, tmp_path / "whole") == 0
    assert train_in_pieces(run, tmp_path / "run", np.random.default_rng(3), pieces=3) == 3
    assert_equal(left_behind(tmp_path / "run"), left_behind(tmp_path / "whole"))


RANDOM = config.load(["toy", "debug"], QUICK | {"method": "random"})  # seconds, where the agent makes no difference


@pytest.fixture(scope="module")
def random_whole(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "random"
    assert train(RANDOM, logdir) == 0
    return left_behind(logdir)


def test_random_actions_stopped_in_an_evaluation(random_whole, tmp_path, monkeypatch):
    """It is made as a whole then, with the draws that it would have had."""
    stops, step, evaluating = Stops(), toy.Dot.step, []

    def stopping(self, action):
        if evaluating and self is evaluating[0]:
            stops.signal = signal.SIGTERM
        return step(self, action)

    use = loop.Evaluator.__init__

    def note(self, envs, *arguments, **options):
        evaluating.append(envs[0]._env)
        use(self, envs, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(toy.Dot, "step", stopping)
        patched.setattr(loop.Evaluator, "__init__", note)
        assert start(RANDOM, tmp_path / "run", stops) == 143
    assert train(RANDOM, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), random_whole)


@pytest.mark.parametrize("updates", ["none of a round", "all of a round"])
def test_a_stop_between_the_updates_of_a_round_and_what_surrounds_them(updates, uninterrupted, tmp_path, monkeypatch):
    """The line of metrics is that of all updates, whichever process made them."""
    run, stops, rounds, update = config.load(["toy", "debug"], KEYS), Stops(), [], loop.Run._update

    def stopping(self):
        rounds.append(self.frames)
        if len(rounds) == 2 and updates == "none of a round":
            stops.signal = signal.SIGTERM
        metrics = update(self)
        if len(rounds) == 2:
            stops.signal = signal.SIGTERM
        return metrics

    with monkeypatch.context() as patched:
        patched.setattr(loop.Run, "_update", stopping)
        assert start(run, tmp_path / "run", stops) == 143
    assert train(run, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), uninterrupted)


def test_updates_that_were_skipped_before_a_stop_in_their_round_count_once(tmp_path, monkeypatch):
    """All gradients of the model are NaN in the one round of four updates, and five in a row would end the run."""
    values = {"steps": "80", "model.free_nats": "0", "model.kl_scale": "3e38", "loop.max_skipped": "5"}
    run, stops, update = config.load(["toy", "debug"], KEYS | values), Stops(), loop.Progress.update

    def stopping(self, frames, updates):
        update(self, frames, updates)
        if updates == 2:
            stops.signal = signal.SIGTERM

    with monkeypatch.context() as patched:
        patched.setattr(loop.Progress, "update", stopping)
        assert start(run, tmp_path, stops) == 143
    states = commits.Commits(tmp_path / "checkpoints")
    state = states.newest(pytest.fail)
    np.testing.assert_array_equal(state.arrays["round/model_skipped"], [1, 1])
    assert state.state["skipped"] == {}
    assert train(run, tmp_path) == 0
    assert states.newest(pytest.fail).state["skipped"] == {"model": 4, "actor": 0, "value": 0}


def test_a_run_killed_between_its_last_evaluation_and_the_commit_is_not_finished(random_whole, tmp_path, monkeypatch):
    commit = Recorder.commit

    def killed(self, **options):
        if self.state.stage == "finished":
            raise Killed
        commit(self, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "commit", killed)
        with pytest.raises(Killed):
            train(RANDOM, tmp_path / "run")
    assert (tmp_path / "run" / "scores.json").read_text() == random_whole["scores"]
    assert commits.Commits(tmp_path / "run" / "checkpoints").newest(print).state["stage"] != "finished"
    assert train(RANDOM, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), random_whole)


@pytest.mark.parametrize("place", ["rename", "sync"])
def test_a_run_killed_while_it_commits(place, uninterrupted, tmp_path, monkeypatch):
    """Before the new state has its name, and after; what TensorFlow writes at first is a folder in the folder."""
    run, written = config.load(["toy", "debug"], KEYS), []
    original = {"rename": commits.os.rename, "sync": commits.sync}[place]

    def killed(*paths):
        name = Path(paths[-1]).name
        if name.isdecimal() or (place == "sync" and name == "checkpoints"):
            written.append(name)
            if len(written) == 4:
                next((tmp_path / "run" / "checkpoints").glob(".*.partial"), tmp_path).joinpath("weights_temp").mkdir()
                raise Killed
        original(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(*((commits.os, "rename") if place == "rename" else (commits, "sync")), killed)
        patched.setattr(commits, "discard", lambda folder: None)
        with pytest.raises(Killed):
            train(run, tmp_path / "run")
    assert train(run, tmp_path / "run") == 0
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    assert_equal(left_behind(tmp_path / "run"), uninterrupted)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that has deleted episodes beyond its capacity, stopped in the middle of one."""
    logdir, stops, step = tmp_path_factory.mktemp("runs") / "stopped", Stops(), loop.Run._step

    def stopping(self, *arguments):
        episodes = step(self, *arguments)
        if self.frames == 196:
            stops.signal = signal.SIGTERM
        return episodes

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop.Run, "_step", stopping)
        assert start(config.load(["toy", "debug"], KEYS), logdir, stops) == 143
    return logdir


def copied(logdir, tmp_path):
    return Path(shutil.copytree(logdir, tmp_path / "run"))


def hashes(logdir):
    """Every file and folder, but for the lock and its time."""
    return {
        str(path.relative_to(logdir)): path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest()
        for path in logdir.rglob("*")
        if path.name != ".lock"
    }


def test_a_damaged_state_gives_way_to_the_one_before_whose_episodes_are_still_there(
    stopped, uninterrupted, tmp_path, capsys
):
    logdir = copied(stopped, tmp_path)
    episodes = sorted(path.name for path in (logdir / "episodes").glob("*.npz"))
    assert episodes[0] != "0000000000-16.npz"
    newest = max((logdir / "checkpoints").glob("0*"))
    (newest / "arrays.npz").write_bytes(b"")
    assert train(config.load(["toy", "debug"], KEYS), logdir) == 0
    assert "the state committed before it is used" in capsys.readouterr().err
    assert_equal(left_behind(logdir), uninterrupted)


@pytest.mark.parametrize("missing", ["episodes", "the oldest episode", "checkpoints", "config.yaml"])
def test_a_copy_of_a_run_that_lacks_a_part_is_refused_and_left_as_it_is(missing, stopped, tmp_path, capsys):
    logdir = copied(stopped, tmp_path)
    # Drawn no more, the very first ones may be missing or not.
    drawn = json.loads((max((logdir / "checkpoints").glob("0*")) / "state.json").read_text())["oldest"]
    path = next((logdir / "episodes").glob(f"{drawn:010d}-*")) if missing == "the oldest episode" else logdir / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = hashes(logdir)
    # A key that may change, so that a start which only fails later shows.
    assert train(config.load(["toy", "debug"], KEYS | {"steps": "300"}), logdir) == 1
    assert hashes(logdir) == before
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "put" in said[0]
    assert "episodes" in said[0] or missing in said[0]


@pytest.mark.parametrize("size", [1, 3])
def test_a_run_whose_task_has_other_actions_now_is_refused_and_left_as_it_is(
    size, stopped, tmp_path, monkeypatch, capsys
):
    logdir = copied(stopped, tmp_path)
    before, make = hashes(logdir), toy.Dot.__init__

    def changed(self, *arguments, **options):
        make(self, *arguments, **options)
        self.action_space = ActionSpace(size, False)

    monkeypatch.setattr(toy.Dot, "__init__", changed)
    assert train(config.load(["toy", "debug"], KEYS | {"steps": "300"}), logdir) == 1
    assert hashes(logdir) == before
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "does not fit the networks of this run's settings" in said[0]


OVERLAP = config.load(["toy", "debug"], KEYS | KINDS["overlap"])


@pytest.fixture(scope="module")
def overlapping(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "overlapping"
    assert train(OVERLAP, logdir) == 0
    return left_behind(logdir)


def delayed(monkeypatch, generator):
    """Steps of the environment and updates take random times, so that now the one is faster and now the other."""
    step, update = toy.Dot.step, loop.Progress.update

    def slow(original, most):
        def call(*arguments):
            time.sleep(generator.uniform(0, most))
            return original(*arguments)

        return call

    monkeypatch.setattr(toy.Dot, "step", slow(step, 0.02))
    monkeypatch.setattr(loop.Progress, "update", slow(update, 0.04))


@pytest.mark.parametrize("pieces", [0, 5])
def test_time_decides_nothing_where_collecting_and_training_overlap(pieces, overlapping, tmp_path, monkeypatch):
    generator = np.random.default_rng(6 + pieces)
    delayed(monkeypatch, generator)
    train_in_pieces(OVERLAP, tmp_path / "run", generator, pieces)
    assert_equal(left_behind(tmp_path / "run"), overlapping)


def test_the_policy_of_a_round_outlives_a_stop_before_its_thread_begins_again(overlapping, tmp_path, monkeypatch):
    stops, rounds, take_over, begin = Stops(), [], loop.Run._take_over, Ahead.start

    def stopping(self, updates):
        rounds.append(self.frames)
        if len(rounds) == 2:
            stops.signal = signal.SIGTERM
        take_over(self, updates)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Run, "_take_over", stopping)
        patched.setattr(Ahead, "start", lambda ahead: len(rounds) or begin(ahead))
        assert start(OVERLAP, tmp_path / "run", stops) == 143
    assert train(OVERLAP, tmp_path / "run", looks=0) == 143
    assert train(OVERLAP, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), overlapping)


def test_what_overlaps_is_another_run(overlapping, uninterrupted):
    """The policy that collects is one round older; frames, updates and evaluations are counted as ever."""
    random = [name for name in overlapping["episodes"] if int(name[:10]) < 90]
    assert {name: overlapping["episodes"][name] for name in random} == {
        name: uninterrupted["episodes"][name] for name in random
    }
    assert overlapping["episodes"].keys() == uninterrupted["episodes"].keys()
    assert overlapping["episodes"] != uninterrupted["episodes"]
    for name in ("step", "train/updates"):
        assert [line.get(name) for line in overlapping["metrics"]] == [
            line.get(name) for line in uninterrupted["metrics"]
        ]


@pytest.mark.parametrize("moment", ["_mend", "_take_over"])
def test_an_environment_that_fails_ahead_ends_the_run_which_then_goes_on_as_if_it_had_not(
    moment, overlapping, tmp_path, monkeypatch, capsys
):
    """After the first update of a round, or when the updates are made; in its seventh step of twelve."""
    original, moved = getattr(loop.Run, moment), threading.Event()

    def failing_first(self, *arguments):
        moved.set()
        assert self._ahead.finished.wait(HANGS)
        original(self, *arguments)

    with monkeypatch.context() as patched:
        failing = Failing(patched, at=45 + 7, training=True)
        step = failing.step

        def waiting(dot, action):
            if failing.left == 1 and dot.of_training:
                assert moved.wait(HANGS)
            return step(dot, action)

        failing.step = waiting
        patched.setattr(loop.Run, moment, failing_first)
        assert train(OVERLAP, tmp_path / "run") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "dreamer: the robot fell over"
    state = commits.Commits(tmp_path / "run" / "checkpoints").newest(pytest.fail)
    assert state.state["stage"] == {"_mend": "train", "_take_over": "collect"}[moment]
    assert len(state.arrays.get("round/model_loss", [])) == (moment == "_mend")
    assert train(OVERLAP, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), overlapping)


def test_an_environment_that_fails_ahead_is_built_anew_as_often_as_the_user_says(tmp_path, monkeypatch, capsys):
    """Also where a stop comes soon after."""
    run = OVERLAP.replace(**{"env.retries": 1, "steps": 120})
    for name, looks in (("whole", 10**9), ("run", 60)):
        with monkeypatch.context() as patched:
            Failing(patched, at=45 + 7, training=True)
            assert train(run, tmp_path / name, looks) in (0, 143)
        assert "built anew, its episode of 6 steps dropped, retry 1 of 1." in capsys.readouterr().err
    assert train(run, tmp_path / "run") == 0
    for name in ("whole", "run"):
        assert sum(2 * (int(path.name[11:-4]) - 1) for path in (tmp_path / name / "episodes").glob("*.npz")) == 120
    state = commits.Commits(tmp_path / "whole" / "checkpoints").newest(pytest.fail).state
    assert (state["retried"], state["dropped"]) == (1, 1)


class Failing:
    """Fails once, in the n-th step of the toys that are used for evaluation, or for training."""

    def __init__(self, monkeypatch, at, training):
        self.left, self.training, self.monkeypatch = at, training, monkeypatch
        self.step, self.make = toy.Dot.step, loop.Run._make_env
        monkeypatch.setattr(toy.Dot, "step", lambda dot, action: self.failing(dot, action))
        monkeypatch.setattr(loop.Run, "_make_env", lambda run, training: self.noting(run, training))

    def noting(self, run, training):
        env = self.make(run, training)
        env._env.of_training = training
        return env

    def failing(self, dot, action):
        self.left -= getattr(dot, "of_training", None) == self.training
        if not self.left:
            self.left = -1
            raise EnvError("the robot fell over")
        return self.step(dot, action)


@pytest.mark.parametrize("training", [True, False])
def test_a_run_whose_environment_failed_goes_on_as_if_it_had_not(training, random_whole, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        Failing(patched, at=40 if training else 7, training=training)
        assert train(RANDOM, tmp_path / "run") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "dreamer: the robot fell over"
    assert train(RANDOM, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), random_whole)


@pytest.mark.parametrize("training", [True, False])
def test_one_of_several_environments_that_failed_goes_on_as_if_it_had_not(training, tmp_path, monkeypatch, capsys):
    """In the fourth step of its second random episode, or as the second episode of an evaluation is played."""
    run = RANDOM.replace(**{"envs.count": 2, "env.worker": False, "loop.eval_episodes": 3})
    assert train(run, tmp_path / "whole") == 0
    with monkeypatch.context() as patched:
        Failing(patched, at=40 if training else 8, training=training)
        assert train(run, tmp_path / "run") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "dreamer: the robot fell over"
    assert train(run, tmp_path / "run") == 0
    assert_equal(left_behind(tmp_path / "run"), left_behind(tmp_path / "whole"))
    with monkeypatch.context() as patched:
        Failing(patched, at=40 if training else 8, training=training)
        assert train(run.replace(**{"env.retries": 1}), tmp_path / "retried") == 0
    assert "retry 1 of 1." in capsys.readouterr().err
    state = commits.Commits(tmp_path / "retried" / "checkpoints").newest(pytest.fail).state
    assert (state["retried"], state["dropped"]) == (1, int(training))
    assert 120 <= state["frames"] < 124  # a step of both is two of 2 frames


def test_a_failed_environment_is_built_anew_as_often_as_the_user_says(random_whole, tmp_path, monkeypatch, capsys):
    run = RANDOM.replace(**{"env.retries": 1})
    with monkeypatch.context() as patched:
        Failing(patched, at=7, training=False)
        assert train(run, tmp_path / "evaluation") == 0
    said = capsys.readouterr().err
    assert "(the robot fell over): built anew, the evaluation begins again, retry 1 of 1." in said
    whole = left_behind(tmp_path / "evaluation")
    assert whole["state"].pop("retried") == 1
    assert all(whole[name] == random_whole[name] for name in whole if name != "state")
    with monkeypatch.context() as patched:
        failing = Failing(patched, at=40, training=True)
        assert train(run, tmp_path / "training", looks=43) == 143
        failing.left = 5
        assert train(run, tmp_path / "training") == 1  # the stop in between does not make two of one
        assert train(run, tmp_path / "training") == 0
    said = capsys.readouterr().err
    assert "built anew, its episode of 9 steps dropped, retry 1 of 1." in said
    names = sorted(path.name for path in (tmp_path / "training" / "episodes").glob("*.npz"))
    assert sum(2 * (int(name[11:-4]) - 1) for name in names) == 120


@pytest.mark.parametrize("count", [1, 2])
def test_games_that_go_on_after_the_loss_of_a_life_are_lived_through_from_their_beginning(count, tmp_path, capsys):
    """Also where the random episodes end in the middle of one, and where they go on in processes of their own."""
    keys = {"task": "breakout", "method": "random", "steps": "1200", "loop.prefill": "120", "env.time_limit": "1200"}
    keys |= {"loop.eval_every": "1000", "loop.train_every": "300", "envs.count": str(count)}
    run = config.load(["atari", "debug"], keys)
    assert train(run, tmp_path / "whole") == 0
    for looks in (45, 300 // count, 30):
        assert train(run, tmp_path / "run", looks) == 143
    assert train(run, tmp_path / "run") == 0
    assert "did not repeat itself" not in capsys.readouterr().err
    assert_equal(left_behind(tmp_path / "run"), left_behind(tmp_path / "whole"))


def test_an_environment_that_does_not_repeat_itself_costs_the_rest_of_an_episode_and_is_told_once(
    tmp_path, monkeypatch, capsys
):
    noise, render = np.random.default_rng(0), toy.Dot._render
    monkeypatch.setattr(toy.Dot, "_render", lambda dot: render(dot) ^ noise.integers(2, dtype=np.uint8))
    told = "dot did not repeat itself, so that the episode in progress ends here"
    for looks, times in ((20, 0), (10, 1)):
        assert train(RANDOM, tmp_path / "run", looks) == 143
        assert capsys.readouterr().err.count(told) == times
    assert train(RANDOM, tmp_path / "run") == 0
    assert capsys.readouterr().err.count(told) == 1
    lengths = [int(path.name[11:-4]) - 1 for path in sorted((tmp_path / "run" / "episodes").glob("*.npz"))]
    assert (lengths[:3], sum(lengths)) == ([15, 4, 9], 60)


def test_fewer_steps_than_a_run_was_collecting_for_end_it_there(tmp_path):
    run = config.load(["toy", "debug"], {"method": "random", "loop.train_every": "100", "steps": "300"})
    assert train(run, tmp_path / "run", looks=130) == 143
    assert train(run.replace(steps=140), tmp_path / "run") == 0
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["xs"] == [100, 140]


# From here on: processes of their own, with real signals. Their moments are counted in files and lines, and wherever
# they come, the end must be the same; a time limit only tells a process that hangs.

HANGS = 1200
TOY = ("--configs", "toy", "debug")
BREAKOUT = ("--configs", "atari", "debug", "--task", "breakout", "--env.time_limit", "1200", "--loop.prefill", "1000")
BREAKOUT += ("--loop.train_every", "200", "--loop.eval_every", "1000", "--loop.save_every", "400")
CARTPOLE = ("--configs", "dmc", "debug", "--task", "cartpole_balance", "--env.time_limit", "100")


def command(logdir, *words):
    words = ("--precision", "float32", *words, "--logdir", logdir)
    return [sys.executable, "-m", "dreamer", *map(str, words)]


def launch(logdir, *words):
    return subprocess.Popen(
        command(logdir, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def dreamer(logdir, *words, **options):
    return subprocess.run(command(logdir, *words), capture_output=True, text=True, timeout=HANGS, **options)


def marks(logdir):
    """Episodes and lines of metrics: what a run counts its progress in."""
    path = logdir / "metrics.jsonl"
    return len(list((logdir / "episodes").glob("*.npz"))) + (path.read_bytes().count(b"\n") if path.exists() else 0)


def wait_until(condition, process):
    """Whether the condition came to hold before the process ended."""
    end = time.monotonic() + HANGS
    while process.poll() is None and not condition():
        assert time.monotonic() < end, "the process hangs"
        time.sleep(0.01)
    return process.poll() is None


def workers(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_gone(pid):
    """Whether a process has ended; its parent need not have asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def stop(process, way, generator):
    """Stop a run in one of the ways that there are, and check how it ends."""
    children = workers(process)
    if way == "worker":
        os.kill(children[generator.integers(len(children))], signal.SIGKILL)
        expected = 1
    elif way == "group":
        os.killpg(process.pid, signal.SIGTERM)
        expected = 128 + signal.SIGTERM
    else:
        process.send_signal(way)
        expected = -way if way == signal.SIGKILL else 128 + way
    output = process.communicate(timeout=HANGS)[0]
    assert process.returncode in (0, expected), output  # 0: it had ended before
    assert "Traceback" not in output
    assert "did not repeat itself" not in output
    if process.returncode > 100:
        assert "Stopped and saved at" in output or "dreamer: stopped by" in output
    end = time.monotonic() + HANGS
    while not all(map(is_gone, children)):
        assert time.monotonic() < end, "an environment outlives its run"
        time.sleep(0.1)
    return process.returncode


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("words", "ways", "pieces"),
    [
        ((*TOY, "--steps", "800"), [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], 6),
        ((*CARTPOLE, "--steps", "800"), ["worker", "group"], 4),
        ((*BREAKOUT, "--steps", "4000"), [signal.SIGTERM], 5),
        ((*TOY, "--steps", "800", "--envs.count", "3", "--loop.overlap", "true"), ["worker", "group"], 4),
    ],
    ids=["toy", "cartpole", "breakout", "several that overlap"],
)
def test_real_signals_at_random_moments(words, ways, pieces, tmp_path):
    whole = dreamer(tmp_path / "whole", *words)
    assert whole.returncode == 0, whole.stderr
    generator, codes = np.random.default_rng(4), []
    for piece in range(pieces):
        process = launch(tmp_path / "run", *words)
        target = marks(tmp_path / "run") + int(generator.integers(1, 4))
        way = signal.SIGKILL if piece % 2 else ways[piece // 2 % len(ways)]
        if not wait_until(lambda least=target: marks(tmp_path / "run") >= least, process):
            assert process.returncode == 0, process.communicate()[0]
            break
        codes.append(stop(process, way, generator))
    last = dreamer(tmp_path / "run", *words)
    assert last.returncode == 0, last.stderr
    assert "did not repeat itself" not in last.stderr
    print(codes)
    assert len(codes) > 2
    assert_equal(left_behind(tmp_path / "run"), left_behind(tmp_path / "whole"))


FRAGILE = ("--configs", "gym", "debug", "--task", "fragile:Fragile-v0", "--method", "random", "--env.timeout", "40")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("raises", "failed in step: RuntimeError: the robot fell over ("),
        ("exits", "ended with exit code 3 during step"),
        ("hangs", "did not reply to step within 40 seconds"),
        ("no number", "step() returned the reward nan: expected a finite number"),
        ("no reward", "step() returned the reward 'seven': expected a number"),
    ],
)
def test_an_environment_that_fails_in_its_process(kind, said, tmp_path):
    variables = os.environ | {"FRAGILE_FILE": str(tmp_path / "failed"), "FRAGILE_KIND": kind, "FRAGILE_STEP": "7"}
    options = {"cwd": Path(__file__).parent, "env": variables | {"PYTHONPATH": str(Path(loop.__file__).parents[2])}}
    failed = dreamer(tmp_path / "run", *FRAGILE, **options)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert said in failed.stderr.splitlines()[-1]
    assert "Traceback" not in failed.stderr
    again = dreamer(tmp_path / "run", *FRAGILE, **options)
    assert again.returncode == 0, again.stderr
    # `failed` is there from now on: this one is not interrupted.
    whole = dreamer(tmp_path / "whole", *FRAGILE, **options)
    assert whole.returncode == 0, whole.stderr
    assert_equal(left_behind(tmp_path / "run"), left_behind(tmp_path / "whole"))
    (tmp_path / "failed").unlink()
    retried = dreamer(tmp_path / "retried", *FRAGILE, "--env.retries", "1", **options)
    assert retried.returncode == 0, retried.stderr
    assert "built anew, its episode of 6 steps dropped, retry 1 of 1." in retried.stderr
    points = [json.loads((tmp_path / name / "scores.json").read_text())["xs"] for name in ("retried", "whole")]
    assert points[0] == points[1] == [108, 208, 300]


@pytest.fixture
def small_disk(tmp_path, unavailable):
    """Mounts a file system of its own; called with options, it mounts it anew with them."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True, check=False
        )

    try:
        done = mount("size=64k")
    except FileNotFoundError:
        unavailable("there is no program `mount`")
    if done.returncode:
        unavailable(f"mounting is not permitted: {done.stderr.strip()}")
    yield folder, lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_full_disk_stops_a_run_that_goes_on_once_there_is_space(small_disk, tmp_path):
    folder, remount = small_disk
    whole = dreamer(tmp_path / "whole", *TOY)
    assert whole.returncode == 0, whole.stderr
    space = sum(path.stat().st_size for path in (tmp_path / "whole").rglob("*") if path.is_file())
    failures = 0
    sizes = (64 * 3**n // 2**n for n in range(40))  # finer where little is written at once, and not many
    for kilobytes in itertools.takewhile(lambda size: size < 3 * space // 1000, sizes):
        remount(f"size={kilobytes}k")
        done = dreamer(folder / "run", *TOY)
        if done.returncode == 0:
            break
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith("dreamer: "), done.stderr
        print(kilobytes, done.returncode, done.stderr.splitlines()[-1])
        failures += 1
        for path in (folder / "run").glob("episodes/*.npz"):
            np.load(path)
        commits.Commits(folder / "run" / "checkpoints").newest(pytest.fail)
    assert failures > 5
    assert_equal(left_behind(folder / "run"), left_behind(tmp_path / "whole"))


def test_a_folder_that_takes_no_files_is_refused_at_the_start(small_disk, stopped):
    """Root may write where permissions forbid it, but not to a file system that is read-only."""
    folder, remount = small_disk
    remount("size=64m")
    shutil.copytree(stopped, folder / "run")
    remount("ro")
    before = hashes(folder)
    for logdir in (folder / "run", folder / "new", folder / "new" / "run"):
        done = dreamer(logdir, "--configs", "toy", "debug", *(f"--{key}={value}" for key, value in KEYS.items()))
        assert done.returncode == 2, done.stderr
        assert done.stderr == f"dreamer: cannot write to the log directory {logdir}: Read-only file system\n"
    words = [sys.executable, "-m", "dreamer", "eval", "--logdir", folder / "run", "--episodes", "1"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        f"{folder / 'run' / 'evaluation.json'} is not written: {folder / 'run'} takes no files"
    )
    assert hashes(folder) == before


def test_eval_as_the_first_process_of_a_container_is_stopped_by_sigterm(stopped, unavailable):
    words = [sys.executable, "-m", "dreamer", "eval", "--logdir", str(stopped), "--episodes", "1000000"]
    isolated = ["unshare", "--pid", "--fork", "--mount-proc"]
    try:
        probe = subprocess.run([*isolated, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        unavailable("there is no program `unshare`")
    if probe.returncode:
        unavailable(f"a process namespace is not permitted: {probe.stderr.strip()}")
    with subprocess.Popen([*isolated, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as outer:
        assert outer.stdout.readline().startswith("precision")
        (inner,) = workers(outer)
        os.kill(inner, signal.SIGTERM)
        assert outer.wait(HANGS) == 128 + signal.SIGTERM
        assert outer.stderr.read().splitlines()[-1] == "dreamer: stopped by SIGTERM"


@pytest.mark.parametrize("moment", ["at once", "tensorflow"])
def test_a_stop_while_a_run_starts_is_noticed_and_leaves_nothing(moment, tmp_path):
    process = launch(tmp_path / "run", *TOY)
    maps = Path(f"/proc/{process.pid}/maps")
    assert wait_until(lambda: moment in ("at once", *re.findall("tensorflow", maps.read_text())), process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=HANGS)[0]
    # Before the program has begun, the system ends it.
    assert process.returncode in ((143,) if moment == "tensorflow" else (143, -signal.SIGTERM))
    assert "Traceback" not in output
    assert not (tmp_path / "run" / "config.yaml").exists()

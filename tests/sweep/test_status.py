"""How far a run is, by files as a run writes them, and by what is left of them."""

import fcntl
import json
import os
from pathlib import Path

import numpy as np
import pytest

from dreamer.config import load
from dreamer.run import lock
from dreamer.run.commits import Commits
from dreamer.sweep import status
from dreamer.sweep.plan import Job


def write(logdir, state=None, rounds=(), starts=1):
    """A run: its committed state, (frames, seconds) of its rounds, how often it was started."""
    logdir.mkdir(parents=True)
    load(["toy"]).save(logdir / "config.yaml")
    if state:
        arrays = {"a": np.zeros(1)}
        Commits(logdir / "checkpoints").write({"score": None, **state}, arrays, lambda prefix: None)
    lines = [{"step": frames, "time/seconds": seconds} for frames, seconds in rounds]
    lines.insert(1, {"step": 0, "eval/return": 1.0})
    (logdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (logdir / "machines.jsonl").write_text('{"step": 0}\n' * starts)
    return logdir


RUN = {"stage": "collect", "frames": 500, "scores": [[250, 3.0], [500, 7.5]]}
ROUNDS = [(300, 1000.0), (400, 4.0), (600, 6.0)]


def test_where_a_run_is(tmp_path):
    logdir = write(tmp_path / "run", RUN, ROUNDS, starts=3)
    # 300 frames in the 10 seconds after the first round, which traced and pre-trained.
    assert status.read(logdir, "run", 1500) == ("run", "stopped", 600, 1500, 30.0, 7.5, 2, None)
    assert status.read(logdir, "run", 1500).left is None
    with lock.exclusive(logdir):
        running = status.read(logdir, "run", 1500)
        assert (running.state, running.left) == ("running", 30.0)
        assert running.node
    assert status.steps_of(logdir) == 1500


def test_what_a_sweep_has_not_begun_waits(tmp_path):
    def jobs(**steps):
        return [
            Job(n, name.replace("_", "/"), tmp_path, [], load(["toy"], {"steps": its}))
            for n, (name, its) in enumerate(steps.items())
        ]

    status.write_planned(tmp_path, jobs(a_0=1500, a_1=1500))
    status.write_planned(tmp_path, jobs(b_0=3000, a_0=1500))  # the last one's
    write(tmp_path / "a" / "0", RUN)
    assert status.waiting(tmp_path) == [(str(tmp_path / "b" / "0"), "waiting", 0, 3000, None, None, 0, None)]
    assert status.waiting(tmp_path / "b") == []
    note = tmp_path / "logs" / "planned.json"
    for damaged in ("", "[]", '{"runs": 3}', '{"runs": {"a": "x"}}', '{"runs": {"a": NaN}}', '{"runs": {"\\n": 1}}'):
        note.write_text(damaged)
        assert status.waiting(tmp_path) == []
    note.write_text(json.dumps({"runs": {"n" * 300: 10}}))  # no file can have that name
    assert [row.frames for row in status.waiting(tmp_path)] == [0]


def test_an_agent_alone_is_neither_finished_nor_stopped(tmp_path):
    logdir = write(tmp_path / "run", {**RUN, "stage": "finished"})
    assert status.read(logdir, "run", 500).state == "finished"
    (logdir / "run.json").write_text('{"format": 1, "dreamer": "0.2.0", "changes": [], "agent_only": true}')
    assert status.read(logdir, "run", 500).state == "exported"


def test_one_that_was_killed_here_is_lost_at_once_and_elsewhere_once_nothing_is_heard_of_it(tmp_path, monkeypatch):
    logdir = write(tmp_path / "run", RUN)
    with lock.exclusive(logdir):
        left = (logdir / ".lock").read_text()
    (logdir / ".lock").write_text(left)
    assert status.read(logdir, "run", 1500).state == "lost"
    (logdir / ".lock").write_text(" ".join(["elsewhere", *left.split()[1:]]))
    assert status.read(logdir, "run", 1500).state == "running"
    monkeypatch.setattr(lock, "BEAT", -1.0)
    assert status.read(logdir, "run", 1500).state == "lost"


def test_to_look_at_a_run_keeps_nobody_from_starting_it(tmp_path, monkeypatch):
    logdir = write(tmp_path / "run", RUN)
    (logdir / ".lock").touch()
    with open(logdir / ".lock") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(lock.time, "sleep", lambda seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        with lock.exclusive(logdir):
            assert status.read(logdir, "run", 1500).state == "running"


def test_a_finished_one_is_finished_for_so_many_frames(tmp_path):
    logdir = write(tmp_path / "run", {**RUN, "stage": "finished"})
    assert status.read(logdir, "run", 500).state == "finished"
    assert status.is_finished(logdir, 500)
    assert not status.is_finished(logdir, 501)
    assert not status.is_finished(write(tmp_path / "other", RUN), 500)
    assert not status.is_finished(tmp_path / "none", 500)


@pytest.mark.parametrize("damage", ["", "{", '{"step": 1}', "\0" * 100, '[1, 2]\n{"step": 5, "time/seconds": "no"}\n'])
def test_damaged_files_tell_nothing_and_hide_nothing(damage, tmp_path):
    logdir = write(tmp_path / "run", RUN, ROUNDS)
    for name in ("metrics.jsonl", "machines.jsonl", ".lock"):
        (logdir / name).write_text(damage)
    assert status.read(logdir, "run", None) == ("run", "stopped", 500, None, None, 7.5, 0, None)
    next(logdir.glob("checkpoints/*/state.json")).write_text(damage)
    assert status.read(logdir, "run", None).score is None
    assert status.read(tmp_path / "none", "none", 10) == ("none", "stopped", 0, 10, None, None, 0, None)


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(tmp_path):
    logdir = write(tmp_path / "run", RUN, ROUNDS)
    for path in [*logdir.glob("*.json*"), logdir / "run.json", *logdir.glob("checkpoints/*/state.json")]:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert status.read(logdir, "run", 10) == ("run", "stopped", 0, 10, None, None, 0, None)


def test_of_long_metrics_the_end_counts(tmp_path):
    rounds = [(10, 1.0)] * 5000 + [(20, 2.0), (40, 4.0)]
    logdir = write(tmp_path / "run", RUN, rounds)
    found = status.read(logdir, "run", 1500)
    assert found.frames == 500
    assert 0 < found.rate < 30 / 100


def test_runs_are_found_wherever_they_are_and_nothing_within_them(tmp_path):
    for name in ("b/1", "a", "b/0"):
        write(tmp_path / name)
    write(tmp_path / "a/episodes")
    assert list(status.find(tmp_path)) == [tmp_path / name for name in ("a", "b/0", "b/1")]
    assert list(status.find(tmp_path / "a")) == [tmp_path / "a"]
    assert list(status.find(Path("nowhere"))) == []

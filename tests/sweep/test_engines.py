"""Four runs of a sweep, of which two always fail, through all that can happen to them, on each engine."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dreamer.run import lock
from dreamer.run.commits import Commits
from dreamer.sweep import status

# After 120 steps of a process an environment takes its time, as long as there is the file `slow`.
PLACES = """
import os
import time
import gymnasium
import numpy as np
from gymnasium import spaces

class Place(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,))
    taken = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros((64, 64, 3), np.uint8), {}

    def step(self, action):
        self._steps += 1
        Place.taken += 1
        if Place.taken > 120 and os.path.exists("slow"):
            time.sleep(1)
        return np.full((64, 64, 3), self._steps, np.uint8), 1.0, False, self._steps == 12, {}

class Broken(Place):
    def step(self, action):
        raise RuntimeError("the place broke")
"""
WORDS = ["--configs", "gym", "debug", "--method", "random", "--env.worker", "false", "--steps", "300"]
WORDS += ["--tasks", "places:Place", "places:Broken", "--seeds", "0..1", "--retries", "1", "--workers", "4"]
GOOD = [Path("runs/gym_places_Place/random") / seed for seed in "01"]
BAD = [Path("runs/gym_places_Broken/random") / seed for seed in "01"]


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def engine(request, unavailable, tmp_path, monkeypatch):
    """An engine by name, in a folder of its own in which the environments are slow."""
    if request.param == "ray" and importlib.util.find_spec("ray") is None:
        unavailable("ray is not installed: pip install -r requirements-dev.txt")
    monkeypatch.chdir(tmp_path)
    Path("places.py").write_text(PLACES)
    Path("slow").touch()
    return request.param


@pytest.fixture
def start(engine):
    """start(): a process of the sweep; its own, and so those of its runs, end with the test."""
    started = []

    def sweep():
        command = [sys.executable, "-m", "dreamer", "sweep", "--engine", engine, *WORDS]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield sweep
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(true, process=None):
    while not true():
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def pids():
    """Of the processes that hold the two good runs; None where none does."""
    holders = [lock.holder(logdir) for logdir in GOOD]
    return [holder.pid if holder and os.path.exists(f"/proc/{holder.pid}") else None for holder in holders]


def frames(logdir):
    return (Commits(logdir / "checkpoints").glance() or {}).get("frames", 0)


def log(logdir):
    return (Path("runs/logs") / logdir.relative_to("runs")).with_suffix(".log").read_text()


def test_every_run_is_trained_once_and_only_once_whatever_happens(start):
    sweep = start()
    wait_for(lambda: all(frames(logdir) >= 100 for logdir in GOOD) and all(pids()), sweep)
    first = pids()
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: pids()[0] not in (None, first[0]), sweep)
    assert pids()[1] == first[1]

    # Before it has begun to collect it has nothing to save, and says so in other words.
    wait_for(lambda: "/300 frames" in log(GOOD[0]).rpartition("--- ")[2], sweep)
    assert len((GOOD[0] / "machines.jsonl").read_text().splitlines()) == 2
    sweep.send_signal(signal.SIGTERM)
    output = sweep.communicate()[0]
    assert sweep.returncode == 143, output
    assert "The same command goes on from there" in output
    assert pids() == [None, None]
    assert all("Stopped and saved at" in log(logdir) for logdir in GOOD)
    assert [lock.holder(logdir) for logdir in GOOD] == [None, None]

    sweep = start()
    wait_for(lambda: all(pids()), sweep)
    sweep.kill()
    sweep.communicate()
    wait_for(lambda: pids() == [None, None])

    Path("slow").unlink()
    before = [log(logdir).count("--- ") for logdir in BAD]
    sweep = start()
    output = sweep.communicate()[0]
    assert sweep.returncode == 1, output
    assert "4 runs: 2 finished, 2 failed" in output
    for logdir in GOOD:
        check_that_it_was_trained_once(logdir)
    for logdir in BAD:
        assert re.search(rf"{logdir.relative_to('runs')}: exit code 1: .*the place broke", output), output
        assert not status.is_finished(logdir, 300)
    assert [log(logdir).count("--- ") for logdir in BAD] == [count + 2 for count in before]  # --retries 1


def check_that_it_was_trained_once(logdir):
    assert status.is_finished(logdir, 300)
    assert log(logdir).count("Finished at 300 frames") == 1
    names = sorted(path.name for path in (logdir / "episodes").glob("*.npz"))
    begin = 0
    for name in names:  # each goes on where the one before it ends
        first, length = re.fullmatch(r"(\d+)-(\d+)\.npz", name).groups()
        assert int(first) == begin
        begin += int(length) - 1
    assert begin == 300
    lines = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
    rounds = [line["step"] for line in lines if "episode/return" in line]
    assert rounds == sorted(set(rounds))
    scores = json.loads((logdir / "scores.json").read_text())["xs"]
    assert scores == sorted(set(scores))
    assert len(scores) > 2

"""The loop as a user meets it: whole runs of tiny networks on the toy task, interrupted in every way we know."""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer import config, hardware
from dreamer.agents import RunError
from dreamer.envs import toy
from dreamer.run import lock, settings
from dreamer.stops import Stops
from dreamer.training import inspection, loop
from dreamer.training.loop import evaluation_due, updates_due

COMMAND = ("--configs", "toy", "debug", "--precision", "float32")


def dreamer(logdir, *words, **kwargs):
    command = [sys.executable, "-m", "dreamer", *COMMAND, "--logdir", str(logdir), *words]
    return subprocess.run(command, capture_output=True, text=True, **kwargs)


@pytest.fixture
def start():
    """Start a command in a process that does not outlive the test."""
    processes = []

    def start_one(*command):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen([sys.executable, *map(str, command)], **pipes))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(condition, process):
    """Until the condition holds; the process must not end before."""
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def train(logdir, **values):
    """As the command does, but in this process, which has TensorFlow already."""
    run = config.load(["toy", "debug"], {name.replace("__", "."): value for name, value in values.items()})
    with Stops() as stops, lock.exclusive(logdir):
        return loop.train(settings.agree(run, logdir), logdir, stops)


def metrics(logdir):
    return [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]


def episodes(logdir):
    return sorted(path.name for path in (logdir / "episodes").glob("*.npz"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    logdir = tmp_path_factory.mktemp("runs") / "finished"
    result = dreamer(logdir, "--profile")
    assert result.returncode == 0, result.stderr
    return logdir, result


def test_random_episodes_end_where_the_run_does(tmp_path):
    """Episodes of 25 frames, 60 in all; random.json knows the whole ones only, which have comparable returns."""
    assert train(tmp_path, steps=60, method="random") == 0
    assert episodes(tmp_path) == ["0000000000-26.npz", "0000000025-26.npz", "0000000050-11.npz"]
    assert json.loads((tmp_path / "random.json").read_text())["episodes"] == 2
    assert [line["step"] for line in metrics(tmp_path)] == [60]


@pytest.mark.parametrize(("observation", "probe"), [("contrastive", False), ("none", True)])
def test_a_world_model_without_pixels_trains_and_predicts_rewards(tmp_path, observation, probe):
    assert train(tmp_path, model__observation=observation, model__probe_decoder=probe, steps=150) == 0
    lines = metrics(tmp_path)
    assert ("train/state_loss" in lines[0]) == (observation == "contrastive")
    assert "train/image_loss" not in lines[0]
    assert "eval/open_loop_reward_error" in lines[1]
    # Its dreams can be looked at where a probe draws them.
    assert ("train/probe_loss" in lines[0]) == ("eval/open_loop_image_error" in lines[1]) == probe
    assert bool(list((tmp_path / "videos").glob("*.gif"))) == probe


def test_updates_follow_from_frames():
    schedule = {"since": 5000, "updates": 100, "train_every": 1000, "train_updates": 30}
    due = [updates_due(frames, **schedule) for frames in (5000, 5999, 6000, 8500)]
    assert due == [100, 100, 130, 190]


def test_random_returns_are_not_written_where_episodes_are_less_than_what_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(toy.Dot, "whole_games", False, raising=False)
    assert train(tmp_path, steps=60, method="random") == 0
    assert len(episodes(tmp_path)) == 3
    assert not (tmp_path / "random.json").exists()


def test_evaluations_fall_on_a_grid_that_begins_with_the_prefill():
    due = [evaluation_due(frames, None, first=5000, every=10000) for frames in (4000, 5000)]
    assert due == [False, True]
    due = [evaluation_due(frames, 5000, first=5000, every=10000) for frames in (5000, 14998, 15000)]
    assert due == [False, False, True]
    # One that came late (the round before ended at 17,000) does not shift the grid.
    due = [evaluation_due(frames, 17000, first=5000, every=10000) for frames in (17000, 24000, 25000)]
    assert due == [False, False, True]


def test_a_thread_that_acts_counts_where_the_main_one_does_not_wait_for_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    watch = loop.Stopwatch()

    def spend(seconds, *parts):
        with contextlib.ExitStack() as inside:
            for part in parts:
                inside.enter_context(watch.part(part))
            now[0] += seconds

    spend(5.0, "training", loop.AHEAD)
    spend(2.0, "acting", loop.AHEAD)
    spend(1.0, "training")
    spend(2.0)
    assert watch.take() == ({"training": 0.6, "acting": 0.2, "overlap": 0.5}, 10.0)
    spend(1.0, "training")
    assert watch.take() == ({"training": 1.0}, 1.0)


def test_a_run_leaves_everything_that_is_promised(finished):
    logdir, result = finished
    assert "Finished at 300 frames" in result.stdout
    assert len(episodes(logdir)) == 12  # 300 frames in episodes of 25
    with np.load(logdir / "episodes" / episodes(logdir)[0], allow_pickle=False) as episode:
        assert episode["position"].shape == (26, 2)
        assert episode["reward"].dtype == np.float32
    scores = json.loads((logdir / "scores.json").read_text())
    assert (scores["task"], scores["method"], scores["seed"]) == ("toy_dot", "dreamer", 0)
    assert scores["xs"] == [100, 200, 300]
    assert json.loads((logdir / "random.json").read_text())["episodes"] == 4
    assert len(list(logdir.glob("plugins/profile/*/*.xplane.pb"))) == 1
    assert "Trace of 9 updates in" in result.stderr  # ten were made, and the first one is left out
    lines = metrics(logdir)
    assert [line["train/updates"] for line in lines if "train/updates" in line] == [2, 4, 6, 8, 10]
    assert [line["step"] for line in lines if "train/updates" in line] == [100, 150, 200, 250, 300]
    assert [line["eval/return"] for line in lines if "eval/return" in line] == scores["ys"]
    assert {path.name for path in (logdir / "videos").iterdir()} == {
        f"0000000{frames}-{kind}" for frames in (100, 200, 300) for kind in ("episode.mp4", "open-loop.gif")
    }
    events = EventAccumulator(str(logdir), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("eval/return")] == [100, 200, 300]
    assert {"eval/open_loop", "eval/episode"} <= set(events.Tags()["tensors"])


def test_a_finished_run_says_so_and_goes_on_with_more_steps(finished, tmp_path):
    logdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (logdir / "episodes").glob("*.npz")}
    again = dreamer(logdir)
    assert again.returncode == 0
    assert "finished at 300 frames" in again.stdout
    extended = dreamer(logdir, "--steps", "400")
    assert extended.returncode == 0, extended.stderr
    # The bar begins with what the last session ended with, and ends with this one's last evaluation.
    returns = [line.rpartition("evaluation ")[2] for line in extended.stderr.splitlines() if "/400 frames" in line]
    ys = json.loads((logdir / "scores.json").read_text())["ys"]
    assert [returns[0], returns[-1]] == [f"{y:.1f}" for y in ys[-2:]]
    assert json.loads((logdir / "scores.json").read_text())["xs"] == [100, 200, 300, 400]
    assert metrics(logdir)[-2]["train/updates"] == 14
    # The last evaluation is of the last state, which may be the best one.
    newest = max((logdir / "checkpoints").glob("[0-9]*/state.json"))
    state = json.loads(newest.read_text())
    assert (state["stage"], state["score"]) == ("finished", state["scores"][-1][1])
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_contradicting_config_stops_before_anything_is_touched(finished):
    logdir, _ = finished
    before = (logdir / "config.yaml").read_text()
    result = dreamer(logdir, "--model.deter", "16", "--seed", "1")
    assert result.returncode == 2
    assert "model.deter: saved 8, given 16" in result.stderr
    assert "seed: saved 0, given 1" in result.stderr
    assert "Traceback" not in result.stderr
    assert (logdir / "config.yaml").read_text() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_saves_and_says_how_to_resume(tmp_path, start, number):
    process = start("-m", "dreamer", *COMMAND, "--logdir", tmp_path, "--steps", "100000")
    wait_for(lambda: (tmp_path / "scores.json").exists(), process)
    if number == signal.SIGTERM:
        check_that_a_second_process_is_refused(tmp_path)
    process.send_signal(number)
    output = process.communicate()[0]
    assert process.returncode == 128 + number
    assert "The same command goes on from there" in output
    assert "Traceback" not in output
    state = json.loads(max((tmp_path / "checkpoints").glob("*/state.json")).read_text())
    assert f"Stopped and saved at {state['frames']:,} frames" in output
    # Whole episodes are in the replay, and the one in progress is part of the state.
    whole = sum(int(name.split("-")[1].split(".")[0]) - 1 for name in episodes(tmp_path))
    assert whole == state["stored_frames"] <= state["frames"] < whole + 25


def check_that_a_second_process_is_refused(logdir):
    before = (logdir / "config.yaml").read_bytes()
    second = dreamer(logdir, "--steps", "200000")
    assert second.returncode == 75
    assert (logdir / "config.yaml").read_bytes() == before
    assert "in use by another process" in second.stderr
    assert "Traceback" not in second.stderr


# Not sent by a process that watches: on a busy machine it would look away while the run ends.
KILLED = """
import os, signal, sys
from dreamer.cli.main import main
from dreamer.replay.episodes import EpisodeStore

add = EpisodeStore.add

def add_twelve(store, episode):
    add(store, episode)
    if len(store) == 12:
        os.kill(os.getpid(), signal.SIGKILL)

EpisodeStore.add = add_twelve
main(sys.argv[1:])
"""


def test_kill_9_loses_nothing_and_the_same_command_goes_on(tmp_path, start):
    words = ("--steps", "450", "--loop.save_every", "100")
    process = start("-c", KILLED, *COMMAND, "--logdir", tmp_path, *words)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    assert len(episodes(tmp_path)) == 12
    before = {path.name: path.read_bytes() for path in (tmp_path / "episodes").glob("*.npz")}
    result = dreamer(tmp_path, *words)
    assert result.returncode == 0, result.stderr
    after = {path.name: path.read_bytes() for path in (tmp_path / "episodes").glob("*.npz")}
    assert before.items() <= after.items()
    assert sum(int(name.split("-")[1].split(".")[0]) - 1 for name in after) == 450
    # Every update that the frames ask for was made, those lost in the crash too: 2 + 7 rounds of 2.
    steps = [line["step"] for line in metrics(tmp_path)]
    assert metrics(tmp_path)[-2]["train/updates"] == 16
    assert steps == sorted(steps)
    assert json.loads((tmp_path / "scores.json").read_text())["xs"][-1] == 450


def test_a_full_disk_gives_one_line_and_leaves_whole_files(tmp_path):
    # A limit on file sizes fails writes for real, below the size of a checkpoint but above that of an episode.
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    result = dreamer(tmp_path, "--env.time_limit", "50", preexec_fn=limit)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1].startswith("dreamer: ")
    assert "Traceback" not in result.stderr
    for name in episodes(tmp_path):
        np.load(tmp_path / "episodes" / name)


def test_planet_trains_a_world_model_and_goes_on_from_its_checkpoint(tmp_path):
    for steps in (150, 200):
        assert train(tmp_path, method="planet", steps=steps) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["method"], scores["xs"]) == ("planet", [100, 150, 200])
    rounds = [line for line in metrics(tmp_path) if "train/updates" in line]
    assert [line["train/updates"] for line in rounds] == [2, 4, 6]
    assert all("train/model_loss" in line and "train/actor_loss" not in line for line in rounds)
    run = config.load_file(tmp_path / "config.yaml")
    inspection.imagine(run, tmp_path, out=tmp_path / "dream.gif", episodes=1, horizon=5, seed=0)
    assert (tmp_path / "dream.gif").stat().st_size > 0


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            {"task": "dot_discrete"},
            "planet plans continuous actions, and those of dot_discrete are discrete",
        ),
        ({"planner__best": 9}, "--planner.best: expected at most the 8 of planner.candidates, got 9"),
    ],
)
def test_planet_says_at_once_what_it_cannot_plan(tmp_path, values, line):
    with pytest.raises(RunError, match=re.escape(line)):
        train(tmp_path / "run", method="planet", **values)
    assert not (tmp_path / "run").exists()


def test_what_a_run_cannot_do_is_one_line_of_the_command(tmp_path):
    result = dreamer(tmp_path, "--method", "planet", "--planner.best", "9")
    line = "dreamer: --planner.best: expected at most the 8 of planner.candidates, got 9\n"
    assert (result.returncode, result.stderr) == (2, line)
    assert episodes(tmp_path) == []


def test_random_actions_are_a_method_too(tmp_path):
    assert train(tmp_path, method="random", steps=200) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["method"], scores["xs"]) == ("random", [100, 200])
    assert not list((tmp_path / "checkpoints").glob("*/weights*"))


# Emulated products of bfloat16 take ten times as long and more: fewer of them then, in all parts of a run.
EMULATED = hardware.resolve_precision("auto", hardware.cpu_flags(), hardware.gpu_capabilities())[0] == "float32"
SMALLER = ("--replay.batch", "1", "--replay.length", "4", "--model.conv_depth", "1", "--loop.prefill", "50")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_seed_decides_everything(tmp_path, precision):
    words = ("--precision", precision, "--seed", "3", "--steps", "150")
    if precision == "bfloat16" and EMULATED:
        words = (*words, *SMALLER)
    for name in ("a", "b"):
        result = dreamer(tmp_path / name, *words)
        assert result.returncode == 0, result.stderr
    first, second = (
        [
            {key: value for key, value in line.items() if not key.startswith("time/")}
            for line in metrics(tmp_path / name)
        ]
        for name in ("a", "b")
    )
    assert first == second
    assert (tmp_path / "a" / "scores.json").read_text() == (tmp_path / "b" / "scores.json").read_text()
    for name in episodes(tmp_path / "a"):
        assert (tmp_path / "a" / "episodes" / name).read_bytes() == (tmp_path / "b" / "episodes" / name).read_bytes()


def test_gradients_that_are_all_nan_stop_the_run_with_one_line(tmp_path):
    result = dreamer(tmp_path, "--model.free_nats", "0", "--model.kl_scale", "3e38", "--loop.max_skipped", "4")
    assert result.returncode == 1, result.stdout
    line = result.stderr.splitlines()[-1]
    assert line.startswith(
        "dreamer: the gradient of the model was NaN or infinite in 4 updates in a row up to number 4 "
    )
    assert "not finite: " in line
    assert "model_grad_norm" in line
    assert "--model.lr" in line
    assert "Traceback" not in result.stderr
    with np.load(tmp_path / "faults" / "00000004.npz") as batch:
        assert batch["image"].shape == (3, 8, 64, 64, 3)
    # The last committed state is from before the fault; the remedy that the line names is accepted.
    remedy = ("--model.kl_scale", "1", "--resume.allow", "model.kl_scale", "model.free_nats")
    result = dreamer(tmp_path, *remedy)
    assert result.returncode == 0, result.stderr
    assert "Finished at 300 frames" in result.stdout
    changes = json.loads((tmp_path / "run.json").read_text())["changes"]
    assert [(change["key"], change["to"]) for change in changes] == [("model.kl_scale", 1.0), ("model.free_nats", 3.0)]


def test_the_environment_of_a_run_may_die(tmp_path, start):
    """A worker killed in the middle gives one line that names it, exit code 1, and a run that can be resumed."""
    words = ("--configs", "dmc", "debug", "--task", "cartpole_balance", "--env.time_limit", "100")
    process = start("-m", "dreamer", *words, "--steps", "100000", "--logdir", tmp_path)
    wait_for(lambda: (tmp_path / "scores.json").exists(), process)
    worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    output = process.communicate()[0]
    assert process.returncode == 1
    assert "SIGKILL" in output.splitlines()[-1]
    assert "Traceback" not in output
    assert (tmp_path / "checkpoints").exists()

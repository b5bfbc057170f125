"""Evaluation and imagination of runs that were made by hand: the toy task and networks of random weights."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dreamer import config, envs
from dreamer.agents import RunError
from dreamer.agents.build import build_agent
from dreamer.agents.dreamer import Dreamer
from dreamer.envs.toy import GOAL, Dot
from dreamer.results import video
from dreamer.run.commits import Commits
from dreamer.run.lock import exclusive
from dreamer.training import inspection
from dreamer.training.evaluation import cut_windows
from dreamer.training.restore import write_weights
from dreamer.types import ActionSpace


def make_run(logdir, **changes):
    run = config.load(["toy", "debug"]).replace(**{"precision": "float32", **changes})
    logdir.mkdir(exist_ok=True)
    run.save(logdir / "config.yaml")
    space = ActionSpace(5, True) if run.task == "dot_discrete" else ActionSpace(2, False)
    agent = build_agent(run, space, seed=run.seed)
    if run.method != "random":
        agent.updates.assign(14)
        state = {"frames": 320, "score": None}
        Commits(logdir / "checkpoints").write(state, {}, lambda prefix: write_weights(agent, prefix))
    return run


@pytest.fixture
def simple(monkeypatch):
    """Agents that go to the goal and predict nothing, where a test needs no networks: those take seconds to trace.

    They are faster in one direction, so that episodes from different places mostly have different returns.
    """

    def act(agent, observation, carry, explore):
        return (np.float32([5, 3.3]) * (GOAL - observation["position"])).clip(-1, 1), carry

    def open_loop(agent, batch, context):
        return {"image": tf.zeros(batch.image.shape), "reward": tf.zeros(batch.reward.shape)}

    monkeypatch.setattr(Dreamer, "act", act)
    monkeypatch.setattr(Dreamer, "open_loop", open_loop)


def evaluate(run, logdir, capsys, **options):
    inspection.evaluate(run, logdir, **{"episodes": 3, "seed": 0, **options})
    return capsys.readouterr().out, json.loads((logdir / "evaluation.json").read_text())


def test_the_seed_decides_the_episodes_and_more_of_them_begin_with_the_same_ones(simple, tmp_path, capsys, monkeypatch):
    run, seeds = make_run(tmp_path), []
    original = inspection.restore_agent

    def note(*arguments, seed, **options):
        seeds.append(seed)
        return original(*arguments, seed=seed, **options)

    monkeypatch.setattr(inspection, "restore_agent", note)
    few, many, others = (
        evaluate(run, tmp_path, capsys, episodes=episodes, seed=seed)[1]["returns"]
        for episodes, seed in ((2, 0), (4, 0), (2, 1))
    )
    # The agent here draws nothing: what differs are the episodes.
    assert many[:2] == few
    assert others != few
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize(("method", "task"), [("dreamer", "dot"), ("dreamer", "dot_discrete"), ("random", "dot")])
def test_an_episode_is_the_same_however_many_are_played_at_once(method, task, tmp_path, capsys):
    """With draws that matter; the first is also that of the episodes played one after another."""
    run = make_run(tmp_path, method=method, task=task, **{"explore.epsilon_eval": 0.5, "env.time_limit": 8})
    results = [evaluate(run, tmp_path, capsys, episodes=4, at_once=count)[1] for count in (1, 2, 3, 9)]
    assert len(set(results[0]["returns"])) > 1
    for result in results[1:]:
        assert result["returns"] == results[0]["returns"]
        assert result["lengths"] == [8] * 4
    assert [result["envs.count"] for result in results] == [1, 2, 3, 9]
    out, one_by_one = evaluate(run, tmp_path, capsys, episodes=4)
    assert one_by_one["returns"][0] == results[0]["returns"][0]
    assert "envs.count" not in one_by_one
    told = evaluate(run, tmp_path, capsys, episodes=4, at_once=3)[0].splitlines()
    assert [line.split()[1] for line in told[1:5]] == ["1", "2", "3", "4"]


def test_one_of_several_environments_that_fails_ends_all(tmp_path, monkeypatch):
    run = make_run(tmp_path, method="random", **{"env.time_limit": 8})
    real, made = envs.make, []

    def make(*arguments, **options):
        made.append(real(*arguments, **options))
        if len(made) == 2:
            os.kill(made[-1]._env.pid, signal.SIGKILL)
        return made[-1]

    monkeypatch.setattr(inspection.envs, "make", make)
    with pytest.raises(envs.EnvError, match="SIGKILL"):
        inspection.evaluate(run, tmp_path, episodes=6, seed=0, at_once=3)
    assert all(env._env._process.poll() is not None for env in made[1:])
    assert not (tmp_path / "evaluation.json").exists()


def test_the_statistics_are_those_of_the_episodes(simple, tmp_path, capsys):
    run = make_run(tmp_path, seed=4, **{"env.time_limit": 25, "env.action_repeat": 2})
    out, result = evaluate(run, tmp_path, capsys, seed=1)
    returns = result["returns"]
    assert len(set(returns)) > 1
    assert result["lengths"] == [13, 13, 13]
    assert result["mean"] == pytest.approx(sum(returns) / 3)
    assert result["median"] == sorted(returns)[1]
    assert result["std"] == pytest.approx((sum((value - result["mean"]) ** 2 for value in returns) / 3) ** 0.5)
    expected = {"task": "toy_dot", "method": "dreamer", "seed": 4, "frames": 320, "updates": 14, "eval_seed": 1}
    assert (expected | {"best": False}).items() <= result.items()
    lines = out.splitlines()
    assert lines[0] == "dot, dreamer of seed 4 after 320 frames, 14 updates; episodes of evaluation seed 1"
    assert [float(line.split()[3]) for line in lines[1:4]] == pytest.approx(returns, abs=0.006)
    assert lines[4].startswith(f"mean {result['mean']:.2f}  median {result['median']:.2f}  standard deviation ")
    assert lines[5] == str(tmp_path / "evaluation.json")


def test_the_best_state_is_what_is_played_and_recorded(simple, tmp_path, capsys):
    run = make_run(tmp_path)
    agent = build_agent(run, ActionSpace(2, False), seed=0)
    agent.updates.assign(1)
    for frames, score in ((20, 9.0), (500, None)):
        state = {"frames": frames, "score": score}
        Commits(tmp_path / "checkpoints").write(state, {}, lambda prefix: write_weights(agent, prefix))
    out, result = evaluate(run, tmp_path, capsys, best=True)
    assert (result["best"], result["frames"], result["updates"]) == (True, 20, 1)
    assert " after 20 frames, 1 update, the best state kept; " in out.splitlines()[0]
    _, result = evaluate(run, tmp_path, capsys)
    assert (result["best"], result["frames"]) == (False, 500)


def test_actions_are_the_mode(tmp_path, monkeypatch):
    run, seen = make_run(tmp_path), []

    def note(agent, observation, carry, explore):
        seen.append(explore)
        return np.zeros(2, np.float32), carry

    monkeypatch.setattr(Dreamer, "act", note)
    inspection.evaluate(run, tmp_path, episodes=1, seed=0)
    assert seen == [False] * 25


@pytest.mark.parametrize("value", [False, True])
def test_planning_in_the_world_model_of_a_dreamer(value, tmp_path, capsys, monkeypatch):
    """Its networks act, its own evaluation stays, and the value network counts where it is asked for."""
    run, agents = make_run(tmp_path, seed=4), []
    original = inspection.restore_agent
    monkeypatch.setattr(
        inspection, "restore_agent", lambda *args, **kw: agents.append(original(*args, **kw)) or agents[-1]
    )
    own = evaluate(run, tmp_path, capsys, episodes=2)[1]
    plans = run.replace(**{"planner.horizon": 2, "planner.candidates": 9, "planner.value": value})
    out, kept = evaluate(plans, tmp_path, capsys, episodes=2, agent="planet")
    assert kept == own
    written = tmp_path / ("evaluation-planet-value.json" if value else "evaluation-planet.json")
    planned = json.loads(written.read_text())
    expected = {"method": "dreamer", "agent": "planet", "planner.horizon": 2, "planner.candidates": 9}
    assert (expected | {"planner.value": value, "eval_seed": 0, "updates": 14}).items() <= planned.items()
    assert planned["returns"] != own["returns"]
    assert "dreamer of seed 4 after 320 frames, 14 updates, actions planned by planet; episodes" in out
    assert out.splitlines()[-1] == str(written)
    dreamer, planet = (restored.agent for restored in agents)
    assert (planet.value is not None) == value
    pairs = [(dreamer.world_model, planet.world_model)] + [(dreamer.value, planet.value)] * value
    for one, other in pairs:
        for a, b in zip(one.weights, other.weights, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("changes", "plans", "complaint"),
    [
        ({"method": "random"}, {}, "is a run of random actions: there is no world model in it that could plan"),
        ({"task": "dot_discrete"}, {}, "planet plans continuous actions, and those of dot_discrete are discrete"),
        ({"method": "planet"}, {"planner.value": True}, "--planner.value: .* is a run of planet, which has no value"),
        ({}, {"planner.best": 9}, "--planner.best: expected at most the 8 of planner.candidates, got 9"),
    ],
)
def test_what_cannot_plan(changes, plans, complaint, tmp_path):
    run = make_run(tmp_path, **changes).replace(**plans)
    with pytest.raises(RunError, match=complaint):
        inspection.evaluate(run, tmp_path, episodes=1, seed=0, agent="planet")
    assert not list(tmp_path.glob("evaluation*"))


@pytest.mark.parametrize(
    ("method", "task"), [("random", "dot"), ("random", "dot_discrete"), ("dreamer", "dot_discrete")]
)
def test_every_method_and_discrete_actions(method, task, tmp_path, capsys):
    run = make_run(tmp_path, method=method, task=task)
    first, same = (evaluate(run, tmp_path, capsys) for _ in range(2))
    assert first == same
    assert first[1]["updates"] == (0 if method == "random" else 14)
    assert ("without training" in first[0]) == (method == "random")


def test_the_video_shows_the_first_episodes(simple, tmp_path, monkeypatch, capsys):
    run, shown = make_run(tmp_path), []
    monkeypatch.setattr(inspection, "SHOWN", 2)
    original = video.side_by_side

    def note(episodes, rewards):
        shown.extend(zip(episodes, rewards, strict=True))
        return original(episodes, rewards)

    monkeypatch.setattr(video, "side_by_side", note)
    _, result = evaluate(run, tmp_path, capsys, video_path=tmp_path / "out.mp4")
    assert [float(rewards.sum(dtype=np.float64)) for _, rewards in shown] == result["returns"][:2]
    assert all(images.shape == (26, 64, 64, 3) for images, _ in shown)
    assert (tmp_path / "out.mp4").stat().st_size > 1000


def test_two_processes_agree_and_a_run_in_progress_is_left_alone(tmp_path):
    """Through the command, in bfloat16, while the run is locked as by one that trains: same text, same file."""
    for name in ("a", "b"):
        make_run(tmp_path / name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    with exclusive(tmp_path / "a"):
        command = [sys.executable, "-m", "dreamer", "eval", "--episodes", "2", "--precision", "bfloat16", "--logdir"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
        processes = [subprocess.Popen([*command, name], **pipes) for name in ("a", "b")]
        outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0].replace("a/eval", "b/eval") == outputs[1][0]
    first, second = ((tmp_path / name / "evaluation.json").read_text() for name in ("a", "b"))
    assert first == second
    assert json.loads(first)["precision"] == "bfloat16"
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    assert before.items() <= after.items()
    assert {path.name for path in after.keys() - before.keys()} == {"evaluation.json", ".lock"}


def imagine(run, logdir, **options):
    options = {"out": logdir / "dream.gif", "episodes": 3, "horizon": 10, "seed": 0, **options}
    inspection.imagine(run, logdir, **options)


def test_windows_are_spread_over_the_episodes():
    def numbered(length, offset):
        steps = np.arange(length) + offset
        return {
            "image": np.broadcast_to(steps[:, None, None, None], (length, 64, 64, 3)).astype(np.uint8),
            "action": steps[:, None].astype(np.float32),
            "reward": steps.astype(np.float32),
            "discount": np.ones(length, np.float32),
        }

    episodes = [numbered(20, 0), numbered(21, 100), numbered(12, 200)]
    starts = inspection.evenly_spaced(episodes, 10)
    batch = cut_windows(episodes, starts, 10, tanh_rewards=False)
    assert starts == [0, 6, 2]  # the middle of 0..11 rounds to the even one
    np.testing.assert_array_equal(batch.reward[:, 0], [0, 106, 202])
    np.testing.assert_array_equal(batch.reward[:, -1], [9, 115, 211])
    np.testing.assert_array_equal(batch.image[:, :, 5, 5, 1], batch.reward)
    np.testing.assert_array_equal(batch.action[..., 0], batch.reward)
    np.testing.assert_array_equal(batch.is_first, (np.arange(10) == 0)[None].repeat(3, 0))


def test_imagine_shows_the_episodes_and_what_the_model_makes_of_them(tmp_path, monkeypatch, capsys):
    run, seen = make_run(tmp_path), {}
    original = video.dream

    def note(truth, model, reward, predicted, **options):
        seen.update(truth=truth, model=model, reward=reward, predicted=predicted, **options)
        return original(truth, model, reward, predicted, **options)

    imagine(run, tmp_path, out=tmp_path / "first.gif")
    capsys.readouterr()
    monkeypatch.setattr(video, "dream", note)
    imagine(run, tmp_path)
    assert (tmp_path / "dream.gif").read_bytes() == (tmp_path / "first.gif").read_bytes()
    assert seen["truth"].shape == seen["model"].shape == (3, 15, 64, 64, 3)
    assert seen["reward"].shape == seen["predicted"].shape == (3, 15)
    assert (list(seen["starts"]), seen["context"]) == ([0, 6, 11], 5)  # episodes of 26 steps
    # An episode begins without a reward; rewards of the toy task follow from where the dot is.
    assert seen["reward"][0, 0] == 0
    assert seen["truth"].max() == pytest.approx(250 / 255)
    with Image.open(tmp_path / "dream.gif") as image:
        assert image.n_frames >= 15
    out = capsys.readouterr().out.splitlines()
    image_error = np.square(seen["model"] - seen["truth"])[:, 5:].sum((2, 3, 4)).mean()
    reward_repeat = np.square(seen["reward"][:, 4:5] - seen["reward"][:, 5:]).mean()
    assert out[4].split()[:3] == ["image", "error", f"{image_error:.4g}"]
    assert out[5].split()[-1] == f"{reward_repeat:.4g}"
    assert out[6] == str(tmp_path / "dream.gif")
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "checkpoints", "dream.gif", "first.gif"}


def test_predictions_of_tanh_rewards_are_compared_with_tanh_rewards(simple, tmp_path, monkeypatch):
    run, seen = make_run(tmp_path, **{"replay.tanh_rewards": True}), []
    monkeypatch.setattr(Dot, "step", scaled(Dot.step))
    monkeypatch.setattr(video, "dream", lambda truth, model, reward, predicted, **_: seen.append(reward) or truth[0])
    monkeypatch.setattr(video, "save", lambda *_: None)
    imagine(run, tmp_path)
    assert set(np.unique(seen[0])) == {np.float32(0), np.tanh(np.float32(3))}


def scaled(step):
    return lambda env, action: {**step(env, action), "reward": np.float32(3)}


def test_an_episode_that_is_shorter_than_asked_for(simple, tmp_path, capsys):
    run = make_run(tmp_path, **{"env.time_limit": 5})
    imagine(run, tmp_path, horizon=45)
    assert "imagined steps: 1 instead of 45, the shortest episode has no more" in capsys.readouterr().out
    run = make_run(tmp_path / "short", **{"env.time_limit": 4})
    with pytest.raises(RunError, match=r"has 5 steps, .* takes at least 6, 5 that the model sees and 1"):
        imagine(run, tmp_path / "short")
    assert not (tmp_path / "short" / "dream.gif").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"method": "random"}, "is a run of random actions: there is no world model"),
        ({"model.observation": "contrastive"}, "has model.observation contrastive: its world model predicts no images"),
    ],
)
def test_runs_that_cannot_imagine_say_so_before_an_episode_is_played(changes, complaint, tmp_path, capsys):
    run = make_run(tmp_path, **changes)
    with pytest.raises(RunError, match=complaint):
        imagine(run, tmp_path)
    assert capsys.readouterr().out == ""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dreamer import demo
from dreamer.results import scores, video

TASK = "cartpole_balance"
RUN = demo.OUT / TASK
LINES = (
    "random actions        12.3   mean of 3 episodes",
    "first evaluation      20.0   after 3,000 frames, mean of 2 episodes",
    "last evaluation      345.6   after 24,000 frames, mean of 2 episodes",
    "published            979.6   Dreamer, after 5,000,000 frames",
    "best known           992.8   D4PG, after 100,000,000 frames",
    "24,000 frames and 1,700 updates in 10 min on a CPU, 2 cores, bfloat16.",
    "What the world model imagines is better than repeating the last image from imagined step 2 of 3 on.",
    "runs/demo/curve.png",
    "runs/demo/episode.mp4",
    "runs/demo/open-loop.gif",
    "runs/demo/cartpole_balance   everything else",
)


def finished_run(run, task="dmc_cartpole_balance"):
    """A run as training leaves it: everything that the demo looks at."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "random.json").write_text(json.dumps({"mean": 12.34, "std": 1.0, "episodes": 3}))
    scores = {"task": task, "method": "dreamer", "seed": 0, "xs": [3000, 24_000], "ys": [20.0, 345.6]}
    (run / "scores.json").write_text(json.dumps(scores))
    (run / "config.yaml").write_text("loop:\n  eval_episodes: 2\n")
    machine = {"step": 0, "cpu": "a CPU", "cores": 2, "gpus": [], "precision": "bfloat16"}
    (run / "machines.jsonl").write_text(json.dumps(machine) + "\n")
    metrics = {"step": 24_000, "train/updates": 1700, "time/training": 0.9, "time/seconds": 600.0}
    (run / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    errors = {
        "image": [3.0, 2.0, 2.0],
        "image_repeat": [1.0, 4.0, 8.0],
        "reward": [1.0] * 3,
        "reward_repeat": [1.0] * 3,
    }
    (run / "open_loop.jsonl").write_text(json.dumps({"step": 24_000, "context": 5, **errors}) + "\n")
    for frames in (3000, 24_000):
        for kind in ("episode.mp4", "open-loop.gif"):
            picture = np.full((2, 8, 8, 3), frames // 100, np.uint8)
            video.save(run / "videos" / f"{frames:010d}-{kind}", iter(picture), 10)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """An empty folder to be in, and in the place of training something that leaves a finished run."""
    words = []

    def train(command):
        words.append(command)
        finished_run(RUN)
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "command", train)
    return words


def test_the_demo_ends_with_the_returns_and_what_to_look_at(commands, capsys):
    assert demo.main([TASK, "--seed", "5"]) == 0
    words = ["train", "--configs", "dmc", "small", "cpu", "--task", TASK, "--steps", "24000"]
    assert commands == [[*words, "--logdir", str(RUN), "--seed", "5"]]
    text = capsys.readouterr().out
    places = [text.find(line) for line in LINES]
    assert -1 not in places, LINES[places.index(-1)]
    assert places == sorted(places)
    assert (demo.OUT / "curve.png").stat().st_size > 5000
    for kind in ("episode.mp4", "open-loop.gif"):
        newest = RUN / "videos" / f"0000024000-{kind}"
        assert (demo.OUT / kind).read_bytes() == newest.read_bytes()


def test_the_demo_says_first_what_it_will_do_unless_it_is_done(commands, capsys):
    demo.main([TASK])
    first, *_ = capsys.readouterr().out.splitlines()
    assert all(word in first for word in ("to balance a pole", "24,000 frames", "10 minutes on 2 cores"))
    demo.main([TASK])
    assert "learns" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "missing", ["random.json", "open_loop.jsonl", "machines.jsonl", "metrics.jsonl", "config.yaml"]
)
def test_a_file_that_is_missing_takes_its_line_away_and_nothing_else(commands, monkeypatch, capsys, missing):
    finished_run(RUN)
    (RUN / missing).unlink()
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 0
    text = capsys.readouterr().out
    assert "345.6" in text
    assert ("random actions" in text) == (missing != "random.json")
    assert ("world model imagines" in text) == (missing != "open_loop.jsonl")
    assert ("a CPU" in text) == (missing != "machines.jsonl")


def scores_of(seed):
    return {"task": "dmc_cartpole_balance", "method": "dreamer", "seed": seed, "xs": [1], "ys": [2.0]}


@pytest.mark.parametrize("content", ["{", "", "[]", json.dumps([scores_of(0), scores_of(1)])])
def test_scores_that_are_no_run_s_end_in_one_line(commands, monkeypatch, capsys, content):
    finished_run(RUN)
    (RUN / "scores.json").write_text(content)
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 1
    message = capsys.readouterr().err
    assert message.startswith("dreamer: ")
    assert "scores.json: " in message
    assert message.count("\n") == 1


def test_another_run_that_lies_in_the_demo_s_is_not_looked_at(commands, monkeypatch, capsys):
    finished_run(RUN)
    finished_run(RUN / "kept", task="dmc_dog_run")
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 0
    assert "345.6" in capsys.readouterr().out


def test_the_demo_s_run_is_where_the_demo_looks_for_it(commands, capsys):
    assert demo.main([TASK, "--logdir=elsewhere"]) == 2
    assert capsys.readouterr().err == f"dreamer: --logdir: the demo's run is {RUN}\n"
    assert commands == []


def test_the_help_trains_and_shows_nothing(commands, capsys):
    assert demo.main(["--help"]) == 0
    assert commands == [["train", "--help"]]
    assert capsys.readouterr().out == ""


def test_curves_of_what_is_predicted_are_no_gif(commands, monkeypatch, capsys):
    """As after `python -m dreamer.demo cartpole_balance --model.inputs vectors`."""
    finished_run(RUN)
    for path in (RUN / "videos").glob("*.gif"):
        path.rename(path.with_suffix(".png"))
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 0
    assert re.search("open-loop.png +what the world model predicts", capsys.readouterr().out)
    assert not (demo.OUT / "open-loop.gif").exists()


def test_a_picture_that_cannot_be_copied_is_named_and_left_out(commands, monkeypatch, capsys):
    finished_run(RUN)
    (RUN / "videos" / "0000099999-episode.mp4").mkdir()
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "episode.mp4" in said.err
    assert str(demo.OUT / "episode.mp4") not in said.out
    assert str(demo.OUT / "open-loop.gif") in said.out


def test_a_run_without_videos_is_summarised_too(commands, monkeypatch, capsys):
    finished_run(RUN)
    for path in (RUN / "videos").iterdir():
        path.unlink()
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 0
    assert "episode.mp4" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "named"),
    [
        ("dmc_dog_run", []),
        ("dmc_cheetah_run", ["published"]),
        ("dmc_walker_walk", ["published", "best known"]),
        ("toy_dot", ["best possible"]),
    ],
)
def test_best_is_named_once_and_only_where_something_was_published(commands, monkeypatch, capsys, task, named):
    monkeypatch.setattr(demo, "command", lambda words: finished_run(RUN, task=task) or 0)
    assert demo.main([TASK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1] for line in lines if line.startswith(("  published", "  best"))] == named


def test_without_a_name_it_is_the_dot_whose_best_return_is_known(commands, monkeypatch, capsys):
    """By hand: frames on the way from 0.3 away bring 0 at 0.2 and 1 from 0.1 on, of 25 in all."""
    run, called = demo.OUT / "dot", []

    def command(words):
        called.append(words)
        return 0 if words[0] != "train" else finished_run(run, task="toy_dot") or 0

    monkeypatch.setattr(demo, "command", command)
    assert demo.main(["--seed", "1"]) == 0
    # 121 starts, by their distance d in steps of 0.1: frames 1 .. d - 2 give nothing, the others 1.
    starts = [max(abs(x - 5), abs(y - 5)) for x in range(11) for y in range(11)]
    best = sum(25 - max(0, distance - 2) for distance in starts) / 121
    text = capsys.readouterr().out
    assert f"best possible         {best:.1f}   the shortest way" in text
    # One of its episodes may begin at the goal: the pictures are of several.
    played = ["--logdir", str(run), "--episodes", "5"]
    assert called[1:] == [
        ["eval", *played, "--video", str(demo.OUT / "episode.mp4")],
        ["imagine", *played, "--out", str(demo.OUT / "open-loop.gif")],
    ]
    assert text.index("Look at") < text.index("runs/demo/episode.mp4") < text.index("runs/demo/open-loop.gif")


def test_a_stop_while_episodes_are_played_ends_that_too(commands, monkeypatch, capsys):
    called = []

    def command(words):
        called.append(words[0])
        return 130 if words[0] != "train" else finished_run(demo.OUT / "dot", task="toy_dot") or 0

    monkeypatch.setattr(demo, "command", command)
    assert demo.main([]) == 0  # the training is done and told
    assert called == ["train", "eval"]
    text = capsys.readouterr().out
    assert "curve.png" in text
    assert "episode.mp4" not in text + str(list(demo.OUT.iterdir()))


def test_a_demo_that_is_none_is_refused(commands, capsys):
    assert demo.main(["dots"]) == 2
    assert capsys.readouterr().err == "dreamer: no demo dots: expected dot or cartpole_balance\n"
    assert commands == []


def test_a_demo_that_stops_says_nothing_more(commands, monkeypatch, capsys):
    monkeypatch.setattr(demo, "command", lambda words: 130)
    assert demo.main([TASK]) == 130
    assert "evaluation" not in capsys.readouterr().out


def test_a_demo_without_evaluation_ends_in_one_line(commands, monkeypatch, capsys):
    monkeypatch.setattr(demo, "command", lambda words: 0)
    assert demo.main([TASK]) == 1
    assert ": No such file or directory" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_what_readme_promises(seed, tmp_path):
    """At least nine tenths of the best possible return, and no evaluation in the last third that falls by half."""
    variables = os.environ | {"PYTHONPATH": str(Path(demo.__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "dreamer.demo", "--seed", str(seed)]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^  ([a-z ]+[a-z]) +(\d+\.\d)   ", done.stdout, re.MULTILINE)
    returns = {name: float(value) for name, value in rows}
    assert returns["last evaluation"] >= 0.9 * returns["best possible"]
    (score,) = scores.read(tmp_path / demo.OUT / "dot" / scores.FILENAME)
    late = [value for frames, value in zip(score.xs, score.ys, strict=True) if frames >= score.xs[-1] * 2 / 3]
    assert all(after > before / 2 for before, after in itertools.pairwise(late))
    for name in ("curve.png", "episode.mp4", "open-loop.gif"):
        assert (tmp_path / demo.OUT / name).stat().st_size > 1000

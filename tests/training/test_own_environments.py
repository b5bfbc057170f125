"""Runs in environments of the user's own, in processes of their own: what is said about them, and what is recorded."""

import json
from pathlib import Path

import numpy as np
import pytest

from dreamer import config, start
from dreamer.agents import RunError
from dreamer.cli import main as cli
from dreamer.replay import episodes as replay
from dreamer.run import lock, settings
from dreamer.stops import Stops
from dreamer.training import loop

EXAMPLES = Path(__file__).parents[1] / "envs"
RANDOM = {"method": "random", "steps": "12", "env.action_repeat": "1", "loop.prefill": "6", "loop.train_every": "6"}


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Trains in an environment of gym_examples.py; returns the exit code."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(task, **values):
        values = {name.replace("__", "."): value for name, value in values.items()}
        chosen = config.load(["gym", "debug"], {"task": f"gym_examples:{task}", **RANDOM, **values})
        start.check_task(chosen)
        with Stops() as stops, lock.exclusive(tmp_path):
            return loop.train(settings.agree(chosen, tmp_path), tmp_path, stops)

    return run


def test_what_is_used_is_said_once_and_recorded(train, tmp_path, capsys):
    assert train("Dict-v0", env__kwargs='{"ends": 2}') == 0
    note = 'gym_examples:Dict-v0: the image is "image" (48, 96, 3) uint8, colours; numbers beside it: "speed" [2].'
    assert capsys.readouterr().err.count(note) == 1
    lines = [json.loads(line) for line in (tmp_path / "machines.jsonl").read_text().splitlines()]
    assert [line["environment"] for line in lines] == [note]
    saved = config.load_file(tmp_path / "config.yaml")
    assert saved.env.kwargs == '{"ends": 2}'
    assert [path.name for path in sorted((tmp_path / "episodes").glob("*.npz"))][:2] == [
        "0000000000-3.npz",
        "0000000002-3.npz",
    ]
    with pytest.raises(settings.SettingsError, match='env.kwargs: saved {"ends": 2}, given {"ends": 3}'):
        train("Dict-v0", env__kwargs='{"ends": 3}')


def test_what_an_environment_tells_is_stored_logged_and_may_change_on_a_resume(train, tmp_path, capsys):
    told = [{"far": 9}, {"far": 5}, {"far": 6, "won": False}, {"far": 2, "won": True}]
    values = {"env__kwargs": json.dumps({"told": told}), "loop__eval_episodes": "2"}
    assert train("Telling", **values, env__info="far,won,lost") == 0
    said = "No step of the first episode had a number for lost in its info (--env.info)."
    assert capsys.readouterr().err.count(said) == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = {"info.far_last": 2, "info.far_mean": 5.5, "info.far_max": 9}
    expected |= {"info.won_last": 1, "info.won_mean": 0.5, "info.won_max": 1}
    for kind, count in {"episode": 1, "eval": 2}.items():
        found = [{name: value for name, value in line.items() if name.startswith(f"{kind}/info")} for line in lines]
        assert [line for line in found if line] == [
            {f"{kind}/{name}": value for name, value in expected.items()}
        ] * count
    (episode, *_) = [replay.load(path) for path in replay.stored_paths(tmp_path / "episodes")]
    np.testing.assert_array_equal(episode["info.far"], [9, 5, 6, 2])
    np.testing.assert_array_equal(episode["info.won"], [np.nan, np.nan, 0, 1])
    assert np.isnan(episode["info.lost"]).all()
    assert train("Telling", **values, env__info="won", steps="18") == 0
    assert "No step" not in capsys.readouterr().err
    *_, last = [replay.load(path) for path in replay.stored_paths(tmp_path / "episodes")]
    assert [name for name in last if name.startswith("info")] == ["info.won"]
    assert train("Telling", **values, env__info="won,oops", steps="24") == 0  # also by a run that goes on
    assert capsys.readouterr().err.count("a number for oops in its info") == 1


def test_metrics_of_a_round_are_those_of_its_own_episodes(train, tmp_path):
    """Episode n has the number n, as the environment counts its resets."""
    assert train("Counted", env__info="n", steps="18") == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["episode/info.n_last"] for line in lines if "episode/return" in line] == [3.5, 5.5]


def test_an_evaluation_tells_what_nobody_asked_the_training_for(train, tmp_path, capsys):
    told = [{"far": 9}, {"far": 5}, {"far": 6, "won": False}, {"far": 2, "won": True}]
    assert train("Telling", env__kwargs=json.dumps({"told": told})) == 0
    capsys.readouterr()
    assert cli.main(["eval", "--logdir", str(tmp_path), "--episodes", "2", "--env.info", "far,won,lost"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("info")] == [
        "info.far  last 2  mean 5.5  max 9",
        "info.won  last 1  mean 0.5  max 1",
        "info.lost  no episode told it",
    ]
    result = json.loads((tmp_path / "evaluation.json").read_text())
    assert result["info.far_mean"] == [5.5, 5.5]
    assert result["info.won_last"] == [1, 1]
    assert not any("lost" in name for name in result)
    assert cli.main(["eval", "--logdir", str(tmp_path), "--env.info", "far,far"]) == 2
    assert "--env.info far,far: expected names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "values", "problem"),
    [
        ("Choosing-v0", {"env__kwargs": '{"sped": 2}'}, "does not take --env.kwargs '{\"sped\": 2}'"),
        ("Dict-v0", {"env__image": "pixels"}, "--env.image pixels: gym_examples:Dict-v0 has no observation"),
        ("Several-v0", {}, "is a vector environment"),
    ],
)
def test_what_cannot_be_is_no_fault_and_leaves_nothing(task, values, problem, train, tmp_path):
    with pytest.raises(RunError, match=problem):
        train(task, **values)
    assert [path.name for path in tmp_path.iterdir()] in ([], [".lock"])


@pytest.mark.parametrize("words", [{"env.kwargs": '{"a": 1}'}, {"env.image": "render"}, {"env.info": "x"}])
def test_a_suite_that_does_not_take_a_key_says_so(words):
    with pytest.raises(start.UsageError, match="the suite toy does not take it, only gym"):
        start.check_task(config.load(["toy"], words))

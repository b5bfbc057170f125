"""Runs in environments of the user's own, in processes of their own: what is said about them, and what is recorded."""

import json
from pathlib import Path

import pytest

from dreamer import config, start
from dreamer.agents import RunError
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


@pytest.mark.parametrize("words", [{"env.kwargs": '{"a": 1}'}, {"env.image": "render"}])
def test_a_suite_that_does_not_take_a_key_says_so(words):
    with pytest.raises(start.UsageError, match="the suite toy does not take it, only gym"):
        start.check_task(config.load(["toy"], words))

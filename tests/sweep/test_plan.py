"""Which runs a sweep has, and the words that make each."""

from pathlib import Path

import pytest

from dreamer import envs
from dreamer.cli.train import parse_train
from dreamer.config import load
from dreamer.start import UsageError
from dreamer.sweep import plan


def make(overlays=("toy", "debug"), keys=None, **options):
    return plan.plan(overlays, keys or {}, **{"out": Path("runs"), **options})


def test_the_product_with_a_place_for_each_run_and_one_seed_after_another():
    settings = {"method": ["dreamer", "random"], "actor.lr": ["8e-5", "3e-5"], "xla": ["true"]}
    jobs = make(tasks=["dot", "dot_discrete"], seeds=[0, 4], settings=settings, keys={"steps": "700"})
    assert len(jobs) == 2 * 2 * 2 * 2
    assert [job.number for job in jobs] == list(range(16))
    assert [job.config.seed for job in jobs] == [0] * 8 + [4] * 8
    assert jobs[0].name == "actor.lr=8e-5/toy_dot/dreamer/0"
    assert jobs[-1].name == "actor.lr=3e-5/toy_dot_discrete/random/4"
    assert jobs[-1].logdir == Path("runs") / jobs[-1].name
    assert {job.config.actor.lr for job in jobs} == {8e-5, 3e-5}
    assert all(job.config.xla == "true" and job.config.steps == 700 for job in jobs)


def test_the_words_of_a_run_make_just_that_run():
    jobs = make(
        tasks=["dot"],
        seeds=[3],
        keys={"env.camera": "-1"},
        settings={"actor.lr": ["1e-4", "2e-4"]},
        allowed=["actor.lr"],
    )
    for job in jobs:
        command, *words = job.words
        given = parse_train(words)
        assert command == "train"
        assert load(given.overlays, given.overrides) == job.config
        assert given.logdir == job.logdir
        assert given.allowed == ["actor.lr"]


def test_without_tasks_the_one_of_the_config():
    assert [job.name for job in make()] == ["toy_dot/dreamer/0"]


def test_tasks_by_name_pattern_and_group():
    dmc = envs.tasks()["dmc"]
    assert plan.find_tasks("dmc", ["dmc20"]) == dmc
    assert len(plan.find_tasks("atari", ["atari57"])) == 57
    assert plan.find_tasks("dmc", ["walker_run", "walker_[rw]*", "walker_run"]) == ["walker_run", "walker_walk"]
    assert plan.find_tasks("gym", ["any:Thing"]) == ["any:Thing"]  # which only the suite can judge


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tasks": ["walker_*"]}, "--tasks walker_*: no task of toy fits"),
        ({"tasks": ["dmc20"]}, "--tasks dmc20: these are of the suite dmc, and the configs are for toy"),
        ({"tasks": ["dott"]}, 'unknown task of toy "dott": the nearest valid name is dot'),
        (
            {"settings": {"actor.lr": ["1e-4", "1e-4"]}},
            "two runs would be kept in runs/actor.lr=1e-4/toy_dot/dreamer/0",
        ),
        (
            {"settings": {"actor.lr": ["1e-4", "0.0001"]}},
            "runs/actor.lr=1e-4/toy_dot/dreamer/0 and runs/actor.lr=0.0001/toy_dot/dreamer/0 would be the same one",
        ),
        ({"seeds": range(100_001)}, "more than 100,000 runs"),
        ({"settings": {"actor.lr": ["1", "no"]}}, "actor.lr: expected a number"),
        ({"settings": {"actor.lrr": ["1"]}}, "unknown key --actor.lrr"),
    ],
)
def test_bad_input_is_told_before_anything_runs(options, expected):
    with pytest.raises((UsageError, ValueError)) as error:
        make(**options)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_seeds_as_they_are_typed():
    assert plan.read_seeds("0..4") == [0, 1, 2, 3, 4]
    assert plan.read_seeds("7, 0,3..4,7") == [7, 0, 3, 4]
    for text in ("", "4..0", "a", "-1", "0...3", "1..1000000", "1.5"):
        with pytest.raises(ValueError, match=r"expected seeds such as 0\.\.4"):
            plan.read_seeds(text)


def test_settings_as_they_are_typed():
    assert plan.read_setting("actor.lr=8e-5, 3e-5") == ("actor.lr", ["8e-5", "3e-5"])
    assert plan.read_setting("--xla=true") == ("xla", ["true"])
    for text in ("actor.lr", "=1", "actor.lr=", "actor.lr=1,,2"):
        with pytest.raises(ValueError, match="expected KEY=VALUE"):
            plan.read_setting(text)

"""The flags that a stop for NaN prints are taken as they are printed, and the run goes on with them."""

import json
import re

import numpy as np
import pytest

from dreamer import config
from dreamer.cli import main as cli
from dreamer.cli import train
from dreamer.envs import toy
from dreamer.run import settings
from dreamer.training import faults


def flags(line):
    """The flags in what is printed, as words."""
    return re.search(r"the same command with (--\S+ \S+ --resume\.allow \S+) goes on from it", line)[1].split()


def test_huge_rewards(tmp_path, monkeypatch, capsys, precision):
    precision("float32")  # and back, after the test
    real = toy.Dot.step
    monkeypatch.setattr(toy.Dot, "step", lambda dot, action: {**real(dot, action), "reward": np.float32(1e20)})
    words = ["--configs", "toy", "debug", "--steps", "150", "--loop.max_skipped", "2", "--logdir", str(tmp_path)]
    assert cli.main(words) == 1
    remedy = flags(capsys.readouterr().err.splitlines()[-1])
    assert remedy == ["--replay.tanh_rewards", "true", "--resume.allow", "replay.tanh_rewards"]
    assert cli.main([*words, *remedy]) == 0
    changes = json.loads((tmp_path / "run.json").read_text())["changes"]
    assert [(change["key"], change["to"]) for change in changes] == [("replay.tanh_rewards", True)]


@pytest.mark.parametrize(
    ("precision", "network", "key", "value"),
    [
        ("float16", "actor", "precision", "float32"),
        ("bfloat16", "model", "model.lr", 2e-4),
        ("float32", "value", "value.lr", 3e-5),
    ],
)
def test_others_are_settings_that_a_run_takes_when_it_goes_on(precision, network, key, value, tmp_path):
    words = ["--configs", "dmc", "--precision", precision]
    run = config.load(["dmc"], {"precision": precision})
    run.save(tmp_path / "config.yaml")
    rates = {name: run[name].lr for name in faults.NETWORKS}
    remedy = flags(faults.Remedies(rates, precision, run.replay.tanh_rewards).words(network))
    given = train.parse_train([*words, *remedy])
    agreed = settings.agree(config.load(given.overlays, given.overrides), tmp_path, given.allowed)
    assert [(changed, new) for changed, _, new in agreed.changes] == [(key, value)]

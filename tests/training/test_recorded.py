"""The settings of the paper do what they did: two runs that were recorded before an agent saw more than images.

recorded.json is of commit 0591e32: `dreamer --configs toy debug --precision float32 --steps 150`, and the same with
`--task dot_discrete --model.discount_head true`. On the machine that recorded it every number is the same bit for bit;
on others a sum may be in another order.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from dreamer import config
from tests.training.test_resume import lines, train

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text())
SETTINGS = {"dot": {}, "dot_discrete": {"task": "dot_discrete", "model.discount_head": "true"}}


def digest(path):
    with np.load(path) as episode:
        parts = [name.encode() + np.ascontiguousarray(episode[name]).tobytes() for name in sorted(episode.files)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("task", SETTINGS)
def test_a_recorded_run_comes_out_as_it_did(task, tmp_path):
    run = config.load(["toy", "debug"], {"precision": "float32", "steps": "150", **SETTINGS[task]})
    assert train(run, tmp_path / "run") == 0
    then = RECORDED[task]
    paths = sorted((tmp_path / "run" / "episodes").iterdir())[: len(then["random_episodes"])]
    assert [digest(path) for path in paths] == then["random_episodes"]
    now = lines(tmp_path / "run" / "metrics.jsonl")
    assert [set(line) for line in now] == [set(line) for line in then["metrics"]]
    for line, expected in zip(now, then["metrics"], strict=True):
        assert line == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["ys"] == pytest.approx(then["scores"], rel=1e-3)

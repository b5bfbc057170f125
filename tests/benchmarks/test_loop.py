"""The benchmark of the whole loop."""

import contextlib
import io
import re
import sys
from types import SimpleNamespace

import pytest

from benchmarks import common, loop
from dreamer.cli import main as cli
from dreamer.cli import tensorflow
from dreamer.config import load

SCHEDULE = SimpleNamespace(train_every=1000, train_updates=100, eval_every=5000, save_every=10_000)


def line(step, updates, seconds, **shares):
    return {"step": step, "train/updates": updates, "time/seconds": seconds} | {
        f"time/{part}": share for part, share in shares.items()
    }


LINES = [
    line(1000, 1, 90.0, training=1.0),
    line(1100, 11, 80.0, training=0.5, evaluation=0.5),
    line(1200, 21, 20.0, training=0.5, acting=0.2, waiting_for_data=0.1, evaluation=0.1, saving=0.05, logging=0.01),
    line(1300, 31, 40.0, training=0.5, acting=0.2, waiting_for_data=0.1, evaluation=0.1, saving=0.05, logging=0.01),
    line(1400, 41, 30.0, training=0.5, acting=0.2, waiting_for_data=0.1, evaluation=0.1, saving=0.05, logging=0.01),
]


def test_costs_are_medians_per_unit_without_the_warm_up():
    cost = loop.costs(LINES)  # the round of 30 seconds is the median
    assert cost == pytest.approx(
        {
            "training": 1.5,
            "waiting_for_data": 0.3,
            "acting": 0.06,
            "evaluation": 3.0,
            "saving": 1.5,
            "logging": 0.3,
            "rest": 1.2,
        }
    )
    with pytest.raises(common.BenchmarkError, match="no round was measured"):
        loop.costs(LINES[:2])


def test_costs_are_put_together_by_the_schedule():
    seconds = loop.put_together(loop.costs(LINES), SCHEDULE, 20_000)
    assert seconds == pytest.approx(
        {
            "training": 1.5 * 2000,
            "waiting_for_data": 0.3 * 2000,
            "acting": 0.06 * 20_000,
            "evaluation": 3.0 * 4,
            "saving": 1.5 * 2,
            "logging": 0.3 * 20,
            "rest": 1.2 * 20,
        }
    )


@pytest.fixture
def train_in_here(monkeypatch):
    """Run `dreamer train` in this process, which saves its start."""

    def run(command, **kwargs):
        assert command[:4] == [sys.executable, "-m", "dreamer", "train"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return SimpleNamespace(returncode=cli.main(command[3:]))

    monkeypatch.setattr(tensorflow, "set_up", lambda precision, **options: "float32")  # it is for a whole process
    monkeypatch.setattr(loop, "subprocess", SimpleNamespace(run=run))


def test_a_run_is_measured_and_the_ratio_comes_last(train_in_here, capsys):
    loop.main(["--configs", "toy", "debug", "--round", "10", "--frames", "10"])
    lines = capsys.readouterr().out.splitlines()
    parts = {re.split(r"  +", text)[0]: re.split(r"  +", text) for text in lines[4:-2]}
    assert list(parts) == [*(part.replace("_", " ") for part in loop.PER), "all"]
    for part in ("training", "acting", "evaluation", "saving", "logging"):
        assert float(parts[part][1]) > 0, part
    total = sum(float(cells[3]) for part, cells in parts.items() if part != "all")
    assert total == pytest.approx(float(parts["all"][1]), abs=0.05)
    ratio = float(re.match(r"the loop, all / training and acting: (\d+\.\d+)x, waiting", lines[-1])[1])
    assert ratio == pytest.approx(total / sum(float(parts[part][3]) for part in ("training", "acting")), rel=0.01)


def test_with_and_without_overlap_rounds_of_training_and_acting_are_compared(monkeypatch, capsys):
    """Five updates of 20 ms take as long as ten frames of 10 ms; the last round collects nothing beside."""
    asked = []

    def train(arguments, config, logdir, *, updates=None, **keys):
        asked.append((config.env.time_limit, updates, keys))
        overlaps = keys.get("loop__overlap") == "true"
        shares = {"training": 0.8, "acting": 0.1, "overlap": 0.7} if overlaps else {"training": 0.5, "acting": 0.5}
        done = updates or 10
        seconds = [9.0, 9.0, *3 * [0.125 if overlaps else 0.02 * done + 0.1], 9.0]
        return [line(100 + 10 * n, n * done, time, **shares) for n, time in enumerate(seconds)]

    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(loop, "costs", lambda lines: {"training": 0.02, "acting": 0.01})
    loop.main(["--configs", "toy", "debug", "--overlap", "--sleep", "5", "--round", "10", "--frames", "30"])
    assert [(limit, updates) for limit, updates, _ in asked] == [(100, None), (100, 5), (100, 5)]
    assert [keys.get("loop__overlap") for *_, keys in asked] == [None, "false", "true"]
    assert all(keys["suite"] == "gym" and keys["loop__eval_every"] == 10**9 for *_, keys in asked)
    text = capsys.readouterr().out.splitlines()
    assert text[1] == "a step sleeps 5 ms, 30 frames, 5 updates per 10"
    assert re.split("  +", text[-4]) == ["false", "50.0", "50.0%", "50.0%", "0.0%"]
    assert re.split("  +", text[-3]) == ["true", "80.0", "80.0%", "10.0%", "70.0%"]
    assert text[-1] == "frames a second, loop.overlap true / false: 1.60x"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--frames", "50"], "--frames 50: at least one --round, 100"),
        (["--set", "method=random"], "method random trains nothing"),
    ],
)
def test_bad_input(words, complaint, capsys):
    with pytest.raises(SystemExit, match="2"):
        loop.main(words)
    assert complaint in capsys.readouterr().err


def test_a_run_that_fails_is_reported(tmp_path):
    arguments = SimpleNamespace(configs=["toy"], set=["task=spot"], round=10, frames=10)
    with pytest.raises(common.BenchmarkError, match="exit code 2\n.*unknown task of toy"):
        loop.train(arguments, load(["toy"]), tmp_path)

"""The benchmark of the training step: what it counts, divides and prints."""

import re

import pytest

from benchmarks import train_step
from dreamer.config import load


def test_operations_at_the_published_sizes():
    """Convolutions by hand: millions of multiply-adds per image, forward; all three times but the first layer."""
    encoder = [1.476096, 6.422528, 4.718592, 2.097152]  # 31^2 x 32 x 4^2 x 3, 14^2 x 64 x 4^2 x 32, ...
    decoder = [3.2768, 5.12, 12.460032, 3.1104]  # 5^2 x 128 x 1024, 5^2 x 5^2 x 128 x 64, 13^2 x 6^2 x 64 x 32, ...
    convolutions = 2 * 2500 * 1e6 * (3 * sum(encoder + decoder) - encoder[0])
    assert convolutions == pytest.approx(0.57e12, rel=0.01)
    needed = train_step.operations(load(["dmc"]), actions=6)
    assert convolutions < needed["world model"] < 1.05 * convolutions
    assert needed["behaviour"] == pytest.approx(0.319e12, rel=0.01)


def test_operations_of_small_sizes_by_hand():
    sizes = {
        "replay.batch": 2,
        "replay.length": 3,
        "behavior.horizon": 4,
        "model.deter": 2,
        "model.stoch": 1,
        "model.hidden": 3,
        "model.conv_depth": 1,
        "model.units": 5,
        "model.reward_layers": 1,
        "actor.layers": 1,
        "actor.units": 7,
        "value.layers": 1,
        "value.units": 11,
    }
    needed = train_step.operations(load(["debug"], sizes), actions=2)
    encoder = [31**2 * 16 * 3 * 1, 14**2 * 16 * 1 * 2, 6**2 * 16 * 2 * 4, 2**2 * 16 * 4 * 8]
    decoder = [25 * 32 * 4, 5**2 * 25 * 4 * 2, 13**2 * 36 * 2 * 1, 30**2 * 36 * 1 * 3]
    transition = (1 + 2) * 3 + 3 * 6 + 2 * 6  # input layer, GRU from its input and from its state
    prior, posterior, reward = 2 * 3 + 3 * 2, (2 + 32) * 3 + 3 * 2, 3 * 5 + 5
    world = 3 * (sum(encoder) + 3 * 32 + sum(decoder) + transition + prior + posterior + reward) - encoder[0]
    assert needed["world model"] == 2 * 6 * world
    actor, value = (3 * 7, 7 * 4), (3 * 11, 11)
    # The model and the heads hand gradients on, the actor learns from features that need none.
    imagined = 2 * (transition + prior + reward + sum(value)) + 2 * actor[0] + 3 * actor[1]
    fitted = value[0] + 2 * value[1]
    assert needed["behaviour"] == 2 * 6 * (4 * imagined + 3 * fitted)


def test_the_command_measures_both_and_prints_the_ratio_last(children_in_here, eager, capsys):
    small = ["--set", "replay.batch=2", "replay.length=2", "behavior.horizon=2"]
    train_step.main(["--configs", "debug", *small, "--precisions", "float32", "--matmul", "8", "--repeats", "1"])
    assert [words[:4] for _, words in children_in_here] == [
        ["--measure", "reference", "--precision", "float32"],
        ["--measure", "ours", "--precision", "float32"],
    ]
    lines = capsys.readouterr().out.splitlines()
    numbers = {line[:28].strip(): [float(x.rstrip("%")) for x in line[28:].split()] for line in lines[4:-2]}
    for column in range(2):
        parts = ("world model forward", "world model backward", "behaviour", "optimisers")
        total = sum(numbers[part][column] for part in parts)
        assert total == pytest.approx(numbers["whole step, s"][column], abs=0.003)
        assert numbers["first step finished after, s"][column] > 0
        assert 0.1 < numbers["peak memory, GB"][column] < 100
    assert re.fullmatch(r"training step, reference float32 / ours float32: \d+\.\d\dx", lines[-1])


def test_figures_follow_from_the_measurements(capsys):
    seen = {"first": 20.0, "forward": 1.0, "gradients": 3.5, "optimizers": 0.25, "peak": 4e9, "matmul": 1e12}
    columns = {"reference float32": {**seen, "step": 8.0}, "ours bfloat16": {**seen, "step": 5.0}}
    train_step.report(columns, {"world model": 1.5e12, "behaviour": 1e12}, 4096)
    lines = [re.split(r"  +", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["whole step, s", "8.000", "5.000"] in lines
    assert ["world model backward", "2.500", "2.500"] in lines
    assert ["behaviour", "4.250", "1.250"] in lines
    assert ["TFLOP/s", "0.31", "0.50"] in lines
    assert ["share", "31%", "50%"] in lines
    assert ["peak memory, GB", "4.00", "4.00"] in lines
    assert lines[-1] == ["training step, reference float32 / ours bfloat16: 1.60x"]


def test_overhead_is_one_row_of_the_batch_beside_all_of_it(monkeypatch, capsys):
    calls = []

    def child(script, words):
        calls.append(words)
        return {"step": 0.010 if words[-1] == "replay.batch=1" else 0.040, "matmul": 1.0}

    monkeypatch.setattr(train_step.common, "child", child)
    train_step.main(["--configs", "debug", "--set", "replay.batch=7", "--precisions", "float32", "--overhead"])
    assert [words[-2:] for words in calls] == [["replay.batch=7"] * 2, ["replay.batch=7", "replay.batch=1"]]
    assert all("--no-parts" in words and words[:2] == ["--measure", "ours"] for words in calls)
    assert capsys.readouterr().out.splitlines()[-1] == "training step, float32, one row / 7 rows: 0.25"
    with pytest.raises(SystemExit):
        train_step.main(["--configs", "debug", "--set", "replay.batch=1", "--overhead"])
    assert "expected a replay.batch of at least 2" in capsys.readouterr().err

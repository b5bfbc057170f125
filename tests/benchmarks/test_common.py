"""What the benchmark commands share."""

import importlib

import pytest

from benchmarks import common


@pytest.mark.parametrize("name", ["train_step", "act", "loop", "gpu", "replay"])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(f"benchmarks.{name}").main(["--help"])
    assert left.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--configs", "debgu"], "unknown overlay 'debgu': did you mean debug?"),
        (["--set", "replay.batch"], "--set replay.batch: expected KEY=VALUE"),
        (["--set", "replay.batch=0"], "--replay.batch: expected a whole number (>= 1), got 0"),
        (["--set", "task=walker_wlk"], 'unknown task of dmc "walker_wlk"'),
        (["--repeats", "0"], "argument --repeats: 0 must be at least 1"),
        (["--set", "model.discount_head=true"], "the plain implementation is Dreamer's, without a discount head"),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(words, complaint, capsys):
    from benchmarks import train_step

    with pytest.raises(SystemExit) as left:
        train_step.main(words)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err.splitlines()[-1]


def test_the_median_is_of_seconds_per_call_after_a_warm_up(monkeypatch):
    now = [0.0]
    durations = iter([50.0, 1.0, 2.0, 8.0, 3.0, 5.0, 5.0])  # the warm-up, then three blocks of two calls

    def call():
        now[0] += next(durations)

    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])
    assert common.median_seconds(call, repeats=3, block=2) == 5.0  # of 1.5, 5.5 and 5


def test_a_child_knows_when_it_was_started_and_its_last_line_is_the_result(tmp_path, monkeypatch):
    script = tmp_path / "benchmarks" / "child.py"
    script.parent.mkdir()
    script.write_text("import json, sys\nprint('noise')\nprint(json.dumps(sys.argv[1:]))\n")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common.time, "time", lambda: 123.5)
    assert common.child("child.py", ["x"]) == ["x", "--started", "123.5"]
    script.write_text("import sys\nprint('far too small', file=sys.stderr)\nsys.exit(3)\n")
    with pytest.raises(common.BenchmarkError, match="child.py x: exit code 3\nfar too small"):
        common.child("child.py", ["x"])
    script.write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(common.BenchmarkError, match="no result within"):
        common.child("child.py", [], timeout=0.2)


def test_medians_and_tables():
    assert common.medians([{"a": 1.0, "b": "x"}, {"a": 9.0, "b": "x"}, {"a": 2.0, "b": "x"}]) == {"a": 2.0, "b": "x"}
    assert (
        common.table([["", "long name"], ["a b", 1], ["c", "22"]]) == "     long name\na b          1\nc           22"
    )

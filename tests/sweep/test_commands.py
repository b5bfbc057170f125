"""`dreamer sweep` and `dreamer status`: what their words do."""

import os
import re
import sys
from pathlib import Path

import pytest

from dreamer import hardware
from dreamer.cli import main as cli
from dreamer.cli import status, sweep, train
from dreamer.config import load
from dreamer.run import lock
from dreamer.sweep.engines import FAILED, Outcome, local, ray

WORDS = ["sweep", "--configs", "toy", "debug", "--tasks", "dot", "--seeds", "0..1"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def worked(monkeypatch):
    """Replace the engines: collects (engine, jobs, options) of each sweep; worked.outcome is how all runs come out,
    worked.stopped whether a signal has asked them to."""

    class Worked(list):
        outcome, stopped = Outcome("finished"), False

    calls = Worked()

    def work(name):
        def pretend(jobs, *, stops, show, **options):
            calls.append((name, jobs, options))
            outcomes = {job.number: calls.outcome for job in jobs}
            show(outcomes, True)
            if calls.stopped:
                stops.signal = 15
            return outcomes

        return pretend

    monkeypatch.setattr(local, "work", work("local"))
    monkeypatch.setattr(ray, "work", work("ray"))
    return calls


def complaint(capsys, words):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("engine", ["local", "ray", "slurm"])
def test_a_run_with_other_settings_stops_all_before_any_begins(worked, capsys, engine):
    words = ["sweep", "--configs", "toy", "--seeds", "0..2", "--out", "out", "--engine", engine]
    run = Path("out/toy_dot/dreamer/1")
    run.mkdir(parents=True)
    load(["toy"], {"seed": 1, "model.deter": 50}).save(run / "config.yaml")
    line = complaint(capsys, words)
    assert line.startswith(
        f"dreamer: {run} holds a run with other settings, which cannot change on a resume (model.deter"
    )
    assert worked == []
    assert [path.name for path in Path("out").iterdir()] == ["toy_dot"]
    assert cli.main([*words, "--model.deter", "50"]) == 0
    assert len(worked) == (engine != "slurm")


@pytest.mark.parametrize(
    ("count", "here"), [(0, "there is no NVIDIA GPU here"), (1, "there is the NVIDIA GPU 0 here"), (2, "0 to 1 here")]
)
def test_gpus_that_are_not_here_are_not_replaced_by_the_cpu(worked, monkeypatch, capsys, count, here):
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: count)
    line = complaint(capsys, [*WORDS, "--gpus", "2"])
    assert line.startswith("dreamer: --gpus 2: GPUs are given by their numbers, and there is ")
    assert line.endswith(f"{here}\n")
    assert not worked
    assert not Path("runs").exists()


def test_each_engine_gets_its_options(worked, monkeypatch):
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: 2)
    assert cli.main([*WORDS, "--out", "a", "--workers", "3", "--retries", "0"]) == 0
    assert cli.main([*WORDS, "--gpus", "0,1", "--per-gpu", "2"]) == 0
    cluster = ["--address", "auto", "--cpus", "4", "--per-gpu", "2"]
    assert cli.main([*WORDS, "--engine", "ray", *cluster]) == 0
    assert [name for name, _, _ in worked] == ["local", "local", "ray"]
    assert [[job.config.seed for job in jobs] for _, jobs, _ in worked] == [[0, 1]] * 3
    first, second, third = (options for _, _, options in worked)
    assert first == {"retries": 0, "slots": [{}, {}, {}], "logs": Path("a/logs")}
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in second["slots"]] == ["0", "1", "0", "1"]
    assert second["retries"] == 3
    assert third == {**third, "address": "auto", "workers": None, "cpus": 4, "per_gpu": 2, "logs": Path("runs/logs")}


def test_how_a_sweep_ends(worked, capsys):
    assert cli.main(WORDS) == 0
    assert capsys.readouterr().out.endswith("2 runs: 2 finished\n")
    worked.outcome = Outcome(FAILED, "exit code 1: it broke")
    assert cli.main(WORDS) == 1
    out, err = capsys.readouterr()
    assert out.endswith("2 runs: 2 failed\n")
    assert err.splitlines()[0] == (
        "dreamer: toy_dot/dreamer/0: exit code 1: it broke (runs/logs/toy_dot/dreamer/0.log)"
    )
    worked.stopped = True
    assert cli.main(WORDS) == 143
    out, err = capsys.readouterr()
    assert out.endswith("Stopped. The same command goes on from there.\n")
    assert "exit code 1: it broke" in err
    worked.outcome = Outcome("stopped")
    assert cli.main(WORDS) == 143
    assert capsys.readouterr().out.endswith("Stopped and saved. The same command goes on from there.\n")


def test_a_report_at_the_end(worked, capsys, monkeypatch):
    Path("runs").mkdir()
    assert cli.main([*WORDS, "--report"]) == 1
    assert "nothing to show" in capsys.readouterr().err
    written = []
    monkeypatch.setattr(sweep.show, "report", lambda words: written.append(words) or 0)
    assert cli.main([*WORDS, "--report", "--out", "a"]) == 0
    assert written == [["a", "--out", "a/report.html"]]


def test_a_dry_run_lists_and_starts_nothing(worked, capsys):
    assert (
        cli.main(["sweep", "--configs", "dmc", "--tasks", "dmc20", "--seeds", "0..4", "--xla", "true", "--dry-run"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 102
    assert lines[1].split()[:5] == ["0", "dmc_acrobot_swingup/dreamer/0", "5,000,000", "32.8", "GB"]
    assert re.search(r"100 runs +500,000,000 +3,\d{3}\.\d GB", lines[-1])
    assert worked == []
    assert os.listdir() == []


def test_one_run_by_its_number_is_trained_in_this_process(worked, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(train, "train", lambda words, active: started.append(words) or 75)
    assert cli.main([*WORDS, "--index", "1"]) == 75
    assert started == [
        ["--configs", "toy", "debug", "--task=dot", "--seed=1", "--logdir=runs/toy_dot/dreamer/1"],
    ]
    assert "there are the runs 0 to 1" in complaint(capsys, [*WORDS, "--index", "2"])
    for option in (["--workers", "2"], ["--report"], ["--retries", "0"], ["--gpus", "0"]):
        told = f"{option[0]} does not go with --index, which trains one run in this process and ends"
        assert told in complaint(capsys, [*WORDS, "--index", "1", *option])
    assert len(started) == 1
    assert cli.main([*WORDS, "--index", "1", "--dry-run"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["1", "toy_dot/dreamer/1"],
        ["1", "run"],
    ]
    assert len(started) == 1


def test_slurm_gets_what_is_not_finished(worked, monkeypatch, capsys):
    words = [*WORDS, "--engine", "slurm", "--set", "actor.lr=1e-3,2e-3", "--steps", "400", "--out", "a"]
    monkeypatch.setattr(sweep.runs, "is_finished", lambda logdir, steps: logdir.name == "0")
    assert cli.main([*words, "--workers", "2"]) == 0
    text = Path("a/sweep.sbatch").read_text()
    assert "--array=2-3%2\n" in text
    (command,) = re.findall(r"-m dreamer (sweep .*) --index=", text)
    assert cli.main([*command.split(), "--dry-run"]) == 0
    listed = capsys.readouterr().out
    assert cli.main([*words[:8], *words[10:], "--dry-run"]) == 0
    assert listed.endswith(capsys.readouterr().out)  # the same runs in the same order
    monkeypatch.setattr(sweep.runs, "is_finished", lambda logdir, steps: True)
    assert cli.main(words) == 0
    assert "All 4 runs are finished." in capsys.readouterr().out
    assert worked == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--logdir", "x"], "--logdir is for one run: a sweep has --out"),
        (["--profile"], "--profile is for one run"),
        (["--seed", "1"], "--seed is for one run: a sweep has --seeds, such as --seeds 0..4"),
        (["--task", "dot"], "--task and --tasks: give one of them"),
        (["--set", "seed=1,2"], "--set seed=...: a sweep has --seeds for that"),
        (["--set", "steps=1,2", "--steps", "4"], "--set steps=...: it is given by --steps too"),
        (["--set", "steps=1,2", "steps=3"], "--set steps is given twice: write --set steps=1,2,3"),
        (["--set", "steps"], "argument --set: expected KEY=VALUE,VALUE,..., got 'steps'"),
        (["--seeds", "4..0"], "argument --seeds: expected seeds such as 0..4 or 0,3,7, got '4..0'"),
        (["--per-gpu", "2"], "--per-gpu needs --gpus"),
        (["--gpus", "0,0"], "argument --gpus: expected GPUs such as 0,1"),
        (["--gpus", "0", "--workers", "2"], "--gpus and --workers"),
        (["--submit"], "--submit does not go with --engine local"),
        (["--engine", "slurm", "--per-gpu", "2"], "--per-gpu does not go with --engine slurm"),
        (["--engine", "ray", "--gpus", "0"], "--gpus does not go with --engine ray"),
        (["--engine", "kubernetes"], "invalid choice"),
        (["--workers", "0"], "expected a whole number above 0"),
        (["--step", "4"], "did you mean --steps?"),
        (["--configs", "tox"], "unknown overlay 'tox': did you mean toy?"),
    ],
)
def test_bad_input_gives_one_line(words, expected, worked, capsys):
    assert expected in complaint(capsys, ["sweep", "--tasks=dot", "--configs", "toy", *words])
    assert worked == []
    assert os.listdir() == []


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_a_place_that_takes_no_runs(engine, worked, capsys):
    Path("file").touch()
    expected = "--out: cannot write to file/runs/logs: Not a directory"
    assert expected in complaint(capsys, [*WORDS, "--out", "file/runs", "--engine", engine])
    assert worked == []


def test_ray_has_nothing_to_do_where_all_is_finished(monkeypatch, capsys):
    monkeypatch.setattr(sweep.runs, "is_finished", lambda logdir, steps: True)
    assert cli.main([*WORDS, "--engine", "ray"]) == 0
    assert capsys.readouterr().out.endswith("2 runs: 2 finished\n")


def test_ray_that_is_not_installed(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    expected = '--engine ray needs the package ray: pip install "dreamer-tf2[ray]"'
    assert expected in complaint(capsys, [*WORDS, "--engine", "ray"])
    assert os.listdir() == []


def test_status_of_runs(capsys):
    for name in ("b/0", "a/1"):
        load(["toy"]).save(Path("runs") / name / "config.yaml")
    with lock.exclusive(Path("runs/a/1")):
        assert cli.main(["status", "runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [["runs/a/1", "running"], ["runs/b/0", "stopped"]]
    assert lines[3] == "2 runs: 1 running, 1 stopped"
    assert "nowhere: no such directory" in complaint(capsys, ["status", "nowhere"])
    Path("empty").mkdir()
    assert "empty: no run in this directory or below it" in complaint(capsys, ["status", "empty"])


def test_status_of_a_sweep_that_has_hardly_begun(worked, capsys):
    assert cli.main([*WORDS, "--steps", "300", "--out", "runs"]) == 0
    capsys.readouterr()
    assert cli.main(["status", "runs"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 runs: 2 waiting"
    load(["toy"]).save(Path("runs/toy_dot/dreamer/1/config.yaml"))
    assert cli.main(["status", "runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["runs/toy_dot/dreamer/1", "stopped"],
        ["runs/toy_dot/dreamer/0", "waiting"],
    ]
    assert lines[3] == "2 runs: 1 stopped, 1 waiting"


def test_status_is_shown_until_it_is_stopped(monkeypatch, capsys):
    load(["toy"]).save(Path("run/config.yaml"))
    naps = iter([None, None])
    monkeypatch.setattr(status.time, "sleep", lambda seconds: next(naps))
    with pytest.raises(StopIteration):
        cli.main(["status", "run", "--watch"])
    assert capsys.readouterr().out == "1 run: 1 stopped\n"

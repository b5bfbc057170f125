"""The benchmark of a GPU, on the CPU path."""

import re
import subprocess
import sys

import pytest

from benchmarks import common, gpu, kernels, train_step
from dreamer import envs

STEP = {"first": 30.0, "step": 0.02, "peak": 2e9, "gpu_peak": 5e9, "matmul": 500e12}


def test_the_budget_is_handed_down_and_what_fails_is_said(monkeypatch):
    now, limits = [100.0], []
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])

    def child(script, words, timeout):
        limits.append(timeout)
        if words == ["bad"]:
            raise common.BenchmarkError("exit code 1\nTraceback\nout of memory")
        return {"step": 1.0}

    monkeypatch.setattr(common, "child", child)
    budget = gpu.Budget(200, limit=120)
    assert budget.child("x.py", ["good"]) == {"step": 1.0}
    now[0] = 250.0
    assert budget.child("x.py", ["bad"]) == "out of memory"
    now[0] = 290.0
    assert budget.child("x.py", ["good"]) == "no time left"
    assert limits == [120, 50]


def test_the_best_row_makes_the_figure_and_reasons_are_shown(capsys):
    steps = {
        ("bfloat16", True): STEP,
        ("bfloat16", False): {**STEP, "step": 0.025},
        ("float16", True): "no result within 120 s",
    }
    acting = {"task": "walker_walk", "problem": "", "policy": 0.001, "all": 0.004}
    gpu.report(steps, acting, needed=1e12, repeat=2, train_ratio=0.1)
    out = capsys.readouterr().out
    assert ["bfloat16, XLA", "20.00", "50.00", "10.0%", "30.0", "5.00"] in [
        re.split(r"  +", line) for line in out.splitlines()
    ]
    assert "float16, XLA: no result within 120 s" in out
    # 100 updates of 20 ms and 500 agent steps of 4 ms.
    expected = (
        "1,000 frames with bfloat16, XLA: 4.00 s, training 2.00, acting 2.00; 250 frames/s, / 90 published: 2.78x"
    )
    assert out.splitlines()[-1] == expected


def test_without_a_gpu_it_says_so(children_in_here, monkeypatch):
    monkeypatch.setattr(gpu, "measure_devices", lambda: {"gpus": []})
    with pytest.raises(
        common.BenchmarkError, match="TensorFlow sees no GPU here; --tiny tries this command out on the CPU"
    ):
        gpu.main([])


def test_tiny_on_the_cpu_where_nothing_renders(children_in_here, monkeypatch, capsys):
    make = envs.make

    def no_opengl(suite, task, **keywords):
        if suite == "dmc":
            raise envs.EnvError("no OpenGL platform renders here")
        return make(suite, task, **keywords)

    monkeypatch.setattr(envs, "make", no_opengl)
    monkeypatch.setattr(gpu, "measure_devices", lambda: {"gpus": []})
    monkeypatch.setattr(train_step, "measure_here", lambda arguments, config: {**STEP, "step": 2.0 - arguments.xla})
    monkeypatch.setattr(kernels, "measure", lambda config, actions: {"plain": 3000, "xla": 1000})
    gpu.main(["--tiny", "--precisions", "float32"])
    assert [("--xla" in words, words[1]) for _, words in children_in_here] == [
        (False, "devices"),
        (False, "--actions"),
        (True, "ours"),
        (False, "ours"),
        (False, "acting"),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert "kernels an update: 3,000 plain, 1,000 with XLA; plain / XLA: 3.0x" in lines
    assert "No GPU: these are figures of the CPU." in lines
    assert "without physics and rendering, because no OpenGL platform renders here" in lines
    assert lines[-1].startswith("1,000 frames with float32, XLA: ")
    assert lines[-1].endswith("x")


def test_xla_is_no_key_of_this_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--tiny", "--set", "xla=true"])
    assert "leave the key out" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_runs_on_a_cpu():
    words = ["--tiny", "--limit", "300", "--precisions", "bfloat16", "float16"]
    command = [sys.executable, str(common.ROOT / "benchmarks" / "gpu.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith(("bfloat16", "float16")) for line in done.stdout.splitlines()) == 4
    assert done.stdout.splitlines()[-1].startswith("1,000 frames with ")

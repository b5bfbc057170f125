"""The script of an array job, run by a shell with programs of our own in the place of Slurm's and of the run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.start import UsageError
from dreamer.sweep.engines import slurm


@pytest.fixture
def program(tmp_path, monkeypatch):
    """program(name, text): a script of the shell by this name, which PATH finds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    def make(name, text):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
        return folder / name

    make("scontrol", 'echo "$@" >>requeued')
    return make


@pytest.fixture
def script(program, monkeypatch):
    """script(text): that of an array job whose run is a script of the shell."""

    def make(text, **options):
        monkeypatch.setattr(sys, "executable", str(program("run of ours", text)))
        given = {"workers": None, "retries": 2, "options": None, "out": Path("out"), "logs": Path("out/logs")}
        return slurm.write(["sweep", "--out=a b"], [0, 1, 2, 5, 7, 8], **(given | options))

    return make


def job(path, **variables):
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_JOB_ID": "77", **variables}
    return subprocess.Popen(
        ["bash", path], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_what_slurm_is_asked_for(script, tmp_path):
    path = script("", workers=4, options="--gres=gpu:1 --time=1:00:00")
    lines = path.read_text().splitlines()
    asked = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")]
    assert asked[1:4] == ["--array=0-2,5,7-8%4", "--requeue", "--signal=B:USR1@120"]
    assert asked[-2:] == [f"--output={tmp_path}/out/logs/slurm-%a.log", "--gres=gpu:1 --time=1:00:00"]
    assert (tmp_path / "out/logs").is_dir()
    assert "#SBATCH --x y" in script("", options="--x\ny").read_text()


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [
        (0, 0, False),
        (1, 0, True),
        (1, 1, True),
        (1, 2, False),
        (2, 0, False),
        (75, 9, True),
        (137, 0, True),
        (143, 0, False),
    ],
)
def test_what_is_queued_again(code, restarts, again, script):
    done = job(script(f'echo "$@"; exit {code}'), SLURM_RESTART_COUNT=str(restarts))
    output = done.communicate()[0]
    assert done.returncode == code
    assert output == "-m dreamer sweep --out=a b --index=5\n"
    requeued = Path("requeued")
    assert (requeued.read_text() if requeued.exists() else "") == ("requeue 77_5\n" if again else "")


@pytest.mark.parametrize(("number", "again"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_run_whose_time_is_over_saves_and_is_queued_again(number, again, script):
    """One that is cancelled only saves; of one that is preempted Slurm itself thinks."""
    text = "trap 'sleep 0.2; echo saved; exit 143' TERM\necho ready\nwhile true; do sleep 0.05; done"
    done = job(script(text))
    assert done.stdout.readline() == "ready\n"
    done.send_signal(number)
    assert done.communicate()[0] == "saved\n"
    assert done.returncode == 143
    assert Path("requeued").exists() == again


def test_submitting(script, program):
    path = script("")
    with pytest.raises(UsageError, match="there is no sbatch here"):
        slurm.submit(path)
    program("sbatch", 'echo "Submitted batch job 12: $1"')
    assert slurm.submit(path) == f"Submitted batch job 12: {path}"
    program("sbatch", "echo 'invalid partition' >&2; exit 1")
    with pytest.raises(UsageError, match="invalid partition"):
        slurm.submit(path)

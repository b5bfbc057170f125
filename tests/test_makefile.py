"""What `make` promises without setting anything up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer import hardware

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_clean_removes_the_demo_and_caches_and_no_other_run(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ("runs/dmc_walker_walk/dreamer/0/scores.json", "runs/published/final.json", "dreamer/demo.py")
    gone = (".venv/bin/python", "runs/demo/curve.png", "runs/watch/dot.gif", "build/lib/a.py", "dist/a.whl")
    gone += ("site/index.html", "dreamer/__pycache__/a.pyc", ".ruff_cache/a", ".mypy_cache/a", ".pytest_cache/a")
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in gone if (tmp_path / name).exists()] == []


@pytest.fixture
def recorder(tmp_path, monkeypatch):
    """A Python that installs nothing: `-m pip` writes its words into the file; and a PATH that begins in tmp_path."""
    python, told = tmp_path / "python", tmp_path / "told"
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >{told}; else exec {sys.executable} "$@"; fi\n', encoding="utf-8"
    )
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return python, told


@pytest.mark.parametrize("found", [True, False])
def test_setup_installs_cuda_where_there_is_a_gpu(found, recorder, tmp_path):
    if not found and hardware.nvidia_gpu():
        pytest.skip("this machine has an NVIDIA GPU")
    python, told = recorder
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{'echo GPU 0: a GPU' if found else 'exit 9'}\n")
    smi.chmod(0o755)
    command = [ROOT / "scripts" / "cuda.sh", python, tmp_path / "stamp"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert (tmp_path / "stamp").exists() == told.exists() == found
    assert done.stdout.count("\n") == found
    if found:
        (pin,) = re.findall(r"^tensorflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
        assert f"CUDA libraries of TensorFlow {pin}" in done.stdout
        # The pins are named too: what the libraries depend on may not move them.
        assert told.read_text().split()[-3:] == ["-r", "requirements.txt", f"tensorflow[and-cuda]=={pin}"]


def test_cuda_is_not_taken_for_installed_when_pip_failed(recorder, tmp_path):
    python, _ = recorder
    python.write_text('#!/bin/sh\n[ "$1" != -m ]\n')
    done = subprocess.run([ROOT / "scripts" / "cuda.sh", python, tmp_path / "stamp"], capture_output=True)
    assert done.returncode == 1
    assert not (tmp_path / "stamp").exists()

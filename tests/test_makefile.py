"""What `make` promises without setting anything up."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_clean_removes_the_demo_and_caches_and_no_other_run(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ("runs/dmc_walker_walk/dreamer/0/scores.json", "runs/published/final.json", "dreamer/demo.py")
    gone = (".venv/bin/python", "runs/demo/curve.png", "dreamer/__pycache__/a.pyc", ".ruff_cache/a", ".pytest_cache/a")
    for name in (*kept, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    assert [name for name in gone if (tmp_path / name).exists()] == []

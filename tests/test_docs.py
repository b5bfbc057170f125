"""The page "Your own environment", pasted and run."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parent.parent / "docs" / "your-own-environment.md"


def block(language):
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return text


def test_the_page_fits_on_a_screen():
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 40


def test_the_page_can_be_pasted_and_run(tmp_path):
    (tmp_path / "my_module.py").write_text(block("python"))
    name, *words = shlex.split(block("sh"))
    assert name == "dreamer"
    # The installed command, which unlike `python -m` does not look for modules in the working directory by itself.
    command = [Path(sys.executable).parent / "dreamer", *words, "--configs", "debug", "--steps", "200"]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "Finished at 200 frames" in done.stdout
    run = tmp_path / "runs" / "gym_my_module_MyEnv-v0" / "dreamer" / "0"
    assert json.loads((run / "scores.json").read_text())["xs"][-1] == 200
    assert "train/discount_loss" in (run / "metrics.jsonl").read_text()
    episodes = [np.load(path) for path in sorted((run / "episodes").glob("*.npz"))]
    assert all(episode["image"].shape[1:] == (64, 64, 3) for episode in episodes)
    assert len(episodes[0]["reward"]) <= 51
    for episode in episodes:
        assert bool(episode["is_terminal"][-1]) == (episode["reward"][-1] == 0)

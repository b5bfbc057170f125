"""The pages of docs/: what they name exists, and what can be pasted runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dreamer
from dreamer import config

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "your-own-environment.md"


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
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
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


def test_every_metric_of_a_run_is_explained_and_no_other(tmp_path):
    words = ("--configs", "toy", "debug", "--model.discount_head", "true", "--loop.eval_episodes", "2")
    command = [sys.executable, "-m", "dreamer", *words, "--steps", "250", "--logdir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    written = {name for line in lines for name in line} - {"step"}
    page = (DOCS / "what-ails-a-run.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"`((?:train|eval|episode|time)/\w+)`", page))
    assert written - explained == set()
    # model.observation contrastive has it in the place of image_loss.
    assert explained - written == {"train/state_loss"}


def test_settings_that_the_page_on_metrics_names_exist():
    page = (DOCS / "what-ails-a-run.md").read_text(encoding="utf-8")
    keys = set(config.load([]).flat())
    sections = {key.partition(".")[0] for key in keys if "." in key}
    named = {name for name in re.findall(r"`(\w+\.\w+)(?: \w+)?`", page) if name.partition(".")[0] in sections}
    assert len(named) > 15
    assert named - keys == set()


def test_the_page_on_the_library_can_be_pasted_and_run(tmp_path):
    """From its first block to its last, and then the script that it names, with the run that it made."""
    page = (DOCS / "library.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = "\n".join(blocks)
    for name in dreamer.__all__:
        assert f"dreamer.{name}(" in code, name
    code += (
        "\nassert total == total and len(rows) == len(dreamer.scores(run)) > 0 and len(lines) > 0 and lengths[0] == 26"
    )
    code += "\nassert dream.images.shape == (1, 10, 64, 64, 3) and seen.shape == (1, 5, 64, 64, 3) and files"
    (tmp_path / "page.py").write_text(code)
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    script = [sys.executable, DOCS / "look_inside.py", "runs/dot", "--out", "dream.png"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("<dreamer of toy_dot after 200 frames")
    with Image.open(tmp_path / "dream.png") as picture:
        assert np.asarray(picture).std() > 10

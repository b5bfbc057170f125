"""The pages of docs/: what they name exists, and what can be pasted runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dreamer
from dreamer import config
from dreamer.run.commits import FORMAT
from dreamer.training.meanings import meaning

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "your-own-environment.md"


def block(language):
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return text


def test_the_way_to_a_first_run_fits_on_a_screen():
    assert len(PAGE.read_text(encoding="utf-8").partition("\n## ")[0].splitlines()) <= 40


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


def command(*words):
    done = subprocess.run([sys.executable, "-m", "dreamer", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has everything a run can have without a fault: a change of settings and an evaluation too."""
    folder = tmp_path_factory.mktemp("run")
    words = ("--configs", "toy", "debug", "--model.discount_head", "true", "--loop.eval_episodes", "2")
    # Episodes of 30 steps: the first update after the resume, before which a state is committed, is in one at 280.
    words += ("--env.time_limit", "30", "--loop.overlap", "true", "--logdir", folder)
    command(*words, "--steps", "230")
    command(*words, "--steps", "300", "--actor.lr", "1e-4", "--resume.allow", "actor.lr")
    command("eval", "--logdir", folder, "--episodes", "1")
    return folder


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_metric_of_a_run_is_explained_and_no_other(run):
    written = {name for line in lines_of(run / "metrics.jsonl") for name in line} - {"step"}
    for page in ("what-ails-a-run.md", "files-of-a-run.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        explained = set(re.findall(r"`((?:train|eval|episode|time)/\w+)`", text))
        # Arrays of a committed state, and GIFs in the events files.
        explained -= {f"episode/{name}" for name in ("begun", "seeds", "lengths", "actions", "action")}
        explained -= {"eval/episode", "eval/open_loop"}
        assert written - explained == set(), page
        # Those that model.observation contrastive has in the place of image_loss, and those of a probe beside it.
        others = {"train/state_loss", *(f"train/probe_{name}" for name in ("loss", "grad_norm", "skipped"))}
        # NAME is that of a vector.
        others |= {"train/vector_NAME_loss", "eval/open_loop_NAME_error", "eval/repeat_frame_NAME_error"}
        assert explained - written == others, page


def test_every_metric_that_the_page_has_is_described_to_tensorboard():
    page = section((DOCS / "files-of-a-run.md").read_text(encoding="utf-8"), "metrics.jsonl")
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+/[\w.]+)`", row)]
    names.remove("episode/info.NAME_last")  # which is called as that of an evaluation
    assert len(names) > 40
    texts = [meaning(name) for name in names]
    assert [name for name, text in zip(names, texts, strict=True) if not text or "{" in text] == []
    assert len(set(texts)) == len(names)
    assert meaning("eval/open_loop_NAME_error").startswith("Squared error of the NAME, ")
    assert meaning("train/other") == meaning("train/klx") == meaning("xtime/training") == ""


def fields(value):
    """Every key of JSON objects in each other, but for the names of metrics."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from fields(item)
    if isinstance(value, dict):
        yield from value


def section(page, title):
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return found


def test_every_file_and_field_of_a_run_stands_in_the_page_about_them(run):
    page = (DOCS / "files-of-a-run.md").read_text(encoding="utf-8")
    entries = {path.relative_to(run).parts[0] for path in run.rglob("*") if path.is_file()}
    entries = {re.sub(r"^events\.out\.tfevents\..*", "events.out.tfevents.*", name) for name in entries}
    assert len(entries) > 10
    named = {name.partition("/")[0] for name in re.findall(r"`([^`]+)`", page.partition("\n## ")[0])}
    assert entries - named == set()

    documents = [path for path in run.iterdir() if path.suffix in (".json", ".jsonl")]
    contents = {
        path.name: lines_of(path) if path.suffix == ".jsonl" else json.loads(path.read_text()) for path in documents
    }
    assert contents["run.json"]["changes"]
    states = [json.loads(path.read_text()) for path in run.glob("checkpoints/*/state.json")]
    for title, content in (*contents.items(), ("Checkpoints", states)):
        explained = set(re.findall(r"`([^`]+)`", section(page, title)))
        assert len(set(fields(content))) > 2, title
        assert set(fields(content)) - explained == set(), title


def test_every_array_and_name_of_a_run_stands_in_the_page_about_them(run):
    page = (DOCS / "files-of-a-run.md").read_text(encoding="utf-8")
    names = set()
    for path in run.glob("checkpoints/*/arrays.npz"):
        with np.load(path) as state:
            names |= {re.sub(r"(step|carry)/.*", r"\1/", name) for name in state.files}
    assert {"episode/step/", "episode/carry/"} <= names
    assert [name for name in names if f"`{name}" not in section(page, "Checkpoints")] == []
    files = {path.name for path in run.glob("checkpoints/*/*")}
    assert [name for name in files if f"`{name}`" not in section(page, "Checkpoints")] == []

    for path in run.glob("episodes/*.npz"):
        assert re.fullmatch(r"\d{10}-\d+\.npz", path.name)
        with np.load(path) as episode:
            for name in episode.files:
                assert f"`{name}`" in section(page, "Episodes"), name
                dtypes = re.findall(
                    rf"^\|[^|]*`{name}`[^|]*\| \[[^]]*\] (\w+) ", section(page, "Episodes"), re.MULTILINE
                )
                assert dtypes in ([str(episode[name].dtype)], []), name
            assert len(episode["reward"]) == int(path.stem.partition("-")[2])
    videos = {re.sub(r"^\d{10}", "F" * 10, path.name) for path in run.glob("videos/*")}
    assert videos == {"FFFFFFFFFF-episode.mp4", "FFFFFFFFFF-open-loop.gif"}
    assert all(f"`{name}`" in section(page, "Videos") for name in videos)


def test_the_page_about_files_tells_the_present_format():
    page = (DOCS / "files-of-a-run.md").read_text(encoding="utf-8")
    assert f"every file in it, format {FORMAT}," in page


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

"""The trained agents that come along, agents/NAME: every later release opens them, and they do their tasks in it."""

import shutil
import statistics
from pathlib import Path

import pytest

import dreamer
from dreamer.cli.main import main
from dreamer.run import formats

AGENTS = Path(__file__).resolve().parent.parent / "agents"
NAMES = sorted(path.name for path in AGENTS.iterdir() if path.is_dir())


def test_there_are_some_and_they_are_small():
    assert len(NAMES) >= 2
    for name in NAMES:
        files = [path for path in (AGENTS / name).rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) < 5e6
        assert dreamer.load(AGENTS / name, precision="float32").frames == dreamer.scores(AGENTS / name)[-1]["frames"]


@pytest.mark.parametrize("name", NAMES)
def test_plays_and_imagines_as_it_did(name, tmp_path):
    folder = shutil.copytree(AGENTS / name, tmp_path / name)
    episodes = "5" if name == "walker_walk" else "1"  # in two of fifty episodes the walker stumbles
    assert main(["eval", "--logdir", str(folder), "--episodes", episodes, "--precision", "float32"]) == 0
    reached = formats.document(folder / "evaluation.json")["returns"]
    assert statistics.median(reached) > 0.85 * dreamer.scores(folder)[-1]["return"]
    words = ["--precision", "float32", "--episodes", "1", "--horizon", "15", "--out", str(tmp_path / "dream.gif")]
    assert main(["imagine", "--logdir", str(folder), *words]) == 0
    assert (tmp_path / "dream.gif").stat().st_size > 1000

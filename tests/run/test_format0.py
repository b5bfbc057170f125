"""format0/ is a run that release 0.1.0 made (toy debug, 150 frames): every later release opens it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer import config
from dreamer.run import legacy, lock, settings
from dreamer.stops import Stops
from dreamer.training import loop
from dreamer.training.recorder import Recorder

FORMAT0 = Path(__file__).parent / "format0"


@pytest.fixture
def logdir(tmp_path):
    return Path(shutil.copytree(FORMAT0, tmp_path / "run"))


def dreamer(*words):
    return subprocess.run([sys.executable, "-m", "dreamer", *map(str, words)], capture_output=True, text=True)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_goes_on(logdir):
    before = files(logdir / "episodes")
    done = dreamer("--configs", "toy", "debug", "--loop.prefill", 50, "--steps", 200, "--logdir", logdir)
    assert done.returncode == 0, done.stderr
    assert "was made by an older release: it goes on from 150 frames in the present format." in done.stderr
    assert before.items() <= files(logdir / "episodes").items()
    assert json.loads((logdir / "scores.json").read_text())["xs"] == [50, 150, 200]
    lines = [json.loads(line) for line in (logdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/updates"] for line in lines if "train/updates" in line] == [2, 4, 6, 8]
    state = json.loads(max((logdir / "checkpoints").glob("*/state.json")).read_text())
    assert (state["stage"], state["frames"], state["updates"]) == ("finished", 200, 8)
    # From here on it is a run of the present format.
    again = dreamer("--configs", "toy", "debug", "--loop.prefill", 50, "--steps", 200, "--logdir", logdir)
    assert "is finished at 200 frames" in again.stdout
    assert "older release" not in again.stdout + again.stderr


def test_it_is_finished_as_it_was(logdir):
    before = files(logdir)
    done = dreamer("--configs", "toy", "debug", "--loop.prefill", 50, "--steps", 150, "--logdir", logdir)
    assert (done.returncode, "is finished at 150 frames" in done.stdout) == (0, True), done.stderr
    assert files(logdir).items() - {(".lock", b"")} == before.items()


def test_it_is_evaluated_and_imagined(logdir, tmp_path):
    done = dreamer("eval", "--logdir", logdir, "--episodes", 2)
    assert done.returncode == 0, done.stderr
    assert "dot, dreamer of seed 0 after 150 frames, 6 updates" in done.stdout
    done = dreamer("imagine", "--logdir", logdir, "--out", tmp_path / "dream.gif")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dream.gif").stat().st_size > 0


def test_it_stays_one_until_there_is_a_state_in_the_present_format(logdir, monkeypatch):
    """A start that is killed before must not leave what a later one takes for a run without states."""
    run = config.load(["toy", "debug"], {"loop.prefill": "50", "steps": "200"})
    before = files(logdir)

    def killed(self, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "commit", killed)
    with pytest.raises(KeyboardInterrupt), lock.exclusive(logdir):
        loop.train(settings.agree(run, logdir), logdir, Stops())
    after = files(logdir)
    assert legacy.is_legacy(logdir)
    assert "run.json" not in after
    assert {
        path: content for path, content in before.items() if path.endswith((".npz", ".yaml", "checkpoint"))
    }.items() <= after.items()
    assert Recorder(settings.agree(run, logdir), logdir).state.frames == 150

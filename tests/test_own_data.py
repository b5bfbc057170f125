"""docs/your-own-data.md: what can be pasted runs, and its commands are ones."""

import re
import shlex
from pathlib import Path

import numpy as np

from dreamer.cli.importing import import_episodes
from dreamer.cli.learn import OWN
from dreamer.cli.main import main
from dreamer.cli.train import parse_train
from dreamer.config import describe
from dreamer.replay.episodes import load, stored_paths

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "your-own-data.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_recording_of_the_page_can_be_imported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (python,), (_, take, _) = blocks("python"), blocks("sh")
    exec(python, {})
    name, command, *words = shlex.split(take.replace("\\\n", ""))
    assert (name, command) == ("dreamer", "import")
    assert import_episodes(words) == 0
    assert "robot: 2 episodes, 40 steps taken as arrays; 0 refused" in capsys.readouterr().out
    episodes = [load(path) for path in stored_paths(tmp_path / "robot")]
    np.testing.assert_array_equal(episodes[1]["action"][1:, 0], np.sin(np.arange(20, 40)).astype(np.float32))
    assert [bool(episode["is_terminal"][-1]) for episode in episodes] == [True, False]


def test_the_trainings_of_the_page_are_understood():
    for command in (block for block in blocks("sh") if "learn" in block):
        assert shlex.split(command)[:2] == ["dreamer", "learn"]
        given = parse_train(shlex.split(command)[2:])
        assert {"from", "updates"} <= given.overrides.keys() <= {"from", "updates", "task"}


def test_options_of_the_page_are_those_of_the_commands(capsys):
    assert main(["import", "--help"]) == main(["learn", "--help"]) == main(["plot", "--help"]) == 0
    options = set(re.findall(r"--[a-z][a-z_.-]*\b", capsys.readouterr().out))
    keys = {f"--{key.name}" for key in describe()}
    for option in re.findall(r"--[a-z][a-z_.-]*\b", PAGE):
        assert option in options | keys, option


def test_what_a_run_keeps_to_itself_are_keys():
    assert set(OWN) <= {key.name for key in describe()}

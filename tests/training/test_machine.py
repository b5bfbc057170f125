import json
import subprocess

import pytest

from dreamer import DISTRIBUTION, __version__
from dreamer.training import machine


def test_every_start_is_a_line(tmp_path):
    machine.record(tmp_path / "run", 0)
    machine.record(tmp_path / "run", 5000)
    first, second = map(json.loads, (tmp_path / "run" / "machines.jsonl").read_text().splitlines())
    assert (first.pop("step"), second.pop("step")) == (0, 5000)
    assert first == second
    assert first["precision"] == "float32"
    assert first["cores"] >= 1
    assert isinstance(first["gpus"], list)
    assert all(
        isinstance(first[key], str) and first[key] for key in ("cpu", "dreamer", "commit", "python", "tensorflow")
    )
    assert first["clean"] in (True, False, None)


def test_the_processors_name(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: A processor @ 2.0GHz \nmodel name\t: another\n")
    assert machine.processor(path) == "A processor @ 2.0GHz"
    path.write_text("processor\t: 0\n")
    assert machine.processor(path) == machine.processor(tmp_path / "absent") != ""


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "a.py").write_text("a = 1\n")
    (folder / ".gitignore").write_text("/runs/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_the_commit_and_whether_anything_was_changed(checkout, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    (checkout / "runs").mkdir()
    (checkout / "runs" / "scores.json").touch()
    monkeypatch.setenv("GIT_DIR", "/no/such/repository")  # as in a hook of git
    assert machine.software(checkout) == (commit, True)
    (checkout / "b.py").touch()
    assert machine.software(checkout) == (commit, False)
    (checkout / "b.py").unlink()
    (checkout / "a.py").write_text("a = 2\n")
    assert machine.software(checkout) == (commit, False)


def test_the_version_where_there_is_no_repository_of_ours(checkout, monkeypatch):
    versions = {DISTRIBUTION: "7.0"}
    monkeypatch.setattr(machine.metadata, "version", versions.__getitem__)
    installed = checkout / "site-packages"
    installed.mkdir()
    assert machine.software(installed) == ("7.0", None)
    monkeypatch.setenv("PATH", str(installed))  # no git
    assert machine.software(checkout) == ("7.0", None)


def test_the_version_of_what_was_not_installed(tmp_path, monkeypatch):
    def version(name):
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "version", version)
    assert machine.software(tmp_path) == (__version__, None)

import errno
import os
from pathlib import Path

import pytest

from dreamer.run.files import replacing, replacing_folder


@pytest.fixture
def happened(monkeypatch):
    """What is brought to the disk and renamed, in order."""
    events, fsync, replace = [], os.fsync, os.replace

    def note_sync(descriptor):
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def note_replace(source, target):
        events.append(("rename", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    return events


def test_bytes_reach_the_disk_before_the_rename_and_the_rename_before_the_return(tmp_path, happened):
    path = tmp_path / "new" / "scores.json"
    with replacing(path) as temporary:
        temporary.write_text("{}")
    assert happened == [("sync", temporary), ("rename", path), ("sync", path.parent)]
    assert path.read_text() == "{}"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file(tmp_path, happened):
    path = tmp_path / "scores.json"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise KeyError

    with pytest.raises(KeyError), replacing(path) as temporary:
        fail(temporary)
    assert happened == []
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "old").touch()
    (tmp_path / "link").symlink_to("real")
    with replacing_folder(tmp_path / "link") as temporary:
        (temporary / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["link", "real", "real/new"]


@pytest.mark.parametrize("given", [Path(), "absolute"])
def test_the_working_directory_is_not_taken_from_under_whoever_stands_in_it(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(OSError, match="working directory") as refused,
        replacing_folder(tmp_path if given == "absolute" else given),
    ):
        pass
    assert refused.value.errno == errno.EBUSY
    assert os.listdir() == []


def test_a_mounted_directory_is_refused_before_anything_is_made():
    refusal = "a mounted directory cannot be replaced, name one inside it: '/proc'"
    with pytest.raises(OSError, match=refusal), replacing_folder(Path("/proc")):
        pass

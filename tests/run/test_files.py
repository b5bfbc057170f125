import os
from pathlib import Path

import pytest

from dreamer.run.files import replacing


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

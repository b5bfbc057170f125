import json
import os

import numpy as np
import pytest

from dreamer.run.commits import KEPT, CommitError, Commits


def write(commits, frames, score=None, weights=b"w" * 100):
    arrays = {"episode/reward": np.arange(3, dtype=np.float32) + frames}
    return commits.write({"frames": frames, "score": score}, arrays, lambda prefix: prefix.write_bytes(weights))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def commits(tmp_path):
    return Commits(tmp_path / "checkpoints")


def test_what_was_committed_comes_back(commits):
    assert commits.newest(pytest.fail) is None
    folder = write(commits, 7)
    commit = commits.newest(pytest.fail)
    assert commit.folder == folder
    assert commit.state["frames"] == 7
    np.testing.assert_array_equal(commit.arrays["episode/reward"], [7, 8, 9])
    assert (folder / "weights").read_bytes() == b"w" * 100


def test_the_newest_two_stay_and_the_best(commits, tmp_path):
    assert KEPT == 2
    for frames, score in ((1, None), (2, 50.0), (3, 90.0), (4, None), (5, 90.0), (6, 10.0), (7, None), (8, None)):
        write(commits, frames, score)
    # Of two evaluations that are equally good the later one stays.
    assert names(tmp_path / "checkpoints") == ["000005", "000007", "000008"]
    assert commits.best(pytest.fail).state["frames"] == 5
    assert commits.newest(pytest.fail).state["frames"] == 8


def test_without_an_evaluation_there_is_no_best(commits):
    assert commits.best(pytest.fail) is None
    write(commits, 1)
    write(commits, 2)
    assert commits.best(pytest.fail) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("weights", "it was the best one, and the newest is used in its place"),
        ("state.json", "whether it was the best one is not known"),
    ],
)
def test_a_best_state_that_is_damaged_is_told_once(commits, name, told):
    write(commits, 1, score=9.0)
    write(commits, 2)
    folder = write(commits, 3)
    damaged, said = folder.with_name("000001") / name, []
    damaged.write_bytes(b"")
    assert commits.best(said.append) is None
    (line,) = said
    assert line.startswith(f"{damaged} is damaged: ")
    assert line.endswith(told)


def test_a_newest_state_that_is_the_best_and_damaged_is_told_by_who_looks_for_the_newest(commits):
    write(commits, 1)
    (write(commits, 2, score=9.0) / "weights").write_bytes(b"")
    assert commits.best(pytest.fail) is None


def test_a_best_state_that_a_better_one_has_replaced_meanwhile_is_an_error_to_try_again(commits, monkeypatch):
    write(commits, 1, score=9.0)
    write(commits, 2)
    read = Commits.read

    def replaced(commits, folder):
        write(commits, 3, score=10.0)
        return read(commits, folder)

    monkeypatch.setattr(Commits, "read", replaced)
    with pytest.raises(CommitError, match="000001"):
        commits.best(pytest.fail)


@pytest.mark.parametrize("name", ["state.json", "arrays.npz", "weights"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "changed", "gone", "zeros"])
def test_a_damaged_state_gives_way_to_the_one_before_it(commits, name, damage):
    write(commits, 1)
    path = write(commits, 2) / name
    content = path.read_bytes()
    middle = len(content) // 2
    changed = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"truncated": content[:-7], "changed": changed, "zeros": bytes(len(content))}.get(damage, b""))
    if damage == "gone":
        path.unlink()
    said = []
    assert commits.newest(said.append).state["frames"] == 1
    assert len(said) == 1
    assert str(path) in said[0]
    assert "1 frames" in said[0]


def test_a_state_with_another_number_in_it_is_noticed(commits):
    write(commits, 1)
    path = write(commits, 2) / "state.json"
    path.write_text(path.read_text().replace('"frames": 2', '"frames": 3'))
    said = []
    assert commits.newest(said.append).state["frames"] == 1
    assert "checksum" in said[0]


def test_damage_everywhere_is_an_error(commits):
    for frames in (1, 2):
        (write(commits, frames) / "weights").write_bytes(b"")
    with pytest.raises(CommitError, match="no state committed before it is sound"):
        commits.newest(pytest.fail)


def test_a_newer_format_is_refused_by_name(commits):
    path = write(commits, 1) / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"format": 99}))
    with pytest.raises(CommitError, match="has format 99, and this release of dreamer reads format 1"):
        commits.newest(pytest.fail)


def test_a_write_that_fails_leaves_nothing_of_it(commits, tmp_path):
    write(commits, 1)

    def full(prefix):
        prefix.write_bytes(b"half")
        prefix.with_name("weights_temp").mkdir()  # where TensorFlow writes at first
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        commits.write({"frames": 2, "score": None}, {}, full)
    assert names(tmp_path / "checkpoints") == ["000001"]
    assert commits.newest(pytest.fail).state["frames"] == 1


def test_everything_reaches_the_disk_before_it_gets_its_name(commits, monkeypatch):
    """fsync of every file and of the folder, then the rename, then fsync of the folder above."""
    happened, fsync, rename = [], os.fsync, os.rename

    def note_sync(descriptor):
        happened.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(source, target):
        happened.append("rename")
        rename(source, target)

    write(commits, 1)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    write(commits, 2)
    at = happened.index("rename")
    assert set(happened[: at - 1]) == {"state.json", "arrays.npz", "weights"}
    assert happened[at - 1] == ".000002.partial"
    assert happened[at + 1] == "checkpoints"


def test_leftovers_of_a_crash_are_written_over(commits, tmp_path):
    write(commits, 1)
    partial = tmp_path / "checkpoints" / ".000002.partial"
    partial.mkdir()
    (partial / "weights").write_bytes(b"half")
    (partial / "weights_temp").mkdir()  # where TensorFlow writes at first
    (partial / "weights_temp" / "part-0").write_bytes(b"half")
    for name in (".000000.old", ".000003.damaged", ".000007.partial"):
        (tmp_path / "checkpoints" / name).mkdir()
        (tmp_path / "checkpoints" / name / "state.json").write_bytes(b"half")
    assert commits.newest(pytest.fail).state["frames"] == 1
    write(commits, 2)
    assert names(tmp_path / "checkpoints") == ["000001", "000002"]


def test_a_removal_that_was_cut_short_does_not_hinder_the_next_one(commits, tmp_path):
    write(commits, 1)
    commit = commits.newest(pytest.fail)
    write(commits, 2)
    (tmp_path / "checkpoints" / ".000002.damaged" / "weights_temp").mkdir(parents=True)
    commits.drop_after(commit)
    assert names(tmp_path / "checkpoints") == ["000001"]


def test_going_back_forgets_what_came_after(commits, tmp_path):
    write(commits, 1)
    commit = commits.newest(pytest.fail)
    (write(commits, 2) / "weights").write_bytes(b"")
    commits.drop_after(commit)
    assert names(tmp_path / "checkpoints") == ["000001"]
    commits.drop_after(None)
    assert names(tmp_path / "checkpoints") == []

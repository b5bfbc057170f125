import contextlib
import errno
import logging
import os
import pathlib
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from dreamer.replay import episodes as module
from dreamer.replay.episodes import DamagedEpisodeError, EpisodeStore, ReplayError, StoredEpisode


def window(count, width=2):
    """Make empty arrays for a window of an episode."""
    return {
        "image": np.empty((count, 64, 64, 3), np.uint8),
        "action": np.empty((count, width), np.float32),
        "reward": np.empty(count, np.float32),
        "discount": np.empty(count, np.float32),
    }


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def run_python(code, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    root = pathlib.Path(module.__file__).parents[2]
    return subprocess.Popen(command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_name_and_frames_count_environment_frames(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2)
    assert (store.frames, store.steps, len(store), store.action_size) == (0, 0, 0, None)
    first = store.add(make_episode(1, 11))
    second = store.add(make_episode(2, 4))
    assert first == tmp_path / "0000000000-11.npz"
    assert second == tmp_path / "0000000020-4.npz"
    assert store.frames == 20 + 3 * 2
    assert store.steps == 10 + 3
    assert store.paths() == [first, second]
    assert names(tmp_path) == ["0000000000-11.npz", "0000000020-4.npz"]


def test_restart_keeps_frames_order_and_action_size(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=4)
    for number in range(3):
        store.add(make_episode(number, 5 + number))
    again = EpisodeStore(tmp_path, action_repeat=4)
    assert again.frames == (4 + 5 + 6) * 4 == store.frames
    assert again.paths() == store.paths()
    assert again.action_size == 2
    assert again.add(make_episode(3, 3)).name == "0000000060-3.npz"


def test_load_and_numpy_give_back_what_was_added(tmp_path, make_episode):
    episode = make_episode(7, 6, terminal=True)
    for compress in (False, True):
        store = EpisodeStore(tmp_path / str(compress), action_repeat=1, compress=compress)
        path = store.add(episode)
        with np.load(path, allow_pickle=False) as by_numpy:
            for arrays in (store.load(path), by_numpy):
                assert set(arrays) == set(episode)
                for key, value in episode.items():
                    np.testing.assert_array_equal(arrays[key], value)
                    assert arrays[key].dtype == value.dtype
    plain, small = (next((tmp_path / name).iterdir()).stat().st_size for name in ("False", "True"))
    assert small < plain / 10


def test_wider_floats_are_stored_as_float32(tmp_path, make_episode):
    episode = make_episode(0, 4)
    episode["reward"] = np.array([0, 0.1, 0.2, 0.3], np.float64)
    loaded = EpisodeStore(tmp_path, action_repeat=1).load(EpisodeStore(tmp_path, action_repeat=1).add(episode))
    assert loaded["reward"].dtype == np.float32
    np.testing.assert_array_equal(loaded["reward"], np.array([0, 0.1, 0.2, 0.3], np.float32))


def test_numbers_of_info_alone_may_be_nan(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2)
    for name, shape, fine in (("info.x", (5,), True), ("info.x", (5, 1), False), ("infox", (5,), False)):
        episode = make_episode(1, 5) | {name: np.full(shape, np.nan, np.float32)}
        with contextlib.nullcontext() if fine else pytest.raises(ReplayError, match=f"{name} has values that are not"):
            path = store.add(episode)
    assert np.isnan(store.load(path)["info.x"]).all()


def half_reward(e):
    e["reward"] = e["reward"].astype(np.float16)


def int_action(e):
    e["action"] = e["action"].astype(np.int64)


def float_image(e):
    e["image"] = e["image"].astype(np.float32)


def small_image(e):
    e["image"] = e["image"][:, :32]


def uneven(e):
    e["action"] = e["action"][:-1]


def one_step(e):
    e.update({key: value[:1] for key, value in e.items()})
    e["is_last"] = np.array([True])


def no_discount(e):
    del e["discount"]


def first_action(e):
    e["action"][0, 1] = 0.5


def first_reward(e):
    e["reward"][0] = 0.5


def not_first(e):
    e["is_first"][0] = False


def first_twice(e):
    e["is_first"][2] = True


def not_last(e):
    e["is_last"][-1] = False


def early_terminal(e):
    e["is_terminal"][1], e["discount"][1] = True, 0


def time_limit_as_terminal(e):
    e["discount"][-1] = 0


def nan_reward(e):
    e["reward"][2] = np.nan


def overflowing_reward(e):
    e["reward"] = e["reward"].astype(np.float64)
    e["reward"][2] = 1e300


def flat_action(e):
    e["action"] = e["action"][:, 0]


def int_flag(e):
    e["is_first"] = e["is_first"].astype(np.int32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (half_reward, "reward is float16, must be float32 or wider"),
        (int_action, "action is int64"),
        (float_image, "image is float32, must be uint8"),
        (small_image, r"image has shape \(5, 32, 64, 3\)"),
        (uneven, "action has shape .* reward has 5 steps"),
        (one_step, "1 step.*at least 2"),
        (no_discount, "missing discount"),
        (first_action, "action must be zero"),
        (first_reward, "reward must be zero"),
        (not_first, "is_first must be True at step 0"),
        (first_twice, "is_first must be True at step 0 and nowhere else"),
        (not_last, "is_last must be True at the last step"),
        (early_terminal, "is_terminal is True before the last step"),
        (time_limit_as_terminal, "discount must be 0 where is_terminal"),
        (nan_reward, "reward has values that are not finite"),
        (overflowing_reward, "reward has values that are not finite in float32"),
        (flat_action, r"action has shape \(5,\)"),
        (int_flag, "is_first is int32, must be bool"),
    ],
)
def test_unsound_episode_is_refused_in_one_line(tmp_path, make_episode, spoil, message):
    store = EpisodeStore(tmp_path, action_repeat=2)
    episode = make_episode(1, 5)
    spoil(episode)
    with pytest.raises(ReplayError, match=message) as caught:
        store.add(episode)
    assert "\n" not in str(caught.value)
    assert (names(tmp_path), store.frames, len(store)) == ([], 0, 0)


def test_action_of_another_width_is_refused(tmp_path, make_episode):
    EpisodeStore(tmp_path, action_repeat=2).add(make_episode(1, 5))
    other = make_episode(2, 5)
    other["action"] = np.zeros((5, 3), np.float32)
    with pytest.raises(ReplayError, match="action is 3 wide, those stored are 2"):
        EpisodeStore(tmp_path, action_repeat=2).add(other)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="action_repeat is 0"):
        EpisodeStore(tmp_path, action_repeat=0)
    with pytest.raises(ValueError, match="capacity is -1"):
        EpisodeStore(tmp_path, action_repeat=1, capacity=-1)


@pytest.mark.parametrize("kind", ["ours", "compressed", "savez", "savez_compressed", "fortran", "wide"])
def test_rows_of_every_kind_of_file(tmp_path, make_episode, kind):
    store = EpisodeStore(tmp_path, action_repeat=1, compress=kind == "compressed")
    episode = make_episode(3, 300, terminal=True)
    if kind in ("ours", "compressed"):
        store.add(episode)
    else:
        written = dict(episode)
        if kind == "fortran":
            written["image"] = np.asfortranarray(episode["image"])
            written["action"] = np.asfortranarray(episode["action"])
        if kind == "wide":
            written["reward"] = episode["reward"].astype(">f8")
        save = np.savez_compressed if kind == "savez_compressed" else np.savez
        save(tmp_path / "0000000000-300.npz", **written)
        store = EpisodeStore(tmp_path, action_repeat=1)
    for start, count in ((0, 3), (137, 20), (298, 2), (0, 300)):
        out = window(count)
        store.read_rows(store.episodes()[0], start, out)
        for key, rows in out.items():
            np.testing.assert_array_equal(rows, episode[key][start : start + count])


def test_rows_outside_of_the_episode_are_a_mistake_of_the_caller(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1)
    store.add(make_episode(0, 5))
    stored = store.episodes()[0]
    for start, out in ((3, window(3)), (-1, window(2)), (0, window(2, width=3))):
        with pytest.raises(IndexError, match=r"0000000000-5\.npz"):
            store.read_rows(stored, start, out)
    assert names(tmp_path) == ["0000000000-5.npz"]


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs /proc/self/io")
def test_a_window_reads_little_more_than_its_rows(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1)
    size = store.add(make_episode(0, 400)).stat().st_size
    out = window(10)
    wanted = sum(rows.nbytes for rows in out.values())

    def read_so_far():
        return int(pathlib.Path("/proc/self/io").read_text().split()[1])

    before = read_so_far()
    store.read_rows(store.episodes()[0], 300, out)
    store.read_rows(store.episodes()[0], 100, out)
    read = read_so_far() - before
    assert 2 * wanted <= read < 2 * wanted + 100_000 < size / 10


def test_start_up_looks_at_names_only(tmp_path):
    for number in range(5000):
        (tmp_path / f"{number * 1000:010d}-501.npz").touch()  # nothing in them: reading any would set it aside
    store = EpisodeStore(tmp_path, action_repeat=2)
    assert len(store) == 5000
    assert store.frames == 5_000_000


def test_start_up_removes_leftovers_and_sets_foreign_files_aside(tmp_path, make_episode, caplog):
    store = EpisodeStore(tmp_path, action_repeat=2)
    store.add(make_episode(1, 5))
    (tmp_path / "0000000008-5.npz.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "holiday.npz").write_bytes(b"foreign")
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "holiday.npz").write_bytes(b"older")
    (tmp_path / "8-5.npz").write_bytes(b"not our way of writing 8")
    with caplog.at_level(logging.WARNING):
        again = EpisodeStore(tmp_path, action_repeat=2)
    assert again.paths() == store.paths()
    assert again.frames == 8
    assert names(tmp_path) == ["0000000000-5.npz", "notes.txt", "quarantine"]
    set_aside = tmp_path / "quarantine"
    assert names(set_aside) == ["8-5.npz", "8-5.txt", "holiday.2.npz", "holiday.2.txt", "holiday.npz"]
    assert (set_aside / "holiday.npz").read_bytes() == b"older"
    assert (set_aside / "holiday.2.npz").read_bytes() == b"foreign"
    assert (set_aside / "8-5.txt").read_text().endswith("8-5.npz is not named like an episode\n")
    assert sorted(record.args[0].split("/")[-1].split()[0] for record in caplog.records) == ["8-5.npz", "holiday.npz"]


def test_frames_of_a_file_set_aside_still_count(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2)
    store.add(make_episode(1, 5))
    store.add(make_episode(2, 6))
    store.set_aside(store.episodes()[1], "damaged for the test")
    assert store.frames == 18
    assert (len(store), store.steps) == (1, 4)
    again = EpisodeStore(tmp_path, action_repeat=2)
    assert again.frames == 18
    assert again.add(make_episode(3, 5)).name == "0000000018-5.npz"
    assert names(tmp_path) == ["0000000000-5.npz", "0000000018-5.npz", "quarantine"]
    assert (tmp_path / "quarantine" / "0000000008-6.txt").read_text() == "damaged for the test\n"
    # Releases up to 0.1 renamed it instead.
    (tmp_path / "quarantine" / "0000000008-6.npz").rename(tmp_path / "0000000026-3.npz.bad")
    assert EpisodeStore(tmp_path, action_repeat=2).frames == 30


@pytest.mark.parametrize("compress", [False, True])
def test_a_file_cut_anywhere_is_recognised(tmp_path, make_episode, compress):
    sound = EpisodeStore(tmp_path / "sound", action_repeat=1, compress=compress)
    content = sound.add(make_episode(1, 5)).read_bytes()
    (tmp_path / "cut").mkdir()
    path = tmp_path / "cut" / "0000000000-5.npz"
    for size in np.linspace(0, len(content) - 1, 40).astype(int):
        path.write_bytes(content[:size])
        store = EpisodeStore(tmp_path / "cut", action_repeat=1)
        with pytest.raises(DamagedEpisodeError, match=r"0000000000-5\.npz"):
            store.read_rows(store.episodes()[0], 1, window(3))
        with pytest.raises(DamagedEpisodeError, match=r"0000000000-5\.npz"):
            store.load(path)


def test_a_file_cut_after_it_was_first_read_is_recognised(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1)
    path = store.add(make_episode(1, 9))
    store.read_rows(store.episodes()[0], 5, window(4))
    os.truncate(path, 7 * 64 * 64 * 3)
    with pytest.raises(DamagedEpisodeError, match="cannot be read as an episode"):
        store.read_rows(store.episodes()[0], 5, window(4))


def test_scrambled_bytes_never_raise_anything_else(tmp_path, make_episode):
    rng = np.random.default_rng(0)
    content = EpisodeStore(tmp_path / "sound", action_repeat=1).add(make_episode(1, 3)).read_bytes()
    (tmp_path / "new").mkdir()
    path = tmp_path / "new" / "0000000000-3.npz"
    for _ in range(200):
        scrambled = bytearray(content)
        for _ in range(20):  # the zip directory at the end, where the damage is worst
            scrambled[-int(rng.integers(1, 900))] = int(rng.integers(256))
        path.write_bytes(scrambled)
        store = EpisodeStore(tmp_path / "new", action_repeat=1)
        try:
            store.read_rows(store.episodes()[0], 0, window(3))
        except DamagedEpisodeError as error:
            assert "\n" not in str(error)  # noqa: PT017  (damage in a place that nobody reads raises nothing)


def spoilt_member(key, value):
    def spoil(episode):
        episode[key] = value(episode[key])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.pop("reward"), "reward"),
        (spoilt_member("reward", lambda a: a.astype(np.float16)), "reward is float16"),
        (spoilt_member("image", lambda a: a.astype(np.float32)), "image is float32"),
        (spoilt_member("discount", lambda a: a[:-1]), r"discount has shape \(4,\)"),
        (spoilt_member("action", lambda a: a[:, 0]), "action has shape"),
        (spoilt_member("reward", lambda a: np.array([{}] * 5, object)), "reward"),
    ],
)
def test_a_foreign_archive_is_recognised(tmp_path, make_episode, spoil, message):
    episode = make_episode(1, 5)
    spoil(episode)
    np.savez(tmp_path / "0000000000-5.npz", **episode)
    store = EpisodeStore(tmp_path, action_repeat=1)
    with pytest.raises(DamagedEpisodeError, match=message):
        store.read_rows(store.episodes()[0], 0, window(5))


def test_an_episode_is_as_long_as_its_name_says(tmp_path, make_episode):
    np.savez(tmp_path / "0000000000-6.npz", **make_episode(1, 5))
    store = EpisodeStore(tmp_path, action_repeat=1)
    with pytest.raises(DamagedEpisodeError, match=r"expected \(6,"):
        store.read_rows(StoredEpisode(0, 6), 0, window(2))


def test_action_size_skips_a_damaged_newest_file(tmp_path, make_episode):
    EpisodeStore(tmp_path, action_repeat=1).add(make_episode(1, 5))
    (tmp_path / "0000000004-5.npz").write_bytes(b"cut")
    store = EpisodeStore(tmp_path, action_repeat=1)
    assert store.action_size == 2
    assert names(tmp_path) == ["0000000000-5.npz", "quarantine"]


def test_capacity_deletes_the_oldest_and_never_the_newest(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2, capacity=10)
    for number in range(4):
        store.add(make_episode(number, 6))  # 5 agent steps each
        assert store.steps <= 10
    assert names(tmp_path) == ["0000000020-6.npz", "0000000030-6.npz"]
    store.add(make_episode(5, 31))
    assert names(tmp_path) == ["0000000040-31.npz"]
    assert (store.steps, store.frames) == (30, 100)
    again = EpisodeStore(tmp_path, action_repeat=2, capacity=10)
    assert (again.steps, again.frames) == (30, 100)


def test_capacity_holds_at_start_up(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2)
    for number in range(4):
        store.add(make_episode(number, 6))
    EpisodeStore(tmp_path, action_repeat=2, capacity=14)
    assert names(tmp_path) == ["0000000020-6.npz", "0000000030-6.npz"]


def test_a_hold_defers_deletion_of_what_it_saw_only(tmp_path, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1, capacity=5)
    store.add(make_episode(0, 6))
    early, seen = store.hold()
    store.add(make_episode(1, 6))
    assert len(store) == 1  # at once out of the draw
    late, _ = store.hold()
    assert names(tmp_path) == ["0000000000-6.npz", "0000000005-6.npz"]
    store.read_rows(seen[0], 0, window(6))
    store.release(early)
    assert names(tmp_path) == ["0000000005-6.npz"]
    store.add(make_episode(2, 6))
    assert names(tmp_path) == ["0000000005-6.npz", "0000000010-6.npz"]
    store.release(late)
    assert names(tmp_path) == ["0000000010-6.npz"]


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, make_episode, monkeypatch, failing):
    store = EpisodeStore(tmp_path, action_repeat=2)
    kept = store.add(make_episode(1, 5))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*((module.os, "fsync") if failing == "fsync" else (pathlib.Path, "rename")), full)
        with pytest.raises(ReplayError, match=r"0000000008-6\.npz.*No space left on device") as caught:
            store.add(make_episode(2, 6))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == [kept.name]
    assert (store.frames, len(store)) == (8, 1)
    assert store.add(make_episode(2, 6)).name == "0000000008-6.npz"


def test_an_episode_is_on_the_disk_before_its_name_is_and_the_name_before_add_returns(
    tmp_path, make_episode, monkeypatch
):
    happened, fsync, rename = [], os.fsync, pathlib.Path.rename

    def note_sync(descriptor):
        happened.append(("sync", pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def note_rename(path, target):
        happened.append(("rename", target.name))
        return rename(path, target)

    store = EpisodeStore(tmp_path / "episodes", action_repeat=1)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(pathlib.Path, "rename", note_rename)
    store.add(make_episode(1, 5))
    name = "0000000000-5.npz"
    assert happened == [("sync", f"{name}.tmp"), ("rename", name), ("sync", "episodes")]


def counted_parses(monkeypatch):
    """The files whose zip directory is read from now on, each as often as it is."""
    parsed, read_layout = [], module.read_layout

    def note(file, keys):
        parsed.append(os.fstat(file.fileno()).st_size)
        return read_layout(file, keys)

    monkeypatch.setattr(module, "read_layout", note)
    return parsed


def test_one_of_many_files_that_are_alike_tells_where_the_rows_of_all_are(tmp_path, make_episode, monkeypatch):
    """To find that out takes longer than to read a short episode, and memory for each of a million of them."""
    episodes = [make_episode(number, length) for number, length in enumerate([6, 6, 9, 6, 9, 6])]
    store = EpisodeStore(tmp_path, action_repeat=1)
    for episode in episodes:
        store.add(episode)
    parsed = counted_parses(monkeypatch)
    for start, count in ((0, 6), (2, 3), (5, 1)):
        for stored, episode in zip(store.episodes(), episodes, strict=True):
            out = window(count)
            store.read_rows(stored, start, out)
            for key, rows in out.items():
                np.testing.assert_array_equal(rows, episode[key][start : start + count])
    assert len(parsed) == len(set(parsed)) == 2  # one of each length


def test_a_file_that_is_unlike_the_others_of_its_length_is_read_all_the_same(tmp_path, make_episode):
    """Members in another order, of as many bytes: what is known of the others would give rows of something else."""
    episodes = [make_episode(number, 6) for number in range(3)]
    EpisodeStore(tmp_path, action_repeat=1).add(episodes[0])
    np.savez(tmp_path / "0000000005-6.npz", **dict(reversed(episodes[1].items())))
    assert len({path.stat().st_size for path in tmp_path.iterdir()}) == 1
    store = EpisodeStore(tmp_path, action_repeat=1)
    for _ in range(2):
        for stored, episode in zip(store.episodes(), episodes, strict=False):
            out = window(6)
            store.read_rows(stored, 0, out)
            for key, rows in out.items():
                np.testing.assert_array_equal(rows, episode[key])


@pytest.mark.parametrize("length", [5, 700], ids=["read whole", "read by rows"])
def test_damage_is_recognised_in_a_file_like_one_that_was_read(tmp_path, make_episode, length):
    store = EpisodeStore(tmp_path, action_repeat=1)
    store.add(make_episode(1, length))
    path = store.add(make_episode(2, length))
    sound, bad = store.episodes()
    store.read_rows(sound, 1, window(4))
    content = path.read_bytes()
    for size in np.linspace(0, len(content) - 1, 20).astype(int):
        path.write_bytes(content[:size])
        with pytest.raises(DamagedEpisodeError, match=path.name):
            store.read_rows(bad, 1, window(4))
    for key in ("image", "action", "reward", "discount"):
        at = content.index(f"{key}.npy".encode())
        for where in (at, content.index(b"descr", at)):
            path.write_bytes(content[:where] + b"?" + content[where + 1 :])
            with pytest.raises(DamagedEpisodeError, match=path.name):
                store.read_rows(bad, 1, window(4))
    path.write_bytes(content)
    store.read_rows(bad, 1, window(4))
    path.unlink()
    with pytest.raises(DamagedEpisodeError, match="is gone"):
        store.read_rows(bad, 1, window(4))


STEADY_WRITER = """
    import sys, resource, signal, numpy as np
    from dreamer.replay.episodes import EpisodeStore, ReplayError
    L = 60
    step = np.arange(L)
    episode = dict(
        image=np.full((L, 64, 64, 3), 7, np.uint8), action=np.zeros((L, 2), np.float32),
        reward=np.zeros(L, np.float32), discount=np.ones(L, np.float32),
        is_first=step == 0, is_last=step == L - 1, is_terminal=np.zeros(L, bool))
"""


def test_a_write_that_the_system_refuses_midway(tmp_path):
    code = textwrap.dedent(STEADY_WRITER) + textwrap.dedent("""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = EpisodeStore(sys.argv[1], action_repeat=2)
        store.add(episode)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            store.add(episode)
        except ReplayError as error:
            print(error, store.frames)
    """)
    process = run_python(code, tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "File too large 118" in out
    assert out.count("\n") == 1
    assert names(tmp_path) == ["0000000000-60.npz"]
    assert EpisodeStore(tmp_path, action_repeat=2).frames == 118


def test_a_killed_writer_leaves_whole_episodes_only(tmp_path):
    code = textwrap.dedent(STEADY_WRITER) + textwrap.dedent("""
        store = EpisodeStore(sys.argv[1], action_repeat=2)
        while True:
            store.add(episode)
    """)
    total, leftovers, kills = 0, 0, 0
    while kills < 5 or not leftovers:  # go on until a kill has hit the middle of a write
        kills += 1
        process = run_python(code, tmp_path)
        while process.poll() is None:
            listed = names(tmp_path)
            if len(listed) > total and listed[-1].endswith(".tmp"):
                process.kill()
                break
            time.sleep(0.0005)
        process.communicate()
        leftovers += any(name.endswith(".tmp") for name in names(tmp_path))
        store = EpisodeStore(tmp_path, action_repeat=2)
        assert process.returncode == -9
        assert names(tmp_path) == [path.name for path in store.paths()]
        assert all((store.load(path)["image"] == 7).all() for path in store.paths())
        assert len(store) >= total
        assert store.frames == 118 * len(store)
        total = len(store)


def fill(directory, make_episode, count, **options):
    store = EpisodeStore(directory, action_repeat=2, **options)
    for number in range(count):
        store.add(make_episode(number, 5))
    return store


def test_rewinding_forgets_what_came_later(tmp_path, make_episode):
    fill(tmp_path, make_episode, 4)
    store = EpisodeStore(tmp_path, action_repeat=2)
    store.rewind(16, 0)
    assert names(tmp_path) == ["0000000000-5.npz", "0000000008-5.npz"]
    assert (store.frames, store.steps, len(store)) == (16, 8, 2)
    assert store.add(make_episode(9, 5)).name == "0000000016-5.npz"


@pytest.mark.parametrize(("lost", "frame"), [(0, "0"), (1, "8"), (2, "16")])
def test_rewinding_without_its_episodes_is_refused_and_deletes_nothing(tmp_path, make_episode, lost, frame):
    fill(tmp_path, make_episode, 4).paths()[lost].unlink()
    before = names(tmp_path)
    store = EpisodeStore(tmp_path, action_repeat=2)
    with pytest.raises(ReplayError, match=f"lacks the episode that begins at frame {frame}, though .* 24 frames"):
        store.rewind(24, 0)
    assert names(tmp_path) == before


def test_an_episode_in_quarantine_is_not_missing(tmp_path, make_episode):
    store = fill(tmp_path, make_episode, 3)
    store.set_aside(store.episodes()[1], "for the test")
    again = EpisodeStore(tmp_path, action_repeat=2)
    again.rewind(24, 0)
    assert [stored.first_frame for stored in again.episodes()] == [0, 16]


def test_what_exceeds_the_capacity_stays_until_no_earlier_state_needs_it(tmp_path, make_episode):
    store = fill(tmp_path, make_episode, 4, capacity=8, commits=2)
    assert [stored.first_frame for stored in store.episodes()] == [16, 24]
    assert store.oldest == 16
    assert len(names(tmp_path)) == 4
    store.committed()
    assert len(names(tmp_path)) == 4
    store.committed()
    assert names(tmp_path) == ["0000000016-5.npz", "0000000024-5.npz"]


def test_going_back_brings_episodes_over_the_capacity_back(tmp_path, make_episode):
    store = fill(tmp_path, make_episode, 2, capacity=8, commits=2)
    frames, oldest = store.frames, store.oldest
    for number in range(2):
        store.add(make_episode(number, 5))
    again = EpisodeStore(tmp_path, action_repeat=2, capacity=8, commits=2)
    again.rewind(frames, oldest)
    assert [stored.first_frame for stored in again.episodes()] == [0, 8]


@pytest.mark.parametrize("key", ["reward", "action", "discount"])
def test_a_stored_number_that_is_not_finite_is_damage(tmp_path, make_episode, key):
    episode = make_episode(1, 5)
    episode[key][3] = np.nan
    np.savez(tmp_path / "0000000000-5.npz", **episode)
    store = EpisodeStore(tmp_path, action_repeat=1)
    with pytest.raises(DamagedEpisodeError, match=f"{key} has values that are not finite"):
        store.read_rows(StoredEpisode(0, 5), 1, window(4))

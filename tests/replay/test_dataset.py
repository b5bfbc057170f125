import collections
import json
import logging
import pathlib
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

from dreamer.replay.dataset import Windows, draw_joined_window, draw_window
from dreamer.replay.episodes import EpisodeStore, ReplayError, StoredEpisode
from dreamer.types import Batch


@pytest.fixture
def store(tmp_path, make_episode):
    """Hold episodes 1, 2, 3 of 9, 3 and 20 steps; only the last ends in a terminal."""
    store = EpisodeStore(tmp_path / "replay", action_repeat=2)
    for number, length in ((1, 9), (2, 3), (3, 20)):
        store.add(make_episode(number, length, terminal=number == 3))
    return store


@pytest.fixture
def open_windows():
    opened = []

    def open_one(store, **options):
        opened.append(Windows(store, **{"batch": 4, "length": 6, "seed": 0, **options}))
        return opened[-1]

    yield open_one
    for windows in opened:
        windows.close()


def take(windows, iterator, n):
    windows.request(n)
    return [tf.nest.map_structure(lambda field: field.numpy(), next(iterator)) for _ in range(n)]


def episodes_and_steps(batch):
    return batch.image[:, :, 0, 0, 0].astype(int), batch.image[:, :, 5, 7, 1].astype(int)


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
            np.testing.assert_array_equal(x, y)


def chi_square(counts, expected):
    total = sum(counts.values())
    assert set(counts) <= set(expected)
    return sum((counts[key] - p * total) ** 2 / (p * total) for key, p in expected.items())


def draw_many(length, lengths, n=12000):
    rng = np.random.Generator(np.random.PCG64(3))
    episodes = tuple(StoredEpisode(1000 * i, size) for i, size in enumerate(lengths))
    counts = collections.Counter()
    for _ in range(n):
        pieces = draw_window(rng, episodes, length)
        assert sum(piece.count for piece in pieces) == length
        counts[tuple((episodes.index(piece.episode), piece.start, piece.count) for piece in pieces)] += 1
    return counts


def test_every_start_is_equally_likely_the_last_one_included():
    counts = draw_many(5, [5, 7])
    expected = {((0, 0, 5),): 1 / 2, ((1, 0, 5),): 1 / 6, ((1, 1, 5),): 1 / 6, ((1, 2, 5),): 1 / 6}
    assert set(counts) == set(expected)
    assert chi_square(counts, expected) < 16.27  # 99.9 % of chi-square with 3 degrees of freedom


def test_short_episodes_are_joined_with_the_probabilities_worked_by_hand():
    counts = draw_many(4, [2, 3])
    expected = {
        ((0, 0, 2), (0, 0, 2)): 1 / 4,
        ((0, 0, 2), (1, 0, 2)): 1 / 8,
        ((0, 0, 2), (1, 1, 2)): 1 / 8,
        ((1, 0, 3), (0, 0, 1)): 1 / 8,
        ((1, 0, 3), (0, 1, 1)): 1 / 8,
        ((1, 0, 3), (1, 0, 1)): 1 / 12,
        ((1, 0, 3), (1, 1, 1)): 1 / 12,
        ((1, 0, 3), (1, 2, 1)): 1 / 12,
    }
    assert set(counts) == set(expected)
    assert chi_square(counts, expected) < 24.32  # 99.9 % of chi-square with 7 degrees of freedom


def draw_joined(length, lengths, n):
    """Count how often each step of each episode is in a window that runs over the ends of episodes."""
    rng = np.random.Generator(np.random.PCG64(4))
    episodes = tuple(StoredEpisode(1000 * i, size) for i, size in enumerate(lengths))
    ends = np.cumsum(lengths)
    counts = collections.Counter()
    for _ in range(n):
        pieces = draw_joined_window(rng, episodes, ends, length)
        assert sum(piece.count for piece in pieces) == length
        assert all(0 < piece.count <= piece.episode.length - piece.start for piece in pieces)
        for before, piece in zip(pieces[:-1], pieces[1:], strict=True):
            assert before.start + before.count == before.episode.length
            assert piece.start == 0
        for episode, start, count in pieces:
            counts.update((episodes.index(episode), step) for step in range(start, start + count))
    return counts


def test_windows_over_the_ends_of_episodes_reach_every_step_equally_often():
    lengths, length, n = [30, 6, 3, 17], 10, 14_000
    counts = draw_joined(length, lengths, n)
    expected = n * length / sum(lengths)
    assert set(counts) == {(episode, step) for episode, size in enumerate(lengths) for step in range(size)}
    # Each window holds a step at most a few times, so the deviation of a count is about the root of what is expected.
    worst = max(abs(count - expected) for count in counts.values())
    assert worst < 5 * expected**0.5, (worst, expected)


def test_terminals_are_trained_on_at_the_rate_at_which_they_occur(tmp_path, make_episode, open_windows):
    """One step in 20 of these episodes is a terminal; in windows within an episode one in 110 is."""
    store = EpisodeStore(tmp_path, action_repeat=1)
    for number in range(1, 6):
        store.add(make_episode(number, 20, terminal=True))
    shares = []
    for cross_ends in (True, False):
        windows = open_windows(store, batch=50, length=10, cross_ends=cross_ends)
        batches = take(windows, windows.batches(), 40)
        shares.append(np.mean([batch.discount == 0 for batch in batches]))
        for batch in batches:
            _, step = episodes_and_steps(batch)
            np.testing.assert_array_equal(batch.discount == 0, step == 19)
            np.testing.assert_array_equal(batch.is_first[:, 1:], step[:, 1:] == 0)
            assert batch.is_first[:, 0].all()
    # 20,000 steps each: 1,000 and 182 are expected, with deviations of 30 and 13.
    np.testing.assert_allclose(shares, [1 / 20, 1 / 110], atol=0.004)


def test_rewards_are_bounded_in_batches_and_not_on_disk(store, open_windows):
    plain, bounded = (open_windows(store, seed=2, tanh_rewards=tanh) for tanh in (False, True))
    raw = take(plain, plain.batches(), 3)
    for one, two in zip(raw, take(bounded, bounded.batches(), 3), strict=True):
        np.testing.assert_allclose(two.reward, np.tanh(one.reward.astype(np.float64)), rtol=1e-6)
        np.testing.assert_array_equal(two.image, one.image)
        assert one.reward.max() > 1000
    assert max(store.load(path)["reward"].max() for path in store.paths()) == 3019


@pytest.mark.parametrize("compress", [False, True])
def test_every_field_of_a_step_stays_together(tmp_path, make_episode, open_windows, compress):
    lengths = {1: 9, 2: 3, 3: 20}
    store = EpisodeStore(tmp_path, action_repeat=2, compress=compress)
    for number, length in lengths.items():
        store.add(make_episode(number, length, terminal=number == 3))
    windows = open_windows(store)
    seen, joins, terminals = set(), 0, 0
    for batch in take(windows, windows.batches(), 40):
        episode, step = episodes_and_steps(batch)
        assert (batch.image[..., 0] == episode[:, :, None, None]).all()
        assert (batch.image[..., 1] == step[:, :, None, None]).all()
        moved = step > 0
        np.testing.assert_array_equal(batch.reward, np.where(moved, 1000 * episode + step, 0))
        np.testing.assert_array_equal(batch.action[..., 0], np.where(moved, episode, 0))
        np.testing.assert_array_equal(batch.action[..., 1], step)
        terminal = (episode == 3) & (step == 19)
        np.testing.assert_array_equal(batch.discount, np.where(terminal, 0, 1))

        assert batch.is_first[:, 0].all()
        follows = (episode[:, 1:] == episode[:, :-1]) & (step[:, 1:] == step[:, :-1] + 1)
        np.testing.assert_array_equal(batch.is_first[:, 1:], ~follows)
        # A piece that another follows was taken to the end of its episode, which is shorter than the window.
        last = np.vectorize(lengths.get)(episode[:, :-1]) - 1
        assert (step[:, :-1][~follows] == last[~follows]).all()
        seen |= set(zip(episode.flat, step.flat, strict=True))
        joins += (~follows).sum()
        terminals += terminal.sum()
    assert seen == {(number, step) for number, length in lengths.items() for step in range(length)}
    assert joins > 0
    assert terminals > 0


def test_batches_have_static_shapes_and_the_documented_types(store, open_windows):
    windows = open_windows(store, batch=3, length=5)
    spec = windows.batches().element_spec
    assert spec == Batch(
        inputs={"image": tf.TensorSpec((3, 5, 64, 64, 3), tf.uint8)},
        action=tf.TensorSpec((3, 5, 2), tf.float32),
        reward=tf.TensorSpec((3, 5), tf.float32),
        discount=tf.TensorSpec((3, 5), tf.float32),
        is_first=tf.TensorSpec((3, 5), tf.bool),
    )


def test_same_seed_and_requests_give_the_same_batches(store, open_windows):
    one, two, other = (open_windows(store, seed=seed, prefetch=prefetch) for seed, prefetch in ((5, 1), (5, 4), (6, 4)))
    iterators = [windows.batches() for windows in (one, two, other)]
    first = take(one, iterators[0], 3) + take(one, iterators[0], 5)
    assert_same(first, take(two, iterators[1], 3) + take(two, iterators[1], 5))
    different = take(other, iterators[2], 8)
    assert any((a.reward != b.reward).any() for a, b in zip(first, different, strict=True))


def test_the_batches_of_a_request_differ(store, open_windows):
    windows = open_windows(store)
    batches = take(windows, windows.batches(), 6)
    assert len({batch.reward.tobytes() for batch in batches}) == 6


def test_restored_state_continues_identically(store, open_windows):
    windows = open_windows(store, seed=1)
    iterator = windows.batches()
    take(windows, iterator, 3)
    state = json.loads(json.dumps(windows.state()))  # as a checkpoint would keep it
    expected = take(windows, iterator, 4)
    again = open_windows(EpisodeStore(store.paths()[0].parent, action_repeat=2), seed=99)
    again.restore(state)
    assert_same(expected, take(again, again.batches(), 4))


def test_new_episodes_are_seen_by_the_next_request_only(store, open_windows, make_episode):
    windows = open_windows(store, prefetch=1)
    iterator = windows.batches()
    windows.request(30)
    store.add(make_episode(4, 15))
    before = [next(iterator) for _ in range(30)]
    after = take(windows, iterator, 30)
    assert {1, 2, 3} == {int(number) for batch in before for number in np.unique(batch.image[..., 0])}
    assert {1, 2, 3, 4} == {int(number) for batch in after for number in np.unique(batch.image[..., 0])}


def test_an_episode_over_capacity_is_still_read_by_earlier_requests(tmp_path, open_windows, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1, capacity=18)
    old = [store.add(make_episode(number, 10)) for number in (1, 2)]
    windows = open_windows(store)
    iterator = windows.batches()
    windows.request(20)
    new = [store.add(make_episode(number, 10)) for number in (3, 4)]
    assert store.paths() == new
    assert all(path.exists() for path in old)
    numbers = {int(number) for _ in range(20) for number in np.unique(next(iterator).image[..., 0])}
    assert numbers == {1, 2}
    assert sorted(tmp_path.iterdir()) == new
    assert {3, 4} == {int(n) for batch in take(windows, iterator, 20) for n in np.unique(batch.image[..., 0])}


def damaged_copies(store, directory):
    """Make two equal copies of a replay, each opened as a store, whose episode 3 is cut when it is known already."""
    for name in ("a", "b"):
        shutil.copytree(store.paths()[0].parent, directory / name)
        copy = EpisodeStore(directory / name, action_repeat=2)
        assert (
            copy.action_size == 2
        )  # read from the newest one, so that the damage shows when it is drawn and not before
        path = directory / name / store.paths()[2].name
        path.write_bytes(path.read_bytes()[:-200_000])
        yield copy


def test_a_damaged_episode_is_named_and_drawn_again_from_the_others(store, tmp_path, open_windows, caplog):
    results = []
    for damaged in damaged_copies(store, tmp_path):
        frames = damaged.frames
        windows = open_windows(damaged, seed=2)
        iterator = windows.batches()
        assert len(damaged) == 3
        with caplog.at_level(logging.WARNING):
            results.append(take(windows, iterator, 30))
        assert damaged.frames == frames
        bad = damaged.paths()[0].parent / "quarantine" / "0000000020-20.npz"
        assert bad.stat().st_size > 0
        assert "cannot be read as an episode" in bad.with_suffix(".txt").read_text()
        assert len(damaged) == 2
    assert_same(*results)
    assert len(caplog.records) == 2
    assert all("quarantine/0000000020-20.npz" in record.getMessage() for record in caplog.records)
    numbers, firsts = set(), 0
    for batch in results[0]:
        episode, step = episodes_and_steps(batch)
        numbers |= set(episode.flat)
        follows = (episode[:, 1:] == episode[:, :-1]) & (step[:, 1:] == step[:, :-1] + 1)
        assert batch.is_first[:, 0].all()
        assert batch.is_first[:, 1:][~follows].all()
        firsts += (~follows).sum()
    assert numbers == {1, 2}
    assert firsts > 0


def test_a_number_that_is_not_finite_is_found_in_the_midst_of_a_window(tmp_path, make_episode, open_windows):
    """Windows look once for all their pieces: the one piece at fault is set aside, the others stay where they are."""
    store = EpisodeStore(tmp_path, action_repeat=1)
    for number, length in enumerate((3, 3, 3, 5), 1):
        store.add(make_episode(number, length))
    spoilt = make_episode(3, 3)
    spoilt["reward"][2] = np.inf
    np.savez(store.paths()[2], **spoilt)
    windows = open_windows(store)
    batches = take(windows, windows.batches(), 20)
    assert [path.name for path in (tmp_path / "quarantine").glob("*.npz")] == ["0000000004-3.npz"]
    assert "reward has values that are not finite" in (tmp_path / "quarantine" / "0000000004-3.txt").read_text()
    for batch in batches:
        assert np.isfinite(batch.reward).all()
        episode, step = episodes_and_steps(batch)
        assert not ((episode == 3) & (step == 2)).any()
        assert batch.is_first[:, 0].all()
        follows = (episode[:, 1:] == episode[:, :-1]) & (step[:, 1:] == step[:, :-1] + 1)
        np.testing.assert_array_equal(batch.is_first[:, 1:], ~follows)


def test_a_replay_of_damaged_files_says_so(store, tmp_path, open_windows):
    windows = open_windows(store)
    iterator = windows.batches()
    for path in store.paths():
        path.write_bytes(b"cut")
    windows.request(1)
    with pytest.raises(tf.errors.OpError, match="every episode of the replay is damaged"):
        next(iterator)


def test_an_empty_replay_says_so(tmp_path, open_windows, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=2)
    windows = open_windows(store)
    with pytest.raises(ReplayError, match="holds no episodes yet"):
        windows.request(1)
    with pytest.raises(ReplayError, match="holds no episodes yet"):
        windows.batches()
    store.add(make_episode(1, 2))  # shorter than the window: repeated
    batch = take(windows, windows.batches(), 1)[0]
    np.testing.assert_array_equal(batch.is_first, [[True, False] * 3] * 4)


@pytest.mark.parametrize(("option", "value"), [("batch", 0), ("length", 1), ("prefetch", 0)])
def test_bad_arguments(store, option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}, must be at least"):
        Windows(store, **{"batch": 2, "length": 5, "seed": 0, option: value})
    with pytest.raises(ValueError, match="n is 0"):
        Windows(store, batch=2, length=5, seed=0).request(0)


def test_close_ends_the_batches_and_lets_go_of_the_files(tmp_path, open_windows, make_episode):
    store = EpisodeStore(tmp_path, action_repeat=1, capacity=9)
    store.add(make_episode(1, 10))
    windows = open_windows(store, prefetch=1)
    iterator = windows.batches()
    assert windows.batches() is iterator
    windows.request(50)
    next(iterator)
    store.add(make_episode(2, 10))
    windows.close()
    windows.close()
    assert not list(iterator)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000009-10.npz"]
    with pytest.raises(ReplayError, match="closed"):
        windows.request(1)
    with pytest.raises(ReplayError, match="closed"):
        windows.batches()


@pytest.mark.parametrize(("ending", "code"), [("pass", 0), ("sys.exit(3)", 3), ("del iterator", 0)])
def test_a_process_that_waits_for_no_more_batches_ends(store, ending, code):
    script = f"""
        import sys
        from dreamer.replay.dataset import Windows
        from dreamer.replay.episodes import EpisodeStore
        windows = Windows(EpisodeStore(sys.argv[1], action_repeat=2), batch=2, length=5, seed=0)
        iterator = windows.batches()
        windows.request(3)
        next(iterator)
        {ending}
    """
    directory = store.paths()[0].parent
    root = pathlib.Path(__file__).parents[2]
    command = [sys.executable, "-c", textwrap.dedent(script), str(directory)]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert finished.returncode == code, finished.stderr

"""Windows and episode files against lengths, requests and histories that nobody thought of."""

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dreamer.replay.dataset import Piece, Windows, draw_joined_window, draw_window
from dreamer.replay.episodes import EpisodeStore, StoredEpisode

PROPERTY = settings(
    deadline=None, derandomize=True, max_examples=60, database=None, suppress_health_check=list(HealthCheck)
)
LENGTHS = st.lists(st.integers(2, 12), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32)


def stored(lengths):
    """Episodes of these lengths, one after the other."""
    starts = np.cumsum([0, *(length - 1 for length in lengths)]).tolist()
    return tuple(StoredEpisode(start, length) for start, length in zip(starts, lengths, strict=False))


class Lowest:
    """A generator that draws what it is told to, and the lowest number after that."""

    def __init__(self, *draws):
        self._draws = list(draws)

    def integers(self, high):
        draw = self._draws.pop(0) if self._draws else 0
        assert 0 <= draw < high
        return draw


def check_pieces(pieces, episodes, length):
    assert sum(piece.count for piece in pieces) == length
    for piece in pieces:
        assert piece.episode in episodes
        assert piece.count > 0
        assert 0 <= piece.start <= piece.episode.length - piece.count


@PROPERTY
@given(LENGTHS, st.integers(1, 30), SEEDS)
def test_a_window_is_made_of_pieces_of_episodes(lengths, length, seed):
    episodes = stored(lengths)
    pieces = draw_window(np.random.default_rng(seed), episodes, length)
    check_pieces(pieces, episodes, length)
    # One that does not fit as a whole is taken whole, so that every piece but the last is an episode.
    assert all((piece.start, piece.count) == (0, piece.episode.length) for piece in pieces[:-1])


@PROPERTY
@given(LENGTHS, st.integers(1, 30), SEEDS)
def test_a_joined_window_goes_on_at_the_beginning_of_another_episode(lengths, length, seed):
    episodes = stored(lengths)
    pieces = draw_joined_window(np.random.default_rng(seed), episodes, np.cumsum(lengths), length)
    check_pieces(pieces, episodes, length)
    assert all(piece.start + piece.count == piece.episode.length for piece in pieces[:-1])
    assert all(piece.start == 0 for piece in pieces[1:])


@PROPERTY
@given(LENGTHS, st.integers(1, 14))
def test_every_start_that_leaves_room_is_drawn_and_no_other(lengths, length):
    episodes = stored(lengths)
    for index, episode in enumerate(episodes):
        room = max(1, episode.length - length + 1)
        firsts = [draw_window(Lowest(index, start), episodes, length)[0] for start in range(room)]
        assert firsts == [Piece(episode, start, min(length, episode.length)) for start in range(room)]
        if room > 1:  # else there is nothing to draw
            with pytest.raises(AssertionError):
                draw_window(Lowest(index, room), episodes, length)


@PROPERTY
@given(LENGTHS, st.integers(1, 14))
def test_every_step_is_the_start_of_one_joined_window(lengths, length):
    episodes, steps = stored(lengths), sum(lengths)
    firsts = [draw_joined_window(Lowest(at), episodes, np.cumsum(lengths), length)[0] for at in range(steps)]
    expected = [
        Piece(episode, start, min(length, episode.length - start))
        for episode in episodes
        for start in range(episode.length)
    ]
    assert firsts == expected
    with pytest.raises(AssertionError):
        draw_joined_window(Lowest(steps), episodes, np.cumsum(lengths), length)


class Listed:
    """As much of a store as drawing needs."""

    def __init__(self, lengths):
        self._episodes, self._tokens = stored(lengths), itertools.count()

    def hold(self):
        return next(self._tokens), self._episodes

    def release(self, token):
        pass


def open_windows(store, seed, cross_ends):
    return Windows(store, batch=2, length=5, seed=seed, cross_ends=cross_ends)


def plans(windows):
    """What was requested and is not read yet: pieces and the seed for damaged ones, batch by batch."""
    return [(plan.rows, plan.redraw_seed) for _, plan in sorted(windows._requested.items())]


REQUESTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@PROPERTY
@given(LENGTHS, REQUESTS, st.data(), SEEDS, st.booleans())
def test_a_request_with_a_part_left_out_is_the_rest_of_the_whole_one(lengths, requests, data, seed, cross_ends):
    whole, part = (open_windows(Listed(lengths), seed, cross_ends) for _ in range(2))
    kept = []
    for n in requests:
        skip = data.draw(st.integers(0, n - 1))
        before = len(plans(whole))
        whole.request(n)
        part.request(n, skip=skip)
        kept += plans(whole)[before + skip :]
    assert plans(part) == kept
    assert whole.state() == part.state()
    assert [int(part._queue.dequeue()) for _ in kept] == sorted(part._requested)


@PROPERTY
@given(LENGTHS, REQUESTS, st.integers(1, 4), SEEDS, st.booleans())
def test_draws_go_on_from_a_state_and_a_request_can_be_repeated(lengths, requests, more, seed, cross_ends):
    windows, again = (open_windows(Listed(lengths), at, cross_ends) for at in (seed, seed + 1))
    for n in requests:
        windows.request(n)
    last = plans(windows)[-requests[-1] :]
    after, repeat = (json.loads(json.dumps(windows.state(repeat_request=flag))) for flag in (False, True))
    again.restore(repeat)
    again.request(requests[-1])
    assert plans(again) == last
    assert again.state() == after
    windows.request(more)
    again.restore(after)
    again.request(more)
    assert plans(again)[-more:] == plans(windows)[-more:]


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
NAMES = st.text("abcxyz_", min_size=1, max_size=5)


@st.composite
def episodes(draw):
    """Any episode that a store takes."""
    length, size = draw(st.integers(2, 9)), draw(st.integers(1, 7))
    generator = np.random.default_rng(draw(SEEDS))

    def numbers(*shape):
        values = generator.choice(draw(st.lists(FINITE, min_size=1, max_size=6)), shape).astype(np.float32)
        return values.astype(draw(st.sampled_from([np.float32, np.float64])))

    step, terminal = np.arange(length), draw(st.booleans())
    image = generator.integers(0, 256, (length, 64, 64, 3), np.uint8)
    action, reward = numbers(length, size), numbers(length)
    action[0], reward[0] = 0, 0
    extra = {
        f"extra_{name}": numbers(length, *shape)
        for name, shape in draw(st.dictionaries(NAMES, st.lists(st.integers(0, 3), max_size=2), max_size=2)).items()
    }
    last = step == length - 1
    return {
        "image": np.asfortranarray(image) if draw(st.booleans()) else image,
        "action": action,
        "reward": reward,
        "discount": 1.0 - (last & terminal).astype(np.float32),
        "is_first": step == 0,
        "is_last": last,
        "is_terminal": last & terminal,
        **extra,
    }


@PROPERTY
@given(episodes(), st.booleans(), st.integers(1, 5), st.data())
def test_an_episode_comes_back_as_it_was_stored(episode, compress, repeat, data):
    length, size = episode["action"].shape
    with tempfile.TemporaryDirectory() as folder:
        store = EpisodeStore(folder, action_repeat=repeat, compress=compress)
        path = store.add(episode)
        loaded = store.load(path)
        assert loaded.keys() == episode.keys()
        for key, values in loaded.items():
            np.testing.assert_array_equal(values, episode[key])
            assert values.dtype == {"f": np.float32, "u": np.uint8, "b": np.bool_}[episode[key].dtype.kind]
        start = data.draw(st.integers(0, length - 1))
        count = data.draw(st.integers(0, length - start))
        # Whoever opens the folder later, of either kind, reads the same rows.
        for reader in (store, EpisodeStore(folder, action_repeat=repeat, compress=not compress)):
            assert (reader.frames, reader.steps, reader.action_size) == ((length - 1) * repeat, length - 1, size)
            (entry,) = reader.episodes()
            out = {
                "image": np.empty((count, 64, 64, 3), np.uint8),
                "action": np.empty((count, size), np.float32),
                "reward": np.empty(count, np.float32),
                "discount": np.empty(count, np.float32),
            }
            reader.read_rows(entry, start, out)
            for key, rows in out.items():
                np.testing.assert_array_equal(rows, loaded[key][start : start + count])


def plain_episode(length):
    step = np.arange(length)
    return {
        "image": np.zeros((length, 64, 64, 3), np.uint8),
        "action": np.zeros((length, 1), np.float32),
        "reward": np.zeros(length, np.float32),
        "discount": np.ones(length, np.float32),
        "is_first": step == 0,
        "is_last": step == length - 1,
        "is_terminal": np.zeros(length, np.bool_),
    }


class History(RuleBasedStateMachine):
    """A replay through a run that commits, is killed, and goes on from the last commit or the one before it.

    The model beside it is a list of (first frame, length) of everything collected, from which what may be drawn and
    which files are there follow.
    """

    @initialize(repeat=st.integers(1, 3), capacity=st.sampled_from([0, 1, 4, 9]), commits=st.sampled_from([2, 0, 1]))
    def begin(self, repeat, capacity, commits):
        self.folder = Path(tempfile.mkdtemp())
        self.options = {"action_repeat": repeat, "capacity": capacity, "commits": commits}
        self.store = EpisodeStore(self.folder, **self.options)
        self.frames = 0
        self.drawn = []  # (first frame, length), oldest first
        self.retired = []  # the same and two numbers: commits that were made before, and holds that were begun before
        self.commits = 0
        self.states = [(0, 0)]  # frames and oldest of every commit that a run may go on from, the beginning too
        self.holds = {}  # token of the store -> number of the hold
        self.begun = 0

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def delete(self):
        """Forget files from the oldest on, up to one that a commit or a hold still needs."""
        while self.retired:
            _, _, commits, holds = self.retired[0]
            if commits + self.options["commits"] > self.commits or any(hold <= holds for hold in self.holds.values()):
                return
            self.retired.pop(0)

    def retire(self):
        while self.options["capacity"] and len(self.drawn) > 1:
            if sum(length - 1 for _, length in self.drawn) <= self.options["capacity"]:
                break
            self.retired.append((*self.drawn.pop(0), self.commits, self.begun))
        self.delete()

    @rule(length=st.integers(2, 5))
    def add(self, length):
        path = self.store.add(plain_episode(length))
        assert path.name == f"{self.frames:010d}-{length}.npz"
        self.drawn.append((self.frames, length))
        self.frames += (length - 1) * self.options["action_repeat"]
        self.retire()

    @rule()
    def commit(self):
        self.states = [*self.states, (self.store.frames, self.store.oldest)][-2:]
        self.store.committed()
        self.commits += 1
        self.delete()

    @rule(lengths=st.lists(st.integers(2, 5), min_size=1, max_size=4))
    def live_on(self, lengths):
        """What leads to a state worth going back to is too rare otherwise: some episodes, then a commit."""
        for length in lengths:
            self.add(length)
        self.commit()

    @rule()
    def hold(self):
        token, held = self.store.hold()
        assert list(held) == [StoredEpisode(*entry) for entry in self.drawn]
        self.begun += 1
        self.holds[token] = self.begun

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data):
        token = data.draw(st.sampled_from(sorted(self.holds)))
        del self.holds[token]
        self.store.release(token)
        self.delete()

    @rule(which=st.integers(1, 2))
    def die_and_go_back(self, which):
        """To the newest state, or to the one before it: files that these need are kept for so many commits."""
        which = min(which, len(self.states), self.options["commits"])
        if not which:
            return
        frames, oldest = self.states[-which]
        everything = sorted([(first, length) for first, length, *_ in self.retired] + self.drawn)
        self.store = EpisodeStore(self.folder, **self.options)
        self.store.rewind(frames, oldest)
        self.holds, self.begun, self.commits, self.frames = {}, 0, 0, frames
        self.drawn = [entry for entry in everything if oldest <= entry[0] < frames]
        self.retired = [(*entry, 0, 0) for entry in everything if entry[0] < oldest]
        self.states = [(frames, oldest)]

    @invariant()
    def the_store_is_the_model(self):
        if not hasattr(self, "store"):
            return
        assert list(self.store.episodes()) == [StoredEpisode(*entry) for entry in self.drawn]
        assert len(self.store) == len(self.drawn)
        assert self.store.frames == self.frames
        assert self.store.steps == sum(length - 1 for _, length in self.drawn)
        assert self.store.oldest == (self.drawn[0][0] if self.drawn else self.frames)
        files = sorted([(first, length) for first, length, *_ in self.retired] + self.drawn)
        assert sorted(path.name for path in self.folder.iterdir()) == [StoredEpisode(*entry).name for entry in files]


def test_any_history_of_a_replay():
    with mock.patch("os.fsync"):  # hundreds of files, each of which would wait for the disk
        run_state_machine_as_test(History, settings=settings(PROPERTY, max_examples=40, stateful_step_count=25))

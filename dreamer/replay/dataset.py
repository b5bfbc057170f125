"""Training batches: windows drawn from the stored episodes by the training loop, read and prefetched by tf.data.

Drawing and reading are apart. `Windows.request(n)` draws the plans of n batches in the calling thread, from the
episodes present at that moment; the dataset reads the planned rows later, in the order of the plans. So the batches
depend on the seed, the requests and the episodes, and not on how far a prefetch thread has got.
"""

import atexit
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dreamer.replay.episodes import (
    FIELDS,
    DamagedEpisodeError,
    EpisodeStore,
    ReplayError,
    StoredEpisode,
    are_finite,
)
from dreamer.types import IMAGE, Batch, Space

_END = -1
_READERS = 2
_ALIGNMENT = 64  # bytes; TensorFlow takes over a NumPy array that starts at a multiple of it, and copies others


class Piece(NamedTuple):
    """Steps start, start + 1, ..., start + count - 1 of a StoredEpisode."""

    episode: StoredEpisode
    start: int
    count: int  # type: ignore[assignment]  # tuple.count is a method that nobody calls


class _Plan(NamedTuple):
    rows: list[list[Piece]]  # B lists of pieces, each T steps in all
    episodes: tuple[StoredEpisode, ...]  # what the rows were drawn from
    redraw_seed: int
    hold: int


def draw_window(rng: np.random.Generator, episodes: Sequence[StoredEpisode], length: int) -> list[Piece]:
    """Draw the pieces of one window: a list of Piece whose counts sum to length.

    The episode is uniform over episodes, its start uniform over all that leave room, the very last one included.
    An episode that is shorter than what remains is taken whole, and the rest is drawn again:

        L = 3, then L = 9    e0 e1 e2 | f4 f5 f6 f7    length = 7, f starts at 0..5
        is_first              1  0  0   1  0  0  0
    """
    pieces = []
    while length:
        episode = episodes[int(rng.integers(len(episodes)))]
        count = min(length, episode.length)
        start = int(rng.integers(episode.length - count + 1)) if episode.length > count else 0
        pieces.append(Piece(episode, start, count))
        length -= count
    return pieces


def draw_joined_window(
    rng: np.random.Generator, episodes: Sequence[StoredEpisode], ends: np.ndarray, length: int
) -> list[Piece]:
    """Draw the pieces of one window that runs over the ends of episodes: a list of Piece whose counts sum to length.

    It begins anywhere and goes on at the beginning of another episode where one ends, as if they stood in a row in
    random order. So every step, a terminal too, is drawn equally often; in windows within an episode of L steps its
    last one is length times as rare as one in the middle.

    ends: cumulated lengths of the episodes, int array.
    """
    at = rng.integers(ends[-1])
    first = int(np.searchsorted(ends, at, side="right"))
    episode, start = episodes[first], int(at - ends[first]) + episodes[first].length
    pieces = [Piece(episode, start, min(length, episode.length - start))]
    while length := length - pieces[-1].count:
        episode = episodes[int(rng.integers(len(episodes)))]
        pieces.append(Piece(episode, 0, min(length, episode.length)))
    return pieces


def _empty(lead: tuple[int, ...], name: str, space: Space) -> np.ndarray:
    """Return an uninitialised array [*lead, ...] of a space; an image becomes a tensor without being copied."""
    if name != IMAGE:
        return np.empty((*lead, *space.shape), space.dtype)
    shape = (*lead, *space.shape)
    size = math.prod(shape)
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -buffer.ctypes.data % _ALIGNMENT
    return buffer[offset : offset + size].reshape(shape)


class Windows:
    """Batches of windows of a replay, read by tf.data as they are requested.

    store: EpisodeStore; batch, length: B and T of the windows; seed: of the draws; prefetch: batches read ahead.
    cross_ends: windows of draw_joined_window instead of draw_window. tanh_rewards: batches hold tanh(r) for the stored
    reward r.

        windows = Windows(store, batch=50, length=50, seed=0)
        batches = windows.batches()
        windows.request(100)
        for _ in range(100):
            train(next(batches))

    An episode added between two requests is seen by the second. One that exceeds the capacity of the store meanwhile
    keeps its file until the batches requested before have been read. One found damaged is set aside, and its pieces
    are drawn again from the episodes of the same request.
    """

    def __init__(
        self,
        store: EpisodeStore,
        *,
        batch: int,
        length: int,
        seed: int,
        prefetch: int = 4,
        cross_ends: bool = False,
        tanh_rewards: bool = False,
    ):
        for name, value, least in (("batch", batch, 1), ("length", length, 2), ("prefetch", prefetch, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}, must be at least {least}")
        self._store = store
        self._batch = batch
        self._length = length
        self._prefetch = prefetch
        self._cross_ends = cross_ends
        self._tanh_rewards = tanh_rewards
        self._action_size: int | None = None
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._lock = threading.Lock()
        self._closed = False
        self._iterator: Any = None
        self._before = self._rng.bit_generator.state  # of the draws, when the last request began
        self._drawn = 0
        self._requested: dict[int, _Plan] = {}  # number -> plan, not yet taken up by the dataset
        self._reading: dict[int, _Plan] = {}
        self._unread: dict[int, int] = {}  # hold -> batches that still need it
        # A TensorFlow queue, because waiting on it ends when the iterator goes; a Python queue would block for good.
        with tf.device("CPU:0"):
            self._queue = tf.queue.FIFOQueue(-1, dtypes=[tf.int64], shapes=[()])

    def request(self, n: int, skip: int = 0) -> None:
        """Draw n batches from the episodes stored now and queue them for the dataset.

        skip: the first so many of them are drawn and left out, for a request that an interruption has cut short.
        Raises ReplayError if nothing is stored, or after `close`.
        """
        if n < 1:
            raise ValueError(f"n is {n}, must be at least 1 batch")
        if not 0 <= skip < n:
            raise ValueError(f"skip is {skip}, must be at least 0 and below {n}, the number of batches")
        if self._closed:
            raise ReplayError("cannot request batches: the windows are closed")
        hold, episodes = self._store.hold()
        if not episodes:
            self._store.release(hold)
            raise ReplayError("cannot request batches: the replay holds no episodes yet")
        ends = np.cumsum([episode.length for episode in episodes]) if self._cross_ends else None

        def draw() -> list[Piece]:
            if ends is not None:
                return draw_joined_window(self._rng, episodes, ends, self._length)
            return draw_window(self._rng, episodes, self._length)

        self._before = self._rng.bit_generator.state
        plans = {}
        for number in range(self._drawn, self._drawn + n):
            rows = [draw() for _ in range(self._batch)]
            plans[number] = _Plan(rows, episodes, int(self._rng.integers(2**63)), hold)
        for number in range(self._drawn, self._drawn + skip):
            del plans[number]
        with self._lock:
            self._drawn += n
            self._unread[hold] = len(plans)
            self._requested.update(plans)
        self._queue.enqueue_many([np.array(list(plans), np.int64)])

    def batches(self) -> Iterator[Batch]:
        """Return the iterator of requested batches: dreamer.types.Batch with static shapes, in their order.

        It waits for requests and ends after `close`; there is one of them. Raises ReplayError while nothing is stored
        (the width of the actions is unknown then), or after `close`.
        """
        if self._closed:
            raise ReplayError("cannot read batches: the windows are closed")
        if self._iterator is None:
            self._iterator = iter(self._dataset())
            atexit.register(self.close)
        return self._iterator

    def _dataset(self) -> tf.data.Dataset:
        self._action_size = self._store.action_size
        if self._action_size is None:
            raise ReplayError("cannot read batches: the replay holds no episodes yet")
        like = self._empty_batch()
        flat = tf.nest.flatten(like)

        def read(number: tf.Tensor) -> Batch:
            arrays = tf.numpy_function(self._read, [number], [tf.as_dtype(array.dtype) for array in flat])
            shaped = [tf.ensure_shape(value, array.shape) for value, array in zip(arrays, flat, strict=True)]
            return tf.nest.pack_sequence_as(like, shaped)

        # The private pool keeps reading from taking every core away from the training step.
        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False
        options.threading.private_threadpool_size = _READERS
        options.threading.max_intra_op_parallelism = 1
        return (
            tf.data.Dataset.counter()
            .map(lambda _: self._queue.dequeue())
            .map(lambda number: tf.ensure_shape(tf.numpy_function(self._take, [number], tf.int64), ()))
            .take_while(lambda number: number != _END)
            .map(read, num_parallel_calls=_READERS, deterministic=True)
            .prefetch(self._prefetch)
            .with_options(options)
        )

    def state(self, repeat_request: bool = False) -> Mapping[str, Any]:
        """Return the state of the draws, as JSON values: what follows the last request.

        repeat_request: the state before it, from which the same request draws the same batches of the same episodes.
        """
        return self._before if repeat_request else self._rng.bit_generator.state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue the draws from what `state` returned; with the same episodes, the same batches follow."""
        self._rng.bit_generator.state = state

    def close(self) -> None:
        """End the batches and drop what was requested or read ahead. May be called twice.

        It returns when no thread of tf.data is left in Python. They call it to read, and an iterator that is deleted
        waits for them without letting them, as does the interpreter when it ends: that process would never leave.
        """
        atexit.unregister(self.close)
        with self._lock:
            if self._closed:
                return
            self._closed = True
            dropped = list(self._requested.values())
            self._requested.clear()
        for plan in dropped:
            self._finish(plan)
        self._queue.enqueue(np.int64(_END))
        self._queue.close()
        if self._iterator is not None:
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                next(self._iterator)
            except StopIteration:
                return
            except tf.errors.OpError:  # Of one batch; the others are still being read.
                continue

    def _take(self, number: np.int64) -> np.int64:
        """Move a plan from requested to reading; runs in the order of the plans."""
        with self._lock:
            plan = self._requested.pop(int(number), None)
            if plan is None:
                return np.int64(_END)
            self._reading[int(number)] = plan
            return number

    def _empty_batch(self) -> Batch:
        lead = (self._batch, self._length)
        return Batch(
            inputs={name: _empty(lead, name, space) for name, space in self._store.inputs.items()},
            action=np.empty((*lead, self._action_size), np.float32),
            reward=np.empty(lead, np.float32),
            discount=np.empty(lead, np.float32),
            is_first=np.zeros(lead, np.bool_),
        )

    def _read(self, number: np.int64) -> list[np.ndarray]:
        with self._lock:
            plan = self._reading.pop(int(number))
        batch = self._empty_batch()
        redraw = np.random.Generator(np.random.PCG64(plan.redraw_seed))
        for row, pieces in enumerate(plan.rows):
            self._read_row(row, pieces, batch, plan.episodes, redraw)
        if self._tanh_rewards:
            np.tanh(batch.reward, out=batch.reward)
        self._finish(plan)
        return tf.nest.flatten(batch)

    def _read_row(
        self,
        row: int,
        pieces: Iterable[Piece],
        batch: Batch,
        episodes: Sequence[StoredEpisode],
        redraw: np.random.Generator,
    ) -> None:
        fields = {name: array[row] for name, array in batch.inputs.items()}
        fields |= {key: getattr(batch, key)[row] for key in FIELDS}
        pieces, step, check = list(pieces), 0, False
        begun: list[Piece] = []
        while pieces:
            piece = pieces.pop(0)
            span = slice(step, step + piece.count)
            try:
                out = {key: rows[span] for key, rows in fields.items()}
                self._store.read_rows(piece.episode, piece.start, out, check=check)
            except DamagedEpisodeError as error:
                self._store.set_aside(piece.episode, error)
                if all(map(self._store.is_aside, episodes)):
                    raise ReplayError("every episode of the replay is damaged and was set aside") from error
                # Damaged ones are drawn and rejected, not left out: what another thread has found must not matter.
                pieces = draw_window(redraw, episodes, piece.count) + pieces
                continue
            batch.is_first[row, step] = True
            begun.append(piece)
            step += piece.count
            if not pieces and not check and not all(map(are_finite, fields.values())):
                # Looking once is quicker than at every piece. Now to find which one it is.
                pieces, begun, step, check = begun, [], 0, True

    def _finish(self, plan: _Plan) -> None:
        with self._lock:
            self._unread[plan.hold] -= 1
            done = not self._unread[plan.hold]
            if done:
                del self._unread[plan.hold]
        if done:
            self._store.release(plan.hold)

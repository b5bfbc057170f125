"""Finished episodes on disk, one .npz file each, and reading a few rows of one without reading the rest.

A file is an ordinary, unpickled .npz (np.load opens it) named `{first_frame:010d}-{L}.npz`: the environment frames
that were collected before the episode, and its L steps, the first one included. So the directory listing alone says
what is stored and how many frames were collected, and a replay of thousands of episodes opens without decoding any.

    first_frame    0                1000             2000          frames = 2000 + (501 - 1) * action_repeat
    file           0000000000-501   0000001000-501   0000002000-501

Members are stored uncompressed by default: a window is then one positional read per array. With compress=True the
members are deflated, and a window costs decoding each array from its beginning to the window's end (about 10 ms
for an episode of 500 images, against 0.1 ms). Checksums are verified by `load`, not by reads of single rows.
"""

import collections
import contextlib
import errno
import logging
import math
import os
import pathlib
import re
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dreamer.replay.npz import DAMAGE, Alike, Member, read_layout, read_rows
from dreamer.run.files import sync
from dreamer.types import IMAGE, INFO, PIXELS, Space

FLAGS = ("is_first", "is_last", "is_terminal")
FIELDS = ("action", "reward", "discount")  # of a window, beside what the agent sees
QUARANTINE = "quarantine"

_NAME = re.compile(r"(\d{10,})-(\d+)\.npz")
_log = logging.getLogger(__name__)


class ReplayError(RuntimeError):
    """Something about the replay that the user must know; the message is one line."""


class DamagedEpisodeError(ReplayError):
    """A file that is truncated, missing, or not an episode of this replay."""


class StoredEpisode(NamedTuple):
    """What a file name says: frames collected before the episode, and its number of steps L."""

    first_frame: int
    length: int

    @property
    def name(self) -> str:
        """File name inside the directory of the store."""
        return f"{self.first_frame:010d}-{self.length}.npz"


def _stored_episode(name: str) -> StoredEpisode | None:
    match = _NAME.fullmatch(name)
    if not match:
        return None
    stored = StoredEpisode(int(match[1]), int(match[2]))
    return stored if stored.length >= 2 and stored.name == name else None


def _names(folder: pathlib.Path) -> list[str]:
    """Names in a directory; none where there is no directory."""
    return os.listdir(folder) if folder.is_dir() else []


def _present(directory: pathlib.Path) -> set[StoredEpisode]:
    """Every episode that was stored there and not deleted, those set aside among them."""
    names = _names(directory) + _names(directory / QUARANTINE)
    # Releases up to 0.1 renamed what they set aside to NAME.bad.
    found = (_stored_episode(re.sub(r"(\.bad)+$", "", name) if name.endswith(".bad") else name) for name in names)
    return set(filter(None, found))


def stored_episodes(directory: pathlib.Path) -> list[StoredEpisode]:
    """The episodes in a directory, oldest first; none where there is no directory. Nothing is set aside."""
    return sorted(filter(None, map(_stored_episode, _names(directory))))


def stored_paths(directory: pathlib.Path) -> list[pathlib.Path]:
    """Files of the episodes in a directory, oldest first; none where there is no directory. Nothing is set aside."""
    return [directory / episode.name for episode in stored_episodes(directory)]


def load(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read a whole episode -> dict of arrays. Raises DamagedEpisodeError where the file is no sound .npz."""
    with _naming(path), open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def check_present(frames: int, oldest: int, *, directory: pathlib.Path, action_repeat: int) -> None:
    """Raise ReplayError unless a directory has the episodes from frame `oldest` to `frames`, or has set them aside."""
    expected = oldest
    for stored in sorted(stored for stored in _present(directory) if oldest <= stored.first_frame < frames):
        if stored.first_frame > expected:
            break
        expected = stored.first_frame + (stored.length - 1) * action_repeat
    if expected != frames:
        raise ReplayError(
            f"{directory} lacks the episode that begins at frame {expected:,}, though the run has collected "
            f"{frames:,} frames: put its files back"
        )


def _require(condition: object, problem: str) -> None:
    if not condition:
        raise ReplayError(f"episode refused: {problem}")


def checked_episode(episode: Mapping[str, Any], inputs: Mapping[str, Space] = PIXELS) -> dict[str, np.ndarray]:
    """Return the arrays of an episode as they are stored, or raise ReplayError saying what is wrong.

    episode: dict of arrays with L >= 2 rows: what the agent sees, `inputs` by name, of their shapes; action [L, A],
    reward [L], discount [L] and any further observations [L, ...] float32 or wider (stored as float32), an image
    [L, n, n, 3] uint8; is_first, is_last, is_terminal [L] bool; numbers of `info` [L], which alone may be NaN.
    The first step has a zero action and reward; discount is 0 where the step is terminal, else 1.
    """
    arrays = {key: np.asarray(value) for key, value in episode.items()}
    missing = [key for key in (*inputs, *FIELDS, *FLAGS) if key not in arrays]
    _require(not missing, f"missing {', '.join(missing)}")
    length = len(arrays["reward"]) if arrays["reward"].ndim else 0
    for key, array in arrays.items():
        _require(array.shape[:1] == (length,), f"{key} has shape {array.shape}, reward has {length} steps")
    _require(length >= 2, f"{length} step(s); an episode has at least 2, the reset included")

    for key, array in arrays.items():
        if key in inputs:
            wanted = ", ".join(map(str, inputs[key].shape))
            _require(array.shape[1:] == inputs[key].shape, f"{key} has shape {array.shape}, must be [L, {wanted}]")
        if key == IMAGE:
            _require(array.dtype == np.uint8, f"image is {array.dtype}, must be uint8")
        elif key in FLAGS:
            _require(array.dtype == np.bool_, f"{key} is {array.dtype}, must be bool")
        else:
            wide = array.dtype.kind == "f" and array.dtype.itemsize >= 4
            _require(wide, f"{key} is {array.dtype}, must be float32 or wider")
            with np.errstate(over="ignore"):  # reported as not finite in the next line
                arrays[key] = array.astype(np.float32, copy=False)
            for_the_log = key.startswith(INFO) and array.ndim == 1
            _require(for_the_log or np.isfinite(arrays[key]).all(), f"{key} has values that are not finite in float32")
    for key in ("reward", "discount", *FLAGS):
        _require(arrays[key].ndim == 1, f"{key} has shape {arrays[key].shape}, must be [L]")
    _require(arrays["action"].ndim == 2, f"action has shape {arrays['action'].shape}, must be [L, A]")

    step = np.arange(length)
    _require(np.array_equal(arrays["is_first"], step == 0), "is_first must be True at step 0 and nowhere else")
    _require(np.array_equal(arrays["is_last"], step == length - 1), "is_last must be True at the last step only")
    _require(not arrays["is_terminal"][:-1].any(), "is_terminal is True before the last step")
    _require(
        np.array_equal(arrays["discount"], 1 - arrays["is_terminal"].astype(np.float32)),
        "discount must be 0 where is_terminal is True, else 1",
    )
    _require(not arrays["action"][0].any(), "the first step leads nowhere: its action must be zero")
    _require(arrays["reward"][0] == 0, "the first step leads nowhere: its reward must be zero")
    return arrays


def are_finite(rows: np.ndarray) -> bool:
    """Whether there is no NaN and no infinity in an array."""
    return rows.dtype.kind != "f" or bool(np.isfinite(rows).all())


@contextlib.contextmanager
def _naming(path: pathlib.Path | str) -> Iterator[None]:
    """Turn what reading a broken or missing file raises into DamagedEpisodeError."""
    try:
        yield
    except (*DAMAGE, OSError) as error:
        raise _named(path, error) from error


def _named(path: pathlib.Path | str, error: Exception) -> Exception:
    """DamagedEpisodeError for what reading a broken or missing file has raised; trouble of the system as it is."""
    if isinstance(error, FileNotFoundError):
        return DamagedEpisodeError(f"{path} is gone")
    # Seeking where a broken zip points gives EINVAL, decoding broken bytes an OSError without a number.
    if isinstance(error, OSError) and error.errno not in (errno.EINVAL, None):
        return error
    reason = " ".join(str(error).split())
    return DamagedEpisodeError(f"{path} cannot be read as an episode: {reason}")


def _check_layout(
    layout: Mapping[str, Member], length: int, action_size: int | None, inputs: Mapping[str, Space]
) -> None:
    expected: dict[str, tuple] = {name: (length, *space.shape) for name, space in inputs.items()}
    expected |= {"reward": (length,), "discount": (length,)}
    expected["action"] = (length, action_size if action_size is not None else layout["action"].shape[-1])
    for key, member in layout.items():
        if member.shape != expected[key]:
            raise ValueError(f"{key} has shape {member.shape}, expected {expected[key]}")
        kinds = ("u1",) if key == IMAGE else ("f4", "f8")
        if member.dtype.str[1:] not in kinds:
            raise ValueError(f"{key} is {member.dtype}, expected {'uint8' if key == IMAGE else 'float32'}")


def _free_name(path: pathlib.Path) -> pathlib.Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return free


class EpisodeStore:
    """The replay on disk: adds episodes, lists them, reads them; forgets the oldest beyond a capacity.

    directory: made if it does not exist. action_repeat: frames per agent step, which turns steps into frames.
    capacity: agent steps (actions) kept, 0 keeps all; the oldest files are deleted, never the newest.
    compress: deflate new files; files of both kinds are read. inputs: Space of what the agent sees, by name, which
        every episode must have; fields: the names of what a window has.
    read_only: the directory is another's: nothing in it is written, moved or deleted, and nothing can be added. What
        is damaged is drawn and rejected every time.
    commits: what exceeds the capacity is not drawn any more, but its file is deleted only after so many calls of
        `committed`, because a run that goes on from an earlier state needs it again.

    A directory belongs to one process at a time: at start-up the temporary files of a crashed write are removed, and
    .npz files that are not named like an episode are set aside: moved to quarantine/ with a logged warning and a
    NAME.txt that tells the reason, as are episodes that turn out to be damaged when they are read. Nothing set aside is
    deleted, and its frames still count.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        action_repeat: int,
        capacity: int = 0,
        compress: bool = False,
        commits: int = 0,
        inputs: Mapping[str, Space] = PIXELS,
        read_only: bool = False,
    ):
        self.inputs, self.fields = dict(inputs), (*inputs, *FIELDS)
        if action_repeat < 1:
            raise ValueError(f"action_repeat is {action_repeat}, must be at least 1 frame")
        if capacity < 0:
            raise ValueError(f"capacity is {capacity}, must be 0 (keep all) or a number of steps")
        self._directory = pathlib.Path(directory)
        self._action_repeat = action_repeat
        self._capacity = capacity
        self._commits, self._committed = commits, 0
        self._read_only = read_only
        self._compression = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        self._lock = threading.RLock()
        # {(steps, bytes of the file): where its arrays are}, found in the first such file. There are never many: N
        # lengths of episodes are N^2 / 2 steps. So nothing is kept of an episode but its StoredEpisode, 130 bytes.
        self._alike: dict[tuple[int, int], Alike] = {}
        self._aside: set[StoredEpisode] = set()
        self._holds: dict[int, bool] = {}
        self._clock = 0
        # (clock, commits, episode): over capacity, perhaps still to be read
        self._retired: collections.deque[tuple[int, int, StoredEpisode]] = collections.deque()
        self._action_size: int | None = None
        if not read_only:
            self._directory.mkdir(parents=True, exist_ok=True)
        self._episodes, self._frames = self._scan()
        self._steps = sum(stored.length - 1 for stored in self._episodes)
        self._retire_oldest()

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def frames(self) -> int:
        """Environment frames collected so far, those of deleted episodes included."""
        return self._frames

    @property
    def steps(self) -> int:
        """Agent steps (actions) of the episodes that can be drawn; what capacity limits."""
        return self._steps

    @property
    def action_size(self) -> int | None:
        """Width A of the stored actions, or None while nothing is stored."""
        if self._action_size is None:
            for stored in reversed(self.episodes()):
                try:
                    path = self._directory / stored.name
                    with _naming(path), open(path, "rb") as file:
                        self._action_size = self._find(file, stored)["action"].shape[1]
                    break
                except DamagedEpisodeError as error:
                    self.set_aside(stored, error)
        return self._action_size

    def episodes(self) -> tuple[StoredEpisode, ...]:
        """Return a tuple of the StoredEpisode that can be drawn, oldest first."""
        with self._lock:
            return tuple(self._episodes)

    def paths(self) -> list[pathlib.Path]:
        """Return the files of the episodes that can be drawn, oldest first."""
        return [self._directory / stored.name for stored in self.episodes()]

    def add(self, episode: Mapping[str, Any]) -> pathlib.Path:
        """Store a finished episode (see `checked_episode`) and return its path.

        The file appears under its name whole or not at all. Raises ReplayError where the episode is refused or the
        file cannot be written, on a full disk for instance; the store is unchanged then.
        """
        assert not self._read_only
        arrays = checked_episode(episode, self.inputs)
        width = arrays["action"].shape[1]
        _require(self.action_size in (None, width), f"action is {width} wide, those stored are {self.action_size}")
        stored = StoredEpisode(self._frames, len(arrays["reward"]))
        path = self._directory / stored.name
        if path.exists():
            raise ReplayError(f"{path} exists already: does another run write to this directory?")
        self._write(path, arrays)
        with self._lock:
            self._action_size = width
            self._episodes.append(stored)
            self._steps += stored.length - 1
            self._frames += (stored.length - 1) * self._action_repeat
            self._retire_oldest()
        return path

    def load(self, path: pathlib.Path) -> dict[str, np.ndarray]:
        """See the function `load`."""
        return load(path)

    def read_rows(
        self, stored: StoredEpisode, start: int, out: Mapping[str, np.ndarray], *, check: bool = True
    ) -> None:
        """Read rows start, start + 1, ... of an episode into arrays, touching little more of the file than these rows.

        out: dict from names of `fields` to arrays [count, ...] to fill, of the dtypes that `add` stores. check:
        whether to look for numbers that are not finite; else whoever reads many pieces does, by `are_finite`.
        Raises DamagedEpisodeError where the file is gone, truncated, or not an episode of the length it is named by.
        """
        path = f"{self._directory}/{stored.name}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                kind = stored.length, os.fstat(descriptor).st_size
                known = self._alike.get(kind)
                if not (known and known.keys == out.keys() and known.read(descriptor, start, out)):
                    self._read_unknown(descriptor, stored, start, out, kind)
            finally:
                os.close(descriptor)
            if check:
                for key, rows in out.items():
                    if not are_finite(rows):
                        raise ValueError(f"{key} has values that are not finite")
        except (*DAMAGE, OSError) as error:
            raise _named(path, error) from error

    def hold(self) -> tuple[int, tuple[StoredEpisode, ...]]:
        """Return a token and the episodes of this moment, whose files stay readable until `release(token)`."""
        with self._lock:
            self._clock += 1
            self._holds[self._clock] = True
            return self._clock, self.episodes()

    def release(self, token: int) -> None:
        """End a hold: files over capacity are deleted once no hold from before that moment is open."""
        with self._lock:
            del self._holds[token]
            self._delete_retired()

    @property
    def oldest(self) -> int:
        """First frame of the oldest episode that can be drawn; `frames` where there is none."""
        episodes = self.episodes()
        return episodes[0].first_frame if episodes else self._frames

    def committed(self) -> None:
        """Say that a state was committed to which these episodes belong: see `commits`."""
        with self._lock:
            self._committed += 1
            self._delete_retired()

    def rewind(self, frames: int, oldest: int) -> None:
        """Go back to the moment when `frames` were collected and `oldest` was the property of that name.

        Later episodes are deleted: whoever goes back lives through them again. Raises ReplayError, and nothing is
        deleted, where episodes in between are neither here nor in quarantine.
        """
        with self._lock:
            check_present(frames, oldest, directory=self._directory, action_repeat=self._action_repeat)
            self._retired.clear()
            self._episodes, _ = self._scan()
            for stored in [stored for stored in self._episodes if stored.first_frame >= frames]:
                (self._directory / stored.name).unlink()
            kept = [stored for stored in self._episodes if stored.first_frame < frames]
            self._episodes = [stored for stored in kept if stored.first_frame >= oldest]
            self._retired.extend(
                (self._clock, self._committed, stored) for stored in kept[: -len(self._episodes) or None]
            )
            self._frames = frames
            self._steps = sum(stored.length - 1 for stored in self._episodes)

    def leave_out(self, episodes: Iterable[StoredEpisode]) -> None:
        """Do not draw these from now on. Their files stay."""
        with self._lock:
            left_out = set(episodes)
            self._episodes = [stored for stored in self._episodes if stored not in left_out]
            self._steps = sum(stored.length - 1 for stored in self._episodes)

    def see_only(self, frames: int, oldest: int) -> None:
        """Be as at the moment when `frames` were collected and `oldest` was the property of that name, and no files are
        touched: of a store that is read only, for which `rewind` is not.
        """
        with self._lock:
            self.leave_out(stored for stored in self._episodes if not oldest <= stored.first_frame < frames)
            self._frames = frames

    def set_aside(self, stored: StoredEpisode, reason: object) -> None:
        """Move an episode's file to quarantine/ and never draw it again; safe to call from any thread, and twice."""
        with self._lock:
            if stored in self._aside:
                return
            self._aside.add(stored)
            if self._read_only:
                _log.warning("replay: %s; left out", reason)
                return
            if stored in self._episodes:
                self._episodes.remove(stored)
                self._steps -= stored.length - 1
            self._quarantine(self._directory / stored.name, reason)

    def is_aside(self, stored: StoredEpisode) -> bool:
        """Say whether an episode was set aside since the store was opened."""
        return stored in self._aside

    def _scan(self) -> tuple[list[StoredEpisode], int]:
        episodes = []
        for name in os.listdir(self._directory):
            if stored := _stored_episode(name):
                episodes.append(stored)
            if stored or self._read_only:
                continue
            path = self._directory / name
            if path.suffix == ".npz":
                self._quarantine(path, f"{path} is not named like an episode")
            elif path.suffix == ".tmp" and _stored_episode(path.stem):
                path.unlink()
        ends = (stored.first_frame + (stored.length - 1) * self._action_repeat for stored in _present(self._directory))
        return sorted(episodes), max(ends, default=0)

    def _quarantine(self, path: pathlib.Path, reason: object) -> None:
        folder = self._directory / QUARANTINE
        folder.mkdir(exist_ok=True)
        target = _free_name(folder / path.name)
        try:
            path.rename(target)
        except FileNotFoundError:
            _log.warning("replay: %s; not drawn any more", reason)
        else:
            target.with_suffix(".txt").write_text(f"{reason}\n", encoding="utf-8")
            _log.warning("replay: %s; moved to %s, not drawn", reason, target)

    def _write(self, path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
        temporary = path.with_name(path.name + ".tmp")
        try:
            with open(temporary, "wb") as file:
                with zipfile.ZipFile(file, "w") as archive:
                    for key, array in arrays.items():
                        info = zipfile.ZipInfo(f"{key}.npy")
                        info.compress_type = self._compression
                        with archive.open(info, "w", force_zip64=True) as member:
                            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            sync(self._directory)
        except OSError as error:
            size = sum(array.nbytes for array in arrays.values())
            raise ReplayError(f"cannot write {path} ({size / 1e6:.1f} MB): {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _retire_oldest(self) -> None:
        while self._capacity and self._steps > self._capacity and len(self._episodes) > 1:
            stored = self._episodes.pop(0)
            self._steps -= stored.length - 1
            self._retired.append((self._clock, self._committed, stored))
        self._delete_retired()

    def _delete_retired(self) -> None:
        oldest_hold = next(iter(self._holds), math.inf)  # tokens are added in rising order
        while (
            self._retired
            and self._retired[0][0] < oldest_hold
            and self._retired[0][1] + self._commits <= self._committed
        ):
            _, _, stored = self._retired.popleft()
            (self._directory / stored.name).unlink(missing_ok=True)

    def _read_unknown(
        self,
        descriptor: int,
        stored: StoredEpisode,
        start: int,
        out: Mapping[str, np.ndarray],
        kind: tuple[int, int],
    ) -> None:
        """`read_rows` for a file that is like no other so far; those of its kind are read by its layout from now on."""
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            layout = self._find(file, stored)
            for key, rows in out.items():
                room = (stored.length - start, *layout[key].shape[1:])
                if start < 0 or len(rows) > room[0] or rows.shape[1:] != room[1:]:
                    raise IndexError(
                        f"{stored.name} has {room} rows of {key} from step {start} on, asked for {rows.shape}"
                    )
            read_rows(file, layout, start, out)
        if all(member.offset is not None for member in layout.values()):
            self._alike[kind] = Alike(layout)

    def _find(self, file: BinaryIO, stored: StoredEpisode) -> dict[str, Member]:
        """Where the arrays are in the open file of an episode, which must be of the shapes and dtypes of one."""
        layout = read_layout(file, self.fields)
        _check_layout(layout, stored.length, self._action_size, self.inputs)
        return layout

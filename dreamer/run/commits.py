"""The committed states of a run: everything that decides its future, whole or not at all.

    checkpoints/000012/state.json        counters, stage, draws, scores, sizes of the logs, checksums of the files below
                       arrays.npz        the episode in progress, the agent's memory, results of the round in progress
                       weights.*         networks, optimisers, generators (tf.train.Checkpoint)
                       acting.*          with loop.overlap, the networks that a round is collected with

A commit is written under another name, flushed, and renamed: it is there whole or not at all. The newest two stay, so
that one which the disk has damaged gives way to the one before it, and so does the best one by evaluation.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dreamer.run import formats
from dreamer.run.files import discard, sync

FORMAT = 1  # of the whole log directory; releases that know a smaller number refuse it
KEPT = 2
WEIGHTS, ACTING = "weights", "acting"
_STATE, _ARRAYS = "state.json", "arrays.npz"
_NAME = re.compile(r"\d{6,}")
_LEFTOVER = re.compile(r"\.\d{6,}\.(partial|old|damaged)")  # of a process that was killed


class CommitError(RuntimeError):
    """A committed state that cannot be used; the message is one line."""


class Commit(NamedTuple):
    """A committed state: its folder, state.json, and the arrays by name."""

    folder: Path
    state: dict
    arrays: dict


class Commits:
    """The committed states in `folder`, which need not exist yet."""

    def __init__(self, folder: Path):
        self._folder = Path(folder)

    def write(self, state: Mapping, arrays: Mapping[str, np.ndarray], write_weights: Callable[[Path], None]) -> Path:
        """Commit a state and return its folder; write_weights(prefix) writes files beside `prefix`.

        state: JSON values; state["score"] is the return where the weights have just been evaluated, else None.
        Raises OSError where the disk refuses: what was committed before is untouched then.
        """
        new = not self._folder.is_dir()
        self._folder.mkdir(parents=True, exist_ok=True)
        if new:
            sync(self._folder.parent)
        numbers = [int(folder.name) for folder in self._folders()]
        final = self._folder / f"{max(numbers, default=0) + 1:06d}"
        partial = self._folder / f".{final.name}.partial"
        self._sweep()
        partial.mkdir()
        named: dict[str, Any] = dict(arrays)
        try:
            write_weights(partial / WEIGHTS)
            with open(partial / _ARRAYS, "wb") as file:
                np.savez(file, **named)
            checksums = {path.name: _checksum(path) for path in sorted(partial.iterdir())}
            values = {"format": FORMAT, **state, "checksums": checksums}
            checksum = _state_checksum(values)
            text = json.dumps({**values, "checksum": checksum}, allow_nan=False)
            (partial / _STATE).write_text(text + "\n", encoding="utf-8")
            for path in partial.iterdir():
                sync(path)
            sync(partial)
            os.rename(partial, final)
            sync(self._folder)
        finally:
            discard(partial)
        self._prune()
        return final

    def read(self, folder: Path) -> Commit:
        """One committed state. Raises CommitError, saying what is wrong, where a file is missing or damaged."""
        state = self._state(folder)
        for name, expected in state["checksums"].items():
            try:
                found = _checksum(folder / name)
            except OSError as error:
                raise CommitError(f"{folder / name}: {error.strerror}") from None
            if found != expected:
                raise CommitError(f"{folder / name} is damaged: its checksum is not the one that was written")
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            return Commit(folder, state, {name: arrays[name] for name in arrays.files})

    def newest(self, report: Callable[[str], None]) -> Commit | None:
        """The newest committed state that is sound, None where there is none at all.

        report takes one line for each that is not. Raises CommitError where none of several is.
        """
        folders, problem = self._folders(), None
        for folder in reversed(folders):
            try:
                commit = self.read(folder)
            except CommitError as error:
                problem = error
                continue
            if problem:
                report(f"{problem}; the state committed before it is used, {commit.state['frames']:,} frames")
            return commit
        if problem:
            raise CommitError(f"{problem}, and no state committed before it is sound")
        return None

    def best(self, report: Callable[[str], None]) -> Commit | None:
        """The committed state whose evaluation was the best of those kept; None where none was or it is damaged.

        report takes one line for damage. Raises CommitError where the state is gone meanwhile, since a better one came.
        """
        if not (scored := self._scored(report)):
            return None
        _, _, folder = max(scored)
        try:
            return self.read(folder)
        except CommitError as error:
            if not folder.is_dir():
                raise
            if folder != self._folders()[-1]:  # of which `newest` will tell
                report(f"{error}; it was the best one, and the newest is used in its place")
            return None

    def glance(self) -> dict | None:
        """state.json of the newest state that has a sound one, whatever its weights are; None where there is none."""
        for folder in reversed(self._folders()):
            try:
                return self._state(folder)
            except CommitError:  # damaged, or gone meanwhile
                continue
        return None

    def drop_after(self, commit: Commit | None) -> None:
        """Forget the states committed after `commit`: a run that goes on from it takes other ways than theirs."""
        self._sweep()
        for folder in reversed(self._folders()):
            if commit is None or int(folder.name) > int(commit.folder.name):
                self._remove(folder, "damaged")

    def _state(self, folder: Path) -> dict:
        try:
            state = json.loads(formats.read(folder / _STATE, formats.DOCUMENT_BYTES))
        except formats.FormatError as error:
            raise CommitError(str(error)) from None
        except (ValueError, RecursionError):
            raise CommitError(f"{folder / _STATE} is damaged: it is no JSON") from None
        if not isinstance(state, dict) or not isinstance(state.get("checksums"), dict):
            raise CommitError(f"{folder / _STATE} is damaged: it lacks the checksums")
        if state.get("format") != FORMAT:
            raise CommitError(
                f"{folder} has format {state.get('format')}, and this release of dreamer reads format {FORMAT}: "
                "open it with the release that wrote it, or a newer one"
            )
        if state.pop("checksum", None) != _state_checksum(state):
            raise CommitError(f"{folder / _STATE} is damaged: its checksum is not the one that was written")
        return state

    def _folders(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(
            (path for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()),
            key=lambda path: int(path.name),
        )

    def _scored(self, report: Callable[[str], None]) -> list[tuple[float, int, Path]]:
        """(return, number, folder) of the states that were evaluated: of two as good, the later one is the larger.

        report takes one line for each damaged one.
        """
        scored = []
        for folder in self._folders():
            try:
                score = self._state(folder).get("score")
            except CommitError as error:
                if folder.is_dir():
                    report(f"{error}; whether it was the best one is not known")
                continue
            if score is not None:
                scored.append((score, int(folder.name), folder))
        return scored

    def _prune(self) -> None:
        keep = self._folders()[-KEPT:]
        if scored := self._scored(report=lambda line: None):
            keep.append(max(scored)[-1])
        for folder in self._folders():
            if folder not in keep:
                self._remove(folder, "old")

    def _remove(self, folder: Path, reason: str) -> None:
        # Under another name first: whoever reads meanwhile finds it whole or not at all.
        doomed = self._folder / f".{folder.name}.{reason}"
        os.rename(folder, doomed)
        discard(doomed)

    def _sweep(self) -> None:
        """Remove what a process left behind that was killed in the middle of a write or a removal."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if _LEFTOVER.fullmatch(path.name):
                discard(path)


def _state_checksum(values: Mapping) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:
    """hashlib.file_digest, which Python 3.10 does not have."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()

"""Opening the runs of releases up to 0.1, whose log directory had no format number (format 0).

They kept one TensorFlow checkpoint, of everything but the episode in progress, and counted frames by the names of their
episodes. What such a run resumes from is not exact: the episode in progress ends where the run stopped.
"""

import json
import math
import re
from pathlib import Path

from dreamer.run import layout

_NOTE = re.compile(r'model_checkpoint_path: "([^"/]+)"')
_EPISODE = re.compile(r"(\d{10,})-(\d+)\.npz(?:\.bad)*")


def is_legacy(logdir: Path) -> bool:
    """Whether the directory holds a run of format 0."""
    return (logdir / layout.CONFIG).is_file() and not (logdir / layout.RUN).exists()


def newest_checkpoint(logdir: Path) -> Path | None:
    """Prefix of the files of the newest checkpoint of format 0; None where there is none."""
    note = logdir / layout.COMMITS / "checkpoint"
    match = _NOTE.search(note.read_text(encoding="utf-8", errors="replace")) if note.is_file() else None
    return note.with_name(match[1]) if match else None


def frames(logdir: Path, action_repeat: int) -> int:
    """Frames that were collected, by the names of the episodes."""
    folder = logdir / layout.EPISODES
    names = [_EPISODE.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(name[1]) + (int(name[2]) - 1) * action_repeat for name in names if name), default=0)


def oldest(logdir: Path) -> int:
    """First frame of the oldest episode that is left."""
    folder = logdir / layout.EPISODES
    names = [_EPISODE.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return min((int(name[1]) for name in names if name), default=0)


def lines_until(path: Path, frames: int) -> int:
    """Bytes of the lines {"step": ...} up to a number of frames; a line that cannot be read ends them."""
    size = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            if not line.endswith(b"\n") or json.loads(line)["step"] > frames:
                break
        except (ValueError, TypeError, KeyError, RecursionError):
            break
        size += len(line)
    return size


def scores(logdir: Path, frames: int) -> list:
    """[frames, return] of the evaluations up to a number of frames; none where the file cannot be read."""
    try:
        content = json.loads((logdir / layout.SCORES).read_text(encoding="utf-8"))
        points = zip(content["xs"], content["ys"], strict=True)
        return [[int(x), float(y)] for x, y in points if 0 <= x <= frames and math.isfinite(y)]
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return []

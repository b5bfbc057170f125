"""Metrics of a run: metrics.jsonl and open_loop.jsonl for programs and TensorBoard event files for people."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from dreamer.results.files import replacing
from dreamer.results.video import encode_gif


class Lines:
    """A file of one JSON object per line, {"step": frames, ...}. JSON knows no NaN and no infinities: null there.

    A process that is killed leaves at most one partial last line, which the next start cuts off. resume_frames is
    the step of the checkpoint a run continues from (0 if it starts over in the same directory): later lines are
    dropped, because the run will write them again. None keeps them all.
    """

    def __init__(self, path: Path, resume_frames: int | None = None):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _repair(path)
            if resume_frames is not None:
                _drop_after(path, resume_frames)
        # Unbuffered, so that a line is one call to the system: on disk whole, or cut short only at the file's end.
        self._file = path.open("ab", buffering=0)

    def write(self, step: int, values: Mapping[str, float | str | list]) -> None:
        """Append one line. Values: numbers, text, or lists of them."""
        line = {"step": int(step)} | {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


class Logger:
    """Writes scalars to logdir/metrics.jsonl and TensorBoard, GIFs to TensorBoard, and errors to open_loop.jsonl.

    Steps are environment frames; resume_frames as in Lines. Event files are never cut: where a newer one steps back in
    a tag, TensorBoard's default loader hides the older points from there on.
    """

    def __init__(self, logdir: Path, resume_frames: int | None = None):
        self._metrics = Lines(Path(logdir) / "metrics.jsonl", resume_frames)
        self._open_loop = Lines(Path(logdir) / "open_loop.jsonl", resume_frames)
        self._writer = tf.summary.create_file_writer(str(logdir))
        self._name = str(logdir)

    def settings(self, values: Mapping[str, float | str | bool]) -> None:
        """Let TensorBoard list the run among its HPARAMS, under the name of its log directory, with these values."""
        with self._writer.as_default(step=0):
            hparams.hparams(dict(values), trial_id=self._name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line, and one TensorBoard point per name. Values: numbers, or arrays and tensors of one element."""
        values = {name: _number(name, value) for name, value in values.items()}
        if "step" in values:
            raise ValueError('a metric cannot be named "step": that is the key of the frames in metrics.jsonl')
        self._metrics.write(step, values)
        with self._writer.as_default(step=int(step)):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def open_loop(self, step: int, *, context: int, **errors: np.ndarray) -> None:
        """Write errors of open-loop predictions against the horizon, arrays [imagined steps], after `context` steps."""
        self._open_loop.write(step, {"context": context} | {name: error.tolist() for name, error in errors.items()})

    def gif(self, name: str, frames: np.ndarray, step: int, fps: float) -> None:
        """Write an animation that TensorBoard shows among its images. frames: [T, H, W, 3] uint8."""
        image = encode_gif(frames, fps)
        height, width = frames.shape[1:3]
        # TensorBoard's image summaries are the strings width, height and encoded images, GIFs among them.
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
        metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
        with self._writer.as_default(step=int(step)):
            tf.summary.write(name, tf.constant([str(width), str(height), image]), metadata=metadata)

    def flush(self) -> None:
        """Bring everything written so far to the disk."""
        self._metrics.flush()
        self._open_loop.flush()
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._metrics.close()
        self._open_loop.close()
        self._writer.close()


def _finite(value):
    if isinstance(value, list):
        return [_finite(element) for element in value]
    return value if isinstance(value, str) or math.isfinite(value) else None


def _number(name: str, value) -> int | float:
    array = np.asarray(value.numpy() if tf.is_tensor(value) else value)
    if array.size != 1 or array.dtype.kind not in "iufV":  # V: bfloat16
        raise ValueError(f"metric {name} must be one number, got shape {array.shape}, type {array.dtype}")
    return int(array.item()) if array.dtype.kind in "iu" else float(array.item())


def _repair(path: Path) -> None:
    """Cut off a last line that has no end."""
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _drop_after(path: Path, frames: int) -> None:
    """Keep the lines up to step `frames`, in one step. Raises ValueError naming a line that is no metrics line."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= frames:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            raise ValueError(f'{path}: line {number} is not {{"step": frames, ...}}: {line[:40]!r}') from None
    if len(kept) < len(lines):
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(kept))

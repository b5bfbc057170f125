"""Metrics of a run: metrics.jsonl and open_loop.jsonl for programs and TensorBoard event files for people."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from dreamer.results.video import encode_gif
from dreamer.run import layout
from dreamer.training.also import Also
from dreamer.training.meanings import meaning


class Lines:
    """A file of one JSON object per line, {"step": frames, ...}. JSON knows no NaN and no infinities: null there.

    A process that is killed leaves at most one partial last line, which the next start cuts off. size: bytes that
    belong to the committed state a run goes on from (0 if it starts over in the same directory): what follows is
    dropped, because the run will write it again. None keeps it all.
    """

    def __init__(self, path: Path, size: int | None = None):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.lost = 0  # bytes that the file lacks
        if path.exists():
            _repair(path)
        if size is not None:
            with path.open("ab") as file:
                self.lost = max(0, size - file.tell())
                file.truncate(min(size, file.tell()))
            _repair(path)
        # Unbuffered, so that a line is one call to the system: on disk whole, or cut short only at the file's end.
        self._file = path.open("ab", buffering=0)

    def write(self, step: int, values: Mapping[str, float | str | list | None]) -> None:
        """Append one line. Values: numbers, text, None, or lists of them."""
        line = {"step": int(step)} | {name: _finite(value) for name, value in values.items()}
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")

    def flush(self) -> int:
        """Bring everything written so far to the disk; returns the size of the file in bytes."""
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


class Logger:
    """Writes scalars to logdir/metrics.jsonl and TensorBoard, GIFs to TensorBoard, and errors to open_loop.jsonl.

    Steps are environment frames; also: what gets the same. sizes: {file name: bytes}, each as in Lines. Event files are
    never cut: where a newer one steps back in a tag, TensorBoard's default loader hides the older points from there on.
    """

    def __init__(self, logdir: Path, sizes: Mapping[str, int] | None = None, also: Also | None = None):
        sizes, self._also = sizes or {}, also
        self._metrics = Lines(Path(logdir) / layout.METRICS, sizes.get(layout.METRICS))
        self._open_loop = Lines(Path(logdir) / layout.OPEN_LOOP, sizes.get(layout.OPEN_LOOP))
        self._writer = tf.summary.create_file_writer(str(logdir))
        self._name = str(logdir)
        self._described: set[str] = set()  # metrics of which TensorBoard knows what they are

    def sizes(self) -> dict[str, int]:
        """Bytes of the files, which have reached the disk then."""
        return {layout.METRICS: self._metrics.flush(), layout.OPEN_LOOP: self._open_loop.flush()}

    def lost(self) -> dict[str, int]:
        """Bytes that files lack which are shorter than they were said to be."""
        files = {layout.METRICS: self._metrics, layout.OPEN_LOOP: self._open_loop}
        return {name: file.lost for name, file in files.items() if file.lost}

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
                # Once is enough, and a line in every point would make the files twice as large.
                tf.summary.scalar(name, value, description=None if name in self._described else meaning(name))
        self._described |= set(values)
        if self._also:
            self._also.scalars(int(step), values)

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
        if self._also:
            self._also.gif(name, image, int(step))

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
        if self._also:
            self._also.close()


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(element) for element in value]
    return value if value is None or isinstance(value, str) or math.isfinite(value) else None


def _number(name: str, value: Any) -> int | float:
    array = np.asarray(value.numpy() if tf.is_tensor(value) else value)
    if array.size != 1 or array.dtype.kind not in "iufV":  # V: bfloat16
        raise ValueError(f"metric {name} must be one number, got shape {array.shape}, type {array.dtype}")
    return int(array.item()) if array.dtype.kind in "iu" else float(array.item())


def _repair(path: Path) -> None:
    """Cut off a last line that has no end."""
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)

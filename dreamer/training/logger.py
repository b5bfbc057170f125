"""Metrics of a run: metrics.jsonl for programs and TensorBoard event files for people, under the same names."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from dreamer.results.files import replacing
from dreamer.results.video import encode_gif


class Logger:
    """Writes scalars to logdir/metrics.jsonl and TensorBoard, and GIFs to TensorBoard. Steps are environment frames.

    Each line of metrics.jsonl is one object, {"step": frames, "train/image_loss": .., ...}. JSON knows no NaN and
    no infinities: they are written as null there, and as they are to TensorBoard.

    A process that is killed leaves at most one partial last line, which the next start cuts off. resume_frames is
    the step of the checkpoint a run continues from (0 if it starts over in the same directory): later lines are
    dropped, because the run will write them again. None keeps them all. Event files are never cut: where a newer
    one steps back in a tag, TensorBoard's default loader hides the older points from there on.
    """

    def __init__(self, logdir: Path, resume_frames: int | None = None):
        path = Path(logdir) / "metrics.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _repair(path)
            if resume_frames is not None:
                _drop_after(path, resume_frames)
        # Unbuffered, so that a line is one call to the system: on disk whole, or cut short only at the file's end.
        self._file = path.open("ab", buffering=0)
        self._writer = tf.summary.create_file_writer(str(logdir))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line, and one TensorBoard point per name. Values: numbers, or arrays and tensors of one element."""
        values = {name: _number(name, value) for name, value in values.items()}
        if "step" in values:
            raise ValueError('a metric cannot be named "step": that is the key of the frames in metrics.jsonl')
        line = {"step": int(step)}
        line.update({name: value if math.isfinite(value) else None for name, value in values.items()})
        self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        with self._writer.as_default(step=int(step)):
            for name, value in values.items():
                tf.summary.scalar(name, value)

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
        os.fsync(self._file.fileno())
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self.flush()
        self._file.close()
        self._writer.close()


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

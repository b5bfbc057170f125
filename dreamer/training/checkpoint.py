"""Checkpoints by name: networks, optimisers, counters and random generators, written with tf.train.Checkpoint."""

import tensorflow as tf


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read; the message is one line."""


class Checkpoint:
    """The newest checkpoint of a run, in `directory`.

    trackables: name -> object that TensorFlow can track. texts: name -> object with state() -> str and restore(str),
    such as the sampler of the replay.
    """

    def __init__(self, directory, trackables, texts):
        states = {f"{name}_state": _Text(item) for name, item in texts.items()}
        self._checkpoint = tf.train.Checkpoint(**trackables, **states)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(directory), max_to_keep=1)

    @property
    def exists(self):
        """Whether there is something to restore."""
        return self._manager.latest_checkpoint is not None

    def save(self):
        """Write a checkpoint; the one before it is deleted only afterwards. Raises OSError where the disk refuses."""
        try:
            self._manager.save()
        except tf.errors.OpError as error:
            raise OSError(f"cannot write a checkpoint to {self._manager.directory}: {error.message}") from None

    def restore(self):
        """Load the newest checkpoint. Raises CheckpointError if it is damaged or does not fit these networks."""
        path = self._manager.latest_checkpoint
        try:
            self._checkpoint.restore(path).assert_consumed()
        # What a damaged file raises depends on where it is damaged.
        except (AssertionError, LookupError, RuntimeError, ValueError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0]
            raise CheckpointError(f"{path} cannot be restored ({reason}): damaged, or of another model") from None


class _Text(tf.train.experimental.PythonState):
    def __init__(self, item):
        self._item = item

    def serialize(self):
        return self._item.state()

    def deserialize(self, value):
        self._item.restore(value.decode() if isinstance(value, bytes) else value)

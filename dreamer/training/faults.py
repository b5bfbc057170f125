"""What can go wrong with a training: errors in one line, and numbers that are not finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from dreamer.run import layout
from dreamer.training.progress import counted
from dreamer.types import Batch

if TYPE_CHECKING:
    from dreamer.agents.dreamer import Dreamer
    from dreamer.agents.planet import PlaNet
    from dreamer.training.recorder import State

NETWORKS = ("model", "actor", "value")
LARGE = 1e4  # a reward whose squared error overflows float16, and swamps all other losses in any precision


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def one_line(error: BaseException, folder: Path | None = None) -> str:
    """What an exception says, without line breaks; what the system refuses is named: the file, else the folder."""
    text = getattr(error, "message", None) or str(error)
    if isinstance(error, OSError) and error.strerror:
        path = error.filename or folder
        text = f"{path}: {error.strerror}" if path else error.strerror
    return " ".join(str(text).split()) or type(error).__name__


class Remedies(NamedTuple):
    """What may help against numbers that are not finite, by the settings of a run.

    rates: {network: its learning rate}; precision and tanh_rewards: the keys.
    """

    rates: Mapping[str, float]
    precision: str
    tanh_rewards: bool

    def words(self, network: str, largest_reward: float = 0.0) -> str:
        """The flags with which the run goes on, after what went wrong with a network."""
        if largest_reward > LARGE and not self.tanh_rewards:
            why, key, value = "Rewards of this size overflow the losses", "replay.tanh_rewards", "true"
            also = ", from tanh(r); better still is a new run in an environment that scales its rewards to about 1"
        elif self.precision == "float16":
            why, key, value, also = "Numbers above 65,504 are infinite in float16", "precision", "float32", ""
        else:
            why, key = "Its steps may be too large", f"{network}.lr"
            value = f"{self.rates[network] / 3:.1g}"
            also = "" if self.precision == "float32" else "; so does --precision float32 --resume.allow precision"
        flags = f"--{key} {value} --resume.allow {key}"
        return f"{why}. The last committed state is sound: the same command with {flags} goes on from it{also}"


def check(
    results: Mapping[str, np.ndarray],
    batch: Batch,
    agent: "Dreamer | PlaNet",
    state: "State",
    limit: int,
    logdir: Path,
    remedies: Remedies,
) -> None:
    """Count updates that a network skipped in a row, for its gradient was not finite; raise TrainingError at `limit`.

    results: metrics of the updates of a round, {name: [n]}; state.skipped: {network: updates skipped up to now}. At the
    limit the last batch is kept in faults/, for a look at what did it. The weights are as the last sound update left
    them, and what was committed is from before the first skipped one or holds sound weights too.
    """
    for name in NETWORKS:
        if f"{name}_skipped" not in results:
            continue
        sound = np.flatnonzero(results[f"{name}_skipped"] == 0.0)
        made = len(results[f"{name}_skipped"])
        state.skipped[name] = made - 1 - int(sound[-1]) if len(sound) else state.skipped.get(name, 0) + made
    network, count = max(state.skipped.items(), key=lambda entry: entry[1], default=("", 0))
    if count < limit:
        return
    wrong = [key for key, values in results.items() if not np.isfinite(values[-1])]
    path = logdir / layout.FAULTS / f"{int(agent.updates):08d}.npz"
    path.parent.mkdir(exist_ok=True)
    seen = {**batch.inputs, **{key: value for key, value in batch._asdict().items() if key != "inputs"}}
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in seen.items()}
    np.savez(path, **arrays)
    largest = float(np.abs(np.asarray(batch.reward)).max())
    raise TrainingError(
        f"the gradient of the {network} was NaN or infinite in {counted(count, 'update')} in a row up to number "
        f"{int(agent.updates)} (its weights were left as they are; not finite: {', '.join(wrong)}; largest reward of "
        f"the batch {largest:.3g}; the batch is in {path}). {remedies.words(network, largest)}"
    )


def check_weights(agent: "Dreamer | PlaNet", remedies: Remedies) -> None:
    """Raise TrainingError unless all weights of the agent are finite: only such ones may take the place of others."""
    for name, network in agent.checkpoint().items():
        for variable in getattr(network, "weights", ()):
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                of = name.removeprefix("world_")
                raise TrainingError(
                    f"a weight of the {of} is NaN or infinite ({variable.path}): nothing is written. "
                    f"{remedies.words(of)}"
                )

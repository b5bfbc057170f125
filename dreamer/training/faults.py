"""What can go wrong with a training: errors in one line, and numbers that are not finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


class TrainingError(RuntimeError):
    """Training cannot go on; the message is one line."""


def one_line(error: BaseException, folder: Path | None = None) -> str:
    """What an exception says, without line breaks; what the system refuses is named: the file, else the folder."""
    text = getattr(error, "message", None) or str(error)
    if isinstance(error, OSError) and error.strerror:
        path = error.filename or folder
        text = f"{path}: {error.strerror}" if path else error.strerror
    return " ".join(str(text).split()) or type(error).__name__


def check(
    results: Mapping[str, np.ndarray], batch: Batch, agent: "Dreamer | PlaNet", state: "State", limit: int, logdir: Path
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
        f"the batch {largest:.3g}; the batch is in {path}). {_remedy(network, largest)}"
    )


def _remedy(network: str, largest_reward: float) -> str:
    if largest_reward > 1e4:
        return "Rewards of this size overflow the losses: scale them down, or --replay.tanh_rewards true in a new run"
    return (
        f"The last committed state is sound: go on from it with --precision float32 or a lower --{network}.lr, and "
        f"--resume.allow precision {network}.lr"
    )


def check_weights(agent: "Dreamer | PlaNet") -> None:
    """Raise TrainingError unless all weights of the agent are finite: only such ones may take the place of others."""
    for name, network in agent.checkpoint().items():
        for variable in getattr(network, "weights", ()):
            if not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise TrainingError(
                    f"a weight of {name} is NaN or infinite ({variable.path}): nothing is written, and the last "
                    "committed state is sound: go on from it with a lower learning rate or --precision float32"
                )

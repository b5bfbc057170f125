"""Agents by the config: new ones, and those of a run with the weights of its newest checkpoint."""

import keras
import tensorflow as tf

from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.agents.random import Random
from dreamer.training.checkpoint import Checkpoint, CheckpointError


class RunError(ValueError):
    """A run that cannot do what it is asked for; the message is one line."""


def build_agent(config, action_space, *, seed):
    """The agent that `config.method` names, new; `seed` decides its weights and all that it draws.

    Raises RunError as `check` does.
    """
    check(config, action_space)
    if config.method == "random":
        return Random(action_space, seed=seed)
    shared = {name: config[name] for name in ("model", "optimizer", "explore")}
    shared |= {"seed": seed, "loss_scale": keras.config.dtype_policy().compute_dtype == "float16"}
    if config.method == "planet":
        agent = PlaNet(action_space, planner=config.planner, gamma=config.behavior.discount, **shared)
    else:
        agent = Dreamer(action_space, actor=config.actor, value=config.value, behavior=config.behavior, **shared)
    if config.xla:
        agent.train = tf.function(agent.train.python_function, jit_compile=True)
    return agent


def check(config, action_space):
    """Raise RunError where `config.method` cannot act with these actions."""
    if config.method != "planet":
        return
    if action_space.discrete:
        raise RunError(f"--method planet plans continuous actions, and those of {config.task} are discrete")
    if config.planner.best > config.planner.candidates:
        raise RunError(
            f"--planner.best: expected at most the {config.planner.candidates} of planner.candidates, "
            f"got {config.planner.best}"
        )


def restore_agent(config, logdir, action_space, *, seed):
    """The agent of the run in `logdir` as its newest checkpoint has it, but for its draws, which `seed` decides.

    Nothing is written and no lock is taken: a run that trains there at the same time does not notice.
    Raises RunError where there is no checkpoint yet, CheckpointError where the newest is damaged or does not fit.
    """
    agent = build_agent(config, action_space, seed=seed)
    if hasattr(agent, "checkpoint"):
        _restore(agent, logdir)
        agent.random.reset_from_seed(seed)
    return agent


def frames_of(updates, *, prefill, pretrain, train_every, train_updates):
    """Environment frames that `updates` belong to, the first at which they were due (see loop.updates_due)."""
    if not updates:
        return 0
    return prefill + -(-max(0, updates - pretrain) // train_updates) * train_every


def _restore(agent, logdir):
    newest = logdir / "checkpoints" / "checkpoint"  # TensorFlow's note of which one that is, replaced in one step
    while newest.exists():
        before = newest.read_bytes()
        try:
            return Checkpoint(newest.parent, agent.checkpoint(), {"replay": _Unused()}).restore()
        except CheckpointError:
            # A run that goes on meanwhile deletes this one as soon as it has noted the next.
            if newest.read_bytes() == before:
                raise
    raise RunError(f"{logdir} has no checkpoint yet: a run that trains saves one every loop.save_every frames")


class _Unused:
    """State in a checkpoint that only training needs."""

    def restore(self, text):
        """Nothing."""

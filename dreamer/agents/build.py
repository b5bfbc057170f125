"""The agent that a config names."""

import keras

from dreamer import keys
from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.agents.random import Random
from dreamer.types import ActionSpace


class RunError(ValueError):
    """A run that cannot do what it is asked for; the message is one line."""


def build_agent(config: keys.Keys, action_space: ActionSpace, *, seed: int) -> Dreamer | PlaNet | Random:
    """The agent that `config.method` names, new; `seed` decides its weights and all that it draws.

    Raises RunError as `check` does.
    """
    check(config, action_space)
    if config.method == "random":
        return Random(action_space, seed=seed)
    shared = {name: config[name] for name in ("model", "optimizer", "explore", "xla")}
    shared |= {"seed": seed, "loss_scale": keras.config.dtype_policy().compute_dtype == "float16"}
    if config.method == "planet":
        return PlaNet(action_space, planner=config.planner, gamma=config.behavior.discount, **shared)
    return Dreamer(action_space, actor=config.actor, value=config.value, behavior=config.behavior, **shared)


def check(config: keys.Keys, action_space: ActionSpace) -> None:
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

"""The agent that a config names."""

import importlib
from typing import Any

import keras

from dreamer.keys import Keys
from dreamer.types import ActionSpace


def build_agent(config: Keys, action_space: ActionSpace, *, seed: int) -> Any:
    """The agent that `config.method` names, new; `seed` decides its weights and all that it draws.

    agents/__init__.py has what an agent can do. Raises RunError where this one cannot act so.
    """
    return importlib.import_module(f"dreamer.agents.{config.method}").build(config, action_space, seed=seed)


def shared(config: Keys, seed: int) -> dict[str, Any]:
    """The keyword arguments that all agents with a world model take."""
    sections = {name: config[name] for name in ("model", "optimizer", "explore")}
    loss_scale = keras.config.dtype_policy().compute_dtype == "float16"
    # What `auto` comes to is known where training begins (training/xla.py); nothing else has a training step.
    return sections | {"seed": seed, "loss_scale": loss_scale, "xla": config.xla == "true"}

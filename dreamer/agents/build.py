"""The agent that a config names."""

import importlib

import keras


def build_agent(config, action_space, *, seed):
    """The agent that `config.method` names, new; `seed` decides its weights and all that it draws.

    Raises RunError where that agent cannot act so.
    """
    return importlib.import_module(f"dreamer.agents.{config.method}").build(config, action_space, seed=seed)


def shared(config, seed):
    """The keyword arguments that all agents with a world model take."""
    sections = {name: config[name] for name in ("model", "optimizer", "explore", "xla")}
    return sections | {"seed": seed, "loss_scale": keras.config.dtype_policy().compute_dtype == "float16"}

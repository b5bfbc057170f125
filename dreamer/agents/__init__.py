"""Agents. Each one has the same small interface, which the training loop and the driver rely on:

initial()                                 carry before the first step of an episode stream
act(observation, carry, explore) -> action [A] float32 NumPy, carry
initial(rows), act_rows(image, is_first, carry, explore) -> actions [B, A], carry         (agents with a memory)
train(batch) -> dict of scalar tensors    one update from a Batch                     (agents that learn)
open_loop(batch, context) -> images [B, T, 64, 64, 3] in [0, 1] or None, rewards [B, T]   (agents with a world model)
checkpoint() -> dict of trackables        everything that resuming needs, by name

An agent is a module with a function build(config, action_space, *, seed), which raises RunError where the agent cannot
act so; its name in METHODS makes it a value of the key `method`.
"""

from dreamer.keys import Keys

PLANNER = "planet"
METHODS = ("dreamer", PLANNER, "random")
_OBJECTIVES = {"contrastive": "contrastive", "none": "reward_only"}  # of the world model, other than images
ABLATIONS = ("no_value", *_OBJECTIVES.values())  # Dreamer with other settings, one overlay each


def variant(config: Keys) -> str:
    """The name of a config's method in files and figures, where the paper's ablations have names of their own.

    `dreamer`, `planet`, `random`, `no_value`, `contrastive`, `reward_only`, or several of them joined.
    """
    if config.method == "random":
        return "random"
    names = [
        config.method if config.method != "dreamer" else "",
        "no_value" if config.method == "dreamer" and not config.behavior.bootstrap else "",
        _OBJECTIVES.get(config.model.observation, ""),
    ]
    return "_".join(filter(None, names)) or "dreamer"


class RunError(ValueError):
    """A run that cannot do what it is asked for; the message is one line."""

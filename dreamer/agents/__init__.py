"""Agents. Each one has the same small interface, which the training loop and the driver rely on:

initial()                                 carry before the first step of an episode stream
act(observation, carry, explore) -> action [A] float32 NumPy, carry
initial(rows), act_rows(inputs, is_first, carry, explore) -> actions [B, A], carry        (agents with a memory)
train(batch) -> dict of scalar tensors    one update from a Batch                     (agents that learn)
open_loop(batch, context) -> inputs and "reward" that it predicts [B, T, ...], by name    (agents with a world model)
inputs                                    Space of what it sees, by name              (agents with a memory)
checkpoint() -> dict of trackables        everything that resuming needs, by name

An agent is a module with a function build(config, action_space, inputs, *, seed), which raises RunError where the agent
cannot act so; its name in METHODS makes it a value of the key `method`.
"""

import fnmatch
from collections.abc import Mapping

from dreamer.keys import Keys
from dreamer.types import IMAGE, Space

PLANNER = "planet"
VECTORS = "vectors"  # in model.inputs: all that an environment observes beside the image
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


def sees_images(config: Keys) -> bool:
    """Whether images are among what the agent sees, so that the environment must render."""
    return any(_fits(IMAGE, pattern) for pattern in _patterns(config))


def inputs_of(config: Keys, spaces: Mapping[str, Space]) -> dict[str, Space]:
    """What the agent sees of an environment's observations: Spaces by name, the image first, vectors by their names.

    Raises RunError where a name or pattern of model.inputs fits none of them.
    """
    chosen = set()
    for pattern in _patterns(config):
        found = [name for name in spaces if _fits(name, pattern)]
        if not found:
            raise RunError(
                f"--model.inputs: {config.task} observes {', '.join(spaces) or 'nothing'}, and no {pattern!r}"
            )
        chosen.update(found)
    return {name: spaces[name] for name in sorted(chosen, key=lambda name: (name != IMAGE, name))}


def _fits(name: str, pattern: str) -> bool:
    return name != IMAGE if pattern == VECTORS else fnmatch.fnmatchcase(name, pattern)


def _patterns(config: Keys) -> list[str]:
    return [pattern.strip() for pattern in config.model.inputs.split(",")]


class RunError(ValueError):
    """A run that cannot do what it is asked for; the message is one line."""

"""Networks of one run in another: the world model of PlaNet for Dreamer and back, a trained model for another task."""

from pathlib import Path

import keras

from dreamer import config
from dreamer.agents import RunError, variant
from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.run import layout
from dreamer.training.restore import restore_agent
from dreamer.types import IMAGE

_PARTS = (
    "encoder",
    "vector_encoder",
    "rssm",
    "decoder",
    "state_head",
    "reward_head",
    "discount_head",
)  # of a world model
_BEHAVIOR = ("actor", "value")


def take_networks(agent: Dreamer | PlaNet, source: Path) -> str:
    """Give an agent the weights of all networks that the run in `source` has too; a line that says which those are.

    Weights are those of its newest committed state; optimisers and draws stay as they are. Raises RunError where there
    is none, or where networks of one name differ in shape: nothing is taken then. Raises CommitError for damaged ones.
    """
    try:
        theirs = config.load_file(source / layout.CONFIG)
        given = restore_agent(theirs, source, seed=0)
    except (config.ConfigError, RunError) as error:  # such as a run that is gone before this one has a state
        raise RunError(f"--init_from: {error}") from error
    here, there = networks(agent), networks(given.agent)
    # One network embeds all vectors, by their places: those of other names may well have the same sizes.
    if "vector_encoder" in here and "vector_encoder" in there and _vectors(agent) != _vectors(given.agent):
        seen = [", ".join(_vectors(one)) for one in (given.agent, agent)]
        raise RunError(f"--init_from {source} does not fit: its agent sees {seen[0]}, and this one {seen[1]}")
    both = [name for name in here if name in there]
    if differing := [text for name in both if (text := _difference(name, here[name], there[name]))]:
        raise RunError(f"--init_from {source} does not fit: {'; '.join(differing)}")
    for name in both:
        here[name].set_weights(there[name].get_weights())
    sides = {
        "took": both,
        "new here": [name for name in here if name not in there],
        "left there": [name for name in there if name not in here],
    }
    listed = "; ".join(f"{side} {', '.join(names)}" for side, names in sides.items() if names)
    unit = "frames" if theirs.learn.source == "none" else "updates"
    return f"From {source} ({variant(theirs)} on {theirs.task} after {given.frames:,} {unit}): {listed}."


def networks(agent: Dreamer | PlaNet) -> dict[str, keras.layers.Layer]:
    """The networks of an agent, by name."""
    owners = [(agent.world_model, name) for name in _PARTS] + [(agent, name) for name in _BEHAVIOR]
    found = {name: getattr(owner, name, None) for owner, name in owners}
    found |= {f"head of {name}": head for name, head in agent.world_model.vector_heads.items()}
    return {name: network for name, network in found.items() if network is not None}


def _vectors(agent: Dreamer | PlaNet) -> list[str]:
    return sorted(set(agent.inputs) - {IMAGE})


def _difference(name: str, here: keras.layers.Layer, there: keras.layers.Layer) -> str | None:
    """The first weight of a network that has another shape in the other one."""
    if len(here.weights) != len(there.weights):
        return f"{name} has {len(there.weights)} weights there and {len(here.weights)} here"
    for one, other in zip(here.weights, there.weights, strict=True):
        if one.shape != other.shape:
            return f"{name} has a {one.name} of {_shape(other)} there and of {_shape(one)} here"
    return None


def _shape(weight: keras.Variable) -> str:
    return " x ".join(map(str, weight.shape))

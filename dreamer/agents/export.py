"""A trained agent as a SavedModel that needs nothing but TensorFlow, for robots and for programs without this package.

Everything random in it follows from an input, `seed`: equal inputs give equal outputs. What a function returns of the
state goes into its next call under the same names, so that a loop is `state = act(image=..., seed=..., **state)`.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf

from dreamer.agents import RunError, variant
from dreamer.agents.acting import Draws
from dreamer.agents.trained import TrainedAgent
from dreamer.types import IMAGE, Space, State
from dreamer.world_model.rssm import feature

SIGNATURE, EXAMPLE = "signature.json", "example.py"

_STATE = {
    "stoch": "sample of the posterior; zeros before the first step",
    "deter": "deterministic state; zeros before the first step",
    "action": "the action that was taken there; zeros before the first step",
}
_PREDICTED = {IMAGE: "images"}  # names of predictions that are not those of inputs
_SEED = "all that is random follows from it: another one for every step, such as its number"
_EXAMPLE = '''\
"""The policy beside this file: python example.py [episode.npz], which has arrays [T, ...] of what it sees, by name."""

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors alone, read as TensorFlow is imported
import tensorflow as tf

act = tf.saved_model.load(str(Path(__file__).parent)).signatures["act"]
seen = {seen}
nothing = {{name: np.zeros([5, *shape]) for name, shape, _ in seen.values()}}
episode = np.load(sys.argv[1]) if len(sys.argv) > 1 else nothing
inputs = {{argument: episode[name].astype(dtype) for argument, (name, _, dtype) in seen.items()}}
state = {{name: tf.zeros([1, size]) for name, size in {sizes}.items()}}
for step in range(len(next(iter(inputs.values())))):
    now = {{name: tf.constant(values[step : step + 1]) for name, values in inputs.items()}}
    first, seed = tf.constant([step == 0]), tf.constant(step, tf.int64)
    state = act(is_first=first, seed=seed, **now, **state)
    print(*state["action"][0].numpy())  # {actions}
'''


def check_target(out: Path, run: Path) -> None:
    """Raise RunError unless `out` is a place for an export of the run: new, empty, or an earlier export."""
    if out.exists() and not (out.is_dir() and ((out / SIGNATURE).is_file() or not any(out.iterdir()))):
        raise RunError(f"{out}: expected a new or empty directory, or an earlier export")
    if run.resolve() in list(out.resolve().parents)[1:]:
        raise RunError(f"{out}: lies in a folder of the run {run}, which is for what the training writes")


def export(agent: TrainedAgent, out: Path, with_model: bool = False) -> list[str]:
    """Write a SavedModel of the agent's policy into the empty directory `out`; return the names of its files.

    It has the functions act (the mode, as in evaluation) and explore (with the noise of training); with_model adds
    imagine, which predicts without images. signature.json says what goes in and comes out, example.py calls act.
    """
    size, rssm = agent.action_space.size, agent.networks["world_model"].rssm
    sizes = {"stoch": rssm.stoch, "deter": rssm.deter, "action": size}
    names = argument_names(agent.inputs)
    space = agent.action_space.told
    state = {name: (tf.TensorSpec([None, sizes[name]], name=name), meaning) for name, meaning in _STATE.items()}
    seed = {"seed": (tf.TensorSpec([], tf.int64, "seed"), _SEED)}
    step = {
        **{names[name]: _input(name, names[name], space) for name, space in agent.inputs.items()},
        "is_first": (
            tf.TensorSpec([None], tf.bool, "is_first"),
            "where an episode begins: the state is forgotten",
        ),
    }
    acted = {**_STATE, "action": f"the action to take, {space}"}
    functions = {
        "act": (_policy(agent, explore=False), step | state | seed, acted),
        "explore": (_policy(agent, explore=True), step | state | seed, acted),
    }
    if with_model:
        start = {name: (state[name][0], f"state to begin at: {name} of act") for name in ("stoch", "deter")}
        actions = {"actions": (tf.TensorSpec([None, None, size], name="actions"), f"of every imagined step, {space}")}
        functions["imagine"] = (_imagination(agent), start | actions | seed, _imagined(agent))
    module = tf.Module()
    # The variables alone: a Keras layer would ask for its class when it is loaded.
    module.read = agent.variables
    traced = {
        name: tf.function(
            function, input_signature=[spec for spec, _ in inputs.values()], autograph=False
        ).get_concrete_function()
        for name, (function, inputs, _) in functions.items()
    }
    tf.saved_model.save(module, str(out), signatures=traced)
    described = {
        name: {
            "inputs": [_described(key, spec, meaning) for key, (spec, meaning) in inputs.items()],
            "outputs": [_described(key, traced[name].structured_outputs[key], text) for key, text in outputs.items()],
        }
        for name, (_, inputs, outputs) in functions.items()
    }
    about = {
        "task": f"{agent.config.suite}_{agent.config.task}",
        "method": variant(agent.config),
        "frames": agent.frames,
        "updates": agent.updates,
        "action_repeat": agent.config.env.action_repeat,
        "axes": "null is any number: rows of a batch, and imagined steps after it",
        "functions": described,
    }
    (out / SIGNATURE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    seen = {names[name]: (name, list(space.shape), space.dtype) for name, space in agent.inputs.items()}
    example = _EXAMPLE.format(seen=seen, sizes=sizes, actions=f"{size} numbers, {space}")
    (out / EXAMPLE).write_text(example, encoding="utf-8")
    return ["saved_model.pb", "variables", SIGNATURE, EXAMPLE]


def _policy(agent: TrainedAgent, explore: bool) -> Callable[..., dict[str, tf.Tensor]]:
    def act(*arguments: tf.Tensor) -> dict[str, tf.Tensor]:
        *seen, is_first, stoch, deter, action, seed = arguments
        inputs = dict(zip(agent.inputs, seen, strict=True))
        # Only the sample and the deterministic part go on to the next state.
        carry = State(stoch, stoch, stoch, deter), action
        action, (state, _) = agent.policy(inputs, is_first, carry, Draws(seed), explore=explore)
        return {"stoch": state.stoch, "deter": state.deter, "action": action}

    return act


def _imagination(agent: TrainedAgent) -> Callable[..., dict[str, tf.Tensor]]:
    model, names = agent.networks["world_model"], argument_names(agent.inputs) | _PREDICTED

    def imagine(stoch: tf.Tensor, deter: tf.Tensor, actions: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.shape(actions)
        noise = Draws(seed).normal([shape[0], shape[1], model.rssm.stoch])
        states = model.rssm.imagine(State(stoch, stoch, stoch, deter), actions, noise)
        features = feature(states)
        outputs = {
            "rewards": model.reward(features),
            "discounts": model.discount(features),
            "stoch": states.stoch,
            "deter": states.deter,
        }
        return outputs | {names[name]: value for name, value in model.predicted(features).items()}

    return imagine


def _imagined(agent: TrainedAgent) -> dict[str, str]:
    meanings = {
        "rewards": "expected on arriving at each step" + (", as tanh(r)" if agent.config.replay.tanh_rewards else ""),
        "discounts": "of what follows each step",
        "stoch": "sample of the prior",
        "deter": "deterministic state",
    }
    model = agent.networks["world_model"]
    images = {_PREDICTED[IMAGE]: "predicted, RGB in [0, 1]"} if model.decoder is not None else {}
    names = argument_names(agent.inputs)
    return images | {names[name]: f"{_of(name, names[name])}predicted" for name in model.vector_heads} | meanings


def argument_names(inputs: Iterable[str]) -> dict[str, str]:
    """What inputs are called in the functions, which TensorFlow gives identifiers, and which have others of theirs."""
    taken = {"is_first", "seed", "actions", "rewards", "discounts", *_STATE, *_PREDICTED.values()}
    names: dict[str, str] = {}
    for name in inputs:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        if plain in taken or not plain.isidentifier() or plain.startswith("_"):
            plain = f"observation_{plain}"
        while plain in taken:
            plain += "_"
        taken.add(plain)
        names[name] = plain
    return names


def _of(name: str, argument: str) -> str:
    return "" if name == argument else f'"{name}" of the environment, '


def _input(name: str, argument: str, space: Space) -> tuple[tf.TensorSpec, str]:
    meaning = _of(name, argument) + "what is seen now" + (", RGB" if name == IMAGE else "")
    return tf.TensorSpec([None, *space.shape], tf.as_dtype(space.dtype), argument), meaning


def _described(name: str, spec: tf.TensorSpec, meaning: str) -> dict[str, Any]:
    return {"name": name, "shape": spec.shape.as_list(), "dtype": spec.dtype.name, "meaning": meaning}

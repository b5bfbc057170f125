"""The agent that a config names."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from dreamer.keys import Keys
from dreamer.nets import device
from dreamer.nets.layers import encoder_sides
from dreamer.types import IMAGE, PIXELS, ActionSpace, Space


def build_agent(config: Keys, action_space: ActionSpace, inputs: Mapping[str, Space] = PIXELS, *, seed: int) -> Any:
    """The agent that `config.method` names, new; `seed` decides its weights and all that it draws.

    inputs: Space of everything that it sees, by name. agents/__init__.py has what an agent can do. Raises RunError
    where this one cannot act so.
    """
    return importlib.import_module(f"dreamer.agents.{config.method}").build(config, action_space, inputs, seed=seed)


def count_encoding_layers(config: Keys, inputs: Mapping[str, Space]) -> int:
    """How many `encoding_layers` a world model has that is not built yet."""
    images = len(encoder_sides(inputs[IMAGE].shape[0])) if IMAGE in inputs else 0
    vectors = config.model.vector_layers + 1 if set(inputs) - {IMAGE} else 0
    return images + vectors


def shared(config: Keys, seed: int) -> dict[str, Any]:
    """The keyword arguments that all agents with a world model take."""
    sections = {name: config[name] for name in ("model", "optimizer", "explore")}
    loss_scale = keras.config.dtype_policy().compute_dtype == "float16"
    # What `auto` comes to is known where training begins (training/xla.py); nothing else has a training step.
    return sections | {"seed": seed, "loss_scale": loss_scale, "xla": config.xla == "true"}


def off_the_gpu() -> contextlib.AbstractContextManager:
    """What this thread computes in the block takes nothing of a GPU, where there is one.

    A GPU computes one thing after the other, so that an action would wait for the updates in its queue.
    """
    return tf.device("CPU:0") if device.on_gpu() else contextlib.nullcontext()


@contextlib.contextmanager
def built_beside_training() -> Iterator[None]:
    """An agent that is built in the block is for acting `off_the_gpu`, in float32.

    Not every CPU beside a GPU has its half precision. Where there is no GPU, the block makes no difference. It sets
    Keras' precision, which is one for all threads.
    """
    if not device.on_gpu():
        yield
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        with off_the_gpu():
            yield
    finally:
        keras.config.set_dtype_policy(before)

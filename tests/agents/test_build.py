"""What acts beside an agent that trains on a GPU, which is said to be there."""

import keras
import numpy as np
import tensorflow as tf

from dreamer import config
from dreamer.agents.build import build_agent, built_beside_training, off_the_gpu
from dreamer.nets import device
from dreamer.types import ActionSpace

SPACE = ActionSpace(2, False)
OBSERVATION = {"image": np.full((64, 64, 3), 90, np.uint8), "is_first": np.bool_(True)}


def build():
    return build_agent(config.load(["toy", "debug"]), SPACE, seed=0)


def test_beside_a_gpu_the_policy_is_on_the_cpu_in_float32(monkeypatch, precision):
    precision("mixed_bfloat16")
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    with built_beside_training():
        agent = build()
    with off_the_gpu():  # as its thread acts, while the other one goes on in the run's own precision
        agent.act(OBSERVATION, agent.initial(), True)
        assert tf.zeros([1]).device.endswith("CPU:0")
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert agent.actor.mlp.hidden[0].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert build().actor.mlp.hidden[0].compute_dtype == "bfloat16"


def test_without_a_gpu_it_is_as_the_agent_that_trains(precision):
    precision("mixed_bfloat16")
    with built_beside_training():
        assert build().actor.mlp.hidden[0].compute_dtype == "bfloat16"

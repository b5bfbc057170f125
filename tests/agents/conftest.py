import numpy as np
import pytest
import tensorflow as tf

from dreamer.agents.dreamer import Dreamer
from dreamer.types import ActionSpace, Batch

# On a GPU, float32 products would otherwise keep ten bits, and the values here are held to six digits.
tf.config.experimental.enable_tensor_float_32_execution(False)


MODEL = {
    "deter": 8,
    "stoch": 4,
    "hidden": 16,
    "min_std": 0.1,
    "conv_depth": 2,
    "units": 16,
    "vector_layers": 1,
    "vector_std": 0.1,
    "observation": "pixels",
    "probe_decoder": False,
    "reward_layers": 2,
    "discount_head": False,
    "discount_layers": 2,
    "discount_scale": 10.0,
    "kl_scale": 1.0,
    "free_nats": 0.0,
    "free_nats_per": "mean",
    "lr": 1e-3,
}


def small_agent(space=None, *, seed=0, loss_scale=False, **sections):
    """A Dreamer with networks of a few units; keyword arguments replace single keys of a section."""
    settings = {
        "model": MODEL,
        "actor": {"layers": 2, "units": 16, "init_std": 1.0, "mean_scale": 5.0, "min_std": 1e-4, "lr": 1e-3},
        "value": {"layers": 2, "units": 16, "lr": 1e-3},
        "behavior": {"horizon": 4, "discount": 0.9, "return_lambda": 0.8, "bootstrap": True},
        "optimizer": {"epsilon": 1e-7, "clip": 1e6},
        "explore": {
            "noise": 0.3,
            "mode": False,
            "epsilon": 0.4,
            "epsilon_end": 0.1,
            "epsilon_updates": 100,
            "epsilon_eval": 0.0,
        },
    }
    settings = {name: values | sections.pop(name, {}) for name, values in settings.items()}
    assert not sections
    return Dreamer(space or ActionSpace(3, False), seed=seed, loss_scale=loss_scale, **settings)


def small_batch(batch=2, length=3, actions=3, seed=0):
    """Random experience; in the first sequence a piece begins at the last step, the second one ends in a terminal."""
    rng = np.random.default_rng(seed)
    is_first = np.zeros((batch, length), bool)
    is_first[:, 0] = is_first[0, -1] = True
    discount = np.ones((batch, length), np.float32)
    discount[1, -1] = 0.0
    return Batch(
        inputs={"image": tf.constant(rng.integers(0, 256, (batch, length, 64, 64, 3)), tf.uint8)},
        action=tf.constant(rng.uniform(-1, 1, (batch, length, actions)), tf.float32),
        reward=tf.constant(rng.normal(size=(batch, length)), tf.float32),
        discount=tf.constant(discount),
        is_first=tf.constant(is_first),
    )


@pytest.fixture(scope="session")
def make_agent():
    return small_agent


@pytest.fixture(scope="session")
def make_batch():
    return small_batch


@pytest.fixture(scope="session")
def model_settings():
    return MODEL

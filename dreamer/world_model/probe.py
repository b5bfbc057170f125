"""A decoder that looks on: it learns to draw the states of a world model whose loss has no images (ours)."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from dreamer.nets.layers import seed_stream
from dreamer.nets.optimizer import Optimizer
from dreamer.types import State
from dreamer.world_model.world_model import WorldModel


class Probe:
    """Trains the decoder of a world model that `probes`, by a gradient, a norm and moments of its own.

    Where the world model has none, there is nothing to train or to save. Keyword arguments are the Optimizer's.
    """

    def __init__(self, world_model: WorldModel, **settings: Any):
        self._world_model = world_model
        self._optimizer = (
            Optimizer(world_model.probe_variables, name="probe", **settings) if world_model.probes else None
        )

    def checkpoint(self) -> dict[str, Any]:
        """The optimiser, by name."""
        return {"probe_optimizer": self._optimizer} if self._optimizer else {}

    def step(self, posterior: State, image: tf.Tensor) -> dict[str, tf.Tensor]:
        """One update from posterior states [B, T, ...] and the images [B, T, 64, 64, 3] uint8 they saw; metrics."""
        if not self._optimizer:
            return {}
        with tf.GradientTape() as tape:
            loss = self._world_model.probe_loss(posterior, image)
            scaled = self._optimizer.scale(loss)
        step = self._optimizer.step(tape, scaled)
        return {"probe_loss": loss} | {f"probe_{key}": number for key, number in step.items()}


def probe_seed_stream(seed: int) -> Iterator[int]:
    """Seeds for the probe's weights, none of which is taken from those of the agent with this seed (below 2**31)."""
    return seed_stream(seed + 2**31)

"""The baseline: actions drawn uniformly, as in the random episodes that training starts from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer.keys import Keys
from dreamer.types import ActionSpace, Space


class Random:
    """Uniform actions in [-1, 1] (continuous) or a uniform one-hot choice (discrete), in each of its groups."""

    def __init__(self, action_space: ActionSpace, *, seed: int):
        self._space = action_space
        self._generator = np.random.default_rng(seed)

    def initial(self) -> None:
        """No memory."""
        return

    def act(self, observation: Mapping[str, Any], carry: None, explore: bool) -> tuple[np.ndarray, None]:
        """[A] float32; observation, carry and explore make no difference."""
        if self._space.discrete:
            sizes = self._space.groups or (self._space.size,)
            parts = [np.eye(size, dtype=np.float32)[self._generator.integers(size)] for size in sizes]
            return np.concatenate(parts), carry
        return self._generator.uniform(-1.0, 1.0, self._space.size).astype(np.float32), carry

    def state(self) -> Mapping[str, Any]:
        """State of the draws, as JSON values."""
        return self._generator.bit_generator.state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the draws that follow `state`."""
        self._generator.bit_generator.state = state


def build(config: Keys, action_space: ActionSpace, inputs: Mapping[str, Space], *, seed: int) -> Random:
    """Random actions, whatever else the config says."""
    return Random(action_space, seed=seed)

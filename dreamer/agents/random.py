"""The baseline: actions drawn uniformly, as in the random episodes that training starts from."""

import numpy as np


class Random:
    """Uniform actions in [-1, 1] (continuous) or a uniform one-hot choice (discrete)."""

    def __init__(self, action_space, *, seed):
        self._space = action_space
        self._generator = np.random.default_rng(seed)

    def initial(self):
        """No memory."""
        return

    def act(self, observation, carry, explore):
        """[A] float32; observation, carry and explore make no difference."""
        if self._space.discrete:
            return np.eye(self._space.size, dtype=np.float32)[self._generator.integers(self._space.size)], carry
        return self._generator.uniform(-1.0, 1.0, self._space.size).astype(np.float32), carry

    def state(self):
        """State of the draws, as JSON values."""
        return self._generator.bit_generator.state

    def restore(self, state):
        """Go on with the draws that follow `state`."""
        self._generator.bit_generator.state = state


def build(config, action_space, *, seed):
    """Random actions, whatever else the config says."""
    return Random(action_space, seed=seed)

"""The toy task with several choices at once, as an environment of gymnasium: for a test of learning."""

import gymnasium
import numpy as np
from gymnasium import spaces

from dreamer.envs import toy


class Pads(gymnasium.Env):
    """Two choices of three: left, stay or right; up, stay or down. Both coordinates can move at full speed."""

    action_space = spaces.MultiDiscrete([3, 3])
    observation_space = spaces.Dict(image=spaces.Box(0, 255, (64, 64, 3), np.uint8), position=spaces.Box(0, 1, (2,)))

    def __init__(self):
        self._dot = toy.Dot("dot", action_repeat=1, time_limit=10**9)

    def reset(self, seed=None, options=None):
        return self._observe(self._dot.reset(seed)), {}

    def step(self, action):
        assert action in self.action_space
        step = self._dot.step(np.asarray(action - 1, np.float32))
        return self._observe(step), float(step["reward"]), False, False, {}

    def _observe(self, step):
        return {name: step[name] for name in ("image", "position")}

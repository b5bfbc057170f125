"""An environment whose steps sleep: in place of a simulator that is waited for, in another process or machine."""

import os
import time

import gymnasium
import numpy as np
from gymnasium import spaces

TASK = f"{__name__}:Sleeping-v0"
VARIABLE = "SLEEPING_SECONDS"  # seconds that a step sleeps
LENGTH = 100  # steps of an episode


class Sleeping(gymnasium.Env):
    """The image shows a level that the actions move."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,))

    def __init__(self):
        self._seconds = float(os.environ[VARIABLE])

    def reset(self, *, seed=None, options=None):
        """A level that the seed decides."""
        super().reset(seed=seed)
        self._steps, self._level = 0, float(self.np_random.uniform(100, 150))
        return self._image(), {}

    def step(self, action):
        """Sleep, and move the level."""
        time.sleep(self._seconds)
        self._steps += 1
        self._level = min(255.0, max(0.0, self._level + float(action.sum())))
        return self._image(), self._level / 255, False, self._steps == LENGTH, {}

    def _image(self):
        return np.full((64, 64, 3), np.uint8(self._level), np.uint8)


gymnasium.register("Sleeping-v0", Sleeping)

"""An environment that fails once in its life: the file in the variable FRAGILE_FILE remembers that it has.

Its process inherits FRAGILE_KIND, the way in which the step number FRAGILE_STEP of an episode with an even seed fails.
"""

import os
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces


class Fragile(gymnasium.Env):
    """The image shows a level that the actions move; an episode has 12 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps, self._level = 0, float(self.np_random.uniform(100, 150))
        return self._image(), {}

    def step(self, action):
        self._steps += 1
        self._level += float(action.sum())
        marker = Path(os.environ["FRAGILE_FILE"])
        if self._steps == int(os.environ["FRAGILE_STEP"]) and not marker.exists():
            marker.write_text("failed")
            return self._fail(os.environ["FRAGILE_KIND"])
        return self._image(), self._level, False, self._steps == 12, {}

    def _fail(self, kind):
        if kind == "raises":
            raise RuntimeError("the robot fell over")
        if kind == "exits":
            os._exit(3)
        while kind == "hangs":
            time.sleep(1.0)
        return self._image(), {"no number": float("nan"), "no reward": "seven"}[kind], False, False, {}

    def _image(self):
        return np.full((64, 64, 3), np.uint8(self._level), np.uint8)


gymnasium.register("Fragile-v0", Fragile)

"""A stand-in for DeepMind Lab's native module: scripted levels behind its interface and its checks.

It refuses, and accepts silently, what the native module does. Every level shows the player's frame count in the image's
red channel and the seed in its green one; each frame of walking forward gives a reward of 0.25.
"""

import ctypes
import tempfile
from pathlib import Path

import numpy as np

# Level -> frames until it times out (None: it has no time limit), frames until the task itself ends, map to compile.
LEVELS = {
    "contributed/dmlab30/rooms_collect_good_objects_train": (40, 1000, ""),
    "contributed/dmlab30/explore_object_locations_small": (40, 1000, "maze"),
    "contributed/dmlab30/rooms_watermaze": (1000, 20, ""),
    "tests/endless": (None, 20, ""),
}
INSTANCES = []


class Lab:
    """See the module; `received` keeps the raw actions, `compiled` the maps that no cache had."""

    def __init__(self, level, observations, config=None, renderer="software", level_cache=None, temp_folder=None):
        if not isinstance(observations, list):
            raise TypeError("argument 2 must be list")
        config = {} if config is None else config
        if not all(isinstance(part, str) for entry in config.items() for part in entry):
            raise TypeError("config entries must be strings")
        if level not in LEVELS:
            raise RuntimeError(f"Failed to load level: {level}")
        self._time_limit, self._ends_at, self._map = LEVELS[level]
        known = {"RGB_INTERLEAVED", "RGB", "INSTR"} | ({"FRAMES_REMAINING_AT_60"} if self._time_limit else set())
        for name in observations:
            if name not in known:
                raise ValueError(f"Unknown observation: {name}")
        if renderer not in ("software", "hardware"):
            raise ValueError("renderer must be software or hardware")
        self._observations, self._cache = observations, level_cache
        self._shape = (int(config.get("height", 240)), int(config.get("width", 320)), 3)
        self._running = False
        self.config, self.received, self.steps, self.seeds, self.compiled = config, [], [], [], []
        INSTANCES.append(self)

    def reset(self, episode=-1, seed=None):
        if type(episode) is not int or type(seed) not in (int, type(None)):
            raise TypeError("an integer is required")
        if seed is not None and not 0 <= seed < 2**31:
            raise OverflowError("seed does not fit an int")
        self.seeds.append(seed)
        self._frame, self._running = 0, True
        if self._map:
            with tempfile.TemporaryDirectory() as folder:
                pk3 = Path(folder) / "map.pk3"
                if self._cache is None or not self._cache.fetch(self._map, str(pk3)):
                    pk3.write_bytes(b"compiled")
                    self.compiled.append(self._map)
                    if self._cache is not None:
                        self._cache.write(self._map, str(pk3))
                assert pk3.read_bytes() == b"compiled"

    def step(self, action, num_steps=1):
        if not self._running:
            raise RuntimeError("Environment in wrong status for call to step()")
        if not isinstance(action, np.ndarray):
            raise TypeError("action must be an array")
        if action.dtype != np.intc or action.shape != (7,):
            raise ValueError("action must have shape (7,) and dtype intc")
        # The native module reads the memory, whatever the strides say.
        raw = np.ctypeslib.as_array(ctypes.cast(action.ctypes.data, ctypes.POINTER(ctypes.c_int)), (7,)).tolist()
        self.received.append(raw)
        self.steps.append(num_steps)
        reward = 0.0
        for _ in range(num_steps):
            self._frame += 1
            reward += 0.25 * (raw[3] == 1)
            if self._frame >= min(self._time_limit or 10**9, self._ends_at):
                self._running = False
                break
        return reward

    def is_running(self):
        return self._running

    def observations(self):
        if not self._running:
            raise RuntimeError("Environment in wrong status for call to observations()")
        image = np.zeros(self._shape, np.uint8)
        image[..., 0], image[..., 1] = self._frame, self.seeds[-1] % 256
        seen = {"RGB_INTERLEAVED": image, "INSTR": ""}
        if self._time_limit:
            seen["FRAMES_REMAINING_AT_60"] = np.array([self._time_limit - self._frame], np.float64)
        return {name: seen[name] for name in self._observations}

    def close(self):
        self._running = False
        return True

"""A stand-in for DeepMind Lab's native module: scripted levels behind its interface and its checks.

It refuses, accepts silently and crashes where the native module does, with the same types of errors. Every level shows
the player's frame count in the image's red channel, the seed in its green one and the resets before in its blue one, on
which an episode of the module depends too; each frame of walking forward gives a reward of 0.25.

STAND_IN_LACKS in the environment: a shared library or a program that the engine does not find.
"""

import ctypes
import operator
import os
import shutil
import signal
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

# Level -> frames until it times out (None: it has no time limit), frames until the task itself ends, map to compile.
LEVELS = {
    "contributed/dmlab30/rooms_collect_good_objects_train": (40, 1000, ""),
    "contributed/dmlab30/rooms_collect_good_objects_test": (40, 1000, ""),
    "contributed/dmlab30/explore_object_locations_small": (40, 1000, "maze"),
    "contributed/dmlab30/rooms_watermaze": (1000, 20, ""),
    "lt_chasm": (40, 1000, ""),
    "tests/endless": (None, 20, ""),
}
INSTANCES = []
_UNSET = object()


class Lab:
    """See the module; `received` keeps the raw actions, `compiled` the maps that no cache had."""

    def __init__(self, level, observations, config=_UNSET, renderer="software", level_cache=None, temp_folder=_UNSET):
        config = {} if config is _UNSET else config
        typed = (level, str), (observations, list), (config, dict), (renderer, str)
        for value, kind in (*typed, *([] if temp_folder is _UNSET else [(temp_folder, str)])):
            if not isinstance(value, kind):
                raise TypeError(f"argument must be {kind.__name__}, not {type(value).__name__}")
        if renderer not in ("software", "hardware"):
            raise RuntimeError(f'Failed to set renderer must be "hardware" or "software" actual "{renderer}"!')
        if ".so" in _lacks():
            print(f"{_lacks()}: cannot open shared object file: No such file or directory", file=sys.stderr, flush=True)
            raise RuntimeError("Failed to connect RL API")
        if not all(isinstance(part, str) for entry in config.items() for part in entry):
            raise TypeError("bad argument type for built-in operation")
        sides = config.get("height", "240"), config.get("width", "320")
        for side in sides:
            if not side.isdecimal() or int(side) <= 0 or int(side) % 4:
                raise RuntimeError(f"Failed to apply setting '{side}'")
        if level not in LEVELS:
            raise RuntimeError(f'Failed to init environment - "no level {level}"')
        self._time_limit, self._ends_at, self._map = LEVELS[level]
        self._known = ["RGB_INTERLEAVED", "RGB", "INSTR", *(["FRAMES_REMAINING_AT_60"] if self._time_limit else [])]
        for name in observations:
            if not isinstance(name, str):
                raise TypeError("bad argument type for built-in operation")
            if name not in self._known:
                raise ValueError(f"Unknown observation '{name}'.")
        self._own_folder = tempfile.mkdtemp(prefix="dmlab_temp_folder_") if temp_folder is _UNSET else ""
        self.folder = Path(self._own_folder or temp_folder)
        (self.folder / "baselab").mkdir(exist_ok=True)
        (self.folder / "baselab" / "q3config_server.cfg").write_text("seta com_zoneMegs\n")
        self._observations, self._cache = observations, level_cache
        self._shape = (*map(int, sides), 3)
        self._running = self._closed = False
        self.config, self.received, self.steps, self.seeds, self.compiled = config, [], [], [], []
        self._resets = 0
        INSTANCES.append(self)

    def reset(self, episode=-1, seed=None):
        operator.index(episode)
        if seed is not None and not isinstance(seed, int):
            raise ValueError(f"'seed' must be int or None, was '{type(seed).__name__}'.")
        if self._closed:
            os.kill(os.getpid(), signal.SIGSEGV)
        self.seeds.append(seed)
        self._frame, self._running = 0, True
        self._resets += 1
        if self._map:
            self._load_map()
        return True

    def step(self, action, num_steps=1):
        if not isinstance(action, np.ndarray):
            raise TypeError("argument 1 must be numpy.ndarray")
        if not self._running:
            raise RuntimeError("Environment in wrong status to advance.")
        if action.dtype != np.intc or action.shape != (7,):
            raise ValueError("action must have shape (7) and dtype np.intc")
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

    def num_steps(self):
        return self._frame

    def observation_spec(self):
        return [{"name": name} for name in self._known]

    def action_spec(self):
        return [{"name": f"action {number}", "min": -512, "max": 512} for number in range(7)]

    def observations(self):
        if not self._running:
            raise RuntimeError("Environment in wrong status for call to observations()")
        image = np.zeros(self._shape, np.uint8)
        image[...] = np.array([self._frame, self.seeds[-1] or 0, self._resets - 1]) % 256
        seen = {"RGB_INTERLEAVED": image, "INSTR": ""}
        if self._time_limit:
            seen["FRAMES_REMAINING_AT_60"] = np.array([self._time_limit - self._frame], np.float64)
        return {name: seen[name] for name in self._observations}

    def close(self):
        self._running, self._closed = False, True
        if self._own_folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)
        return True

    def _load_map(self):
        """From the cache, else compiled; an error of the cache comes out when all is done, and the map is not kept."""
        pk3, error, fetched = self.folder / "baselab" / f"{self._map}.pk3", None, False
        pk3.unlink(missing_ok=True)
        try:
            fetched = self._cache is not None and self._cache.fetch(self._map, str(pk3))
        except Exception as raised:
            error = raised
        if not fetched:
            self._compile(pk3)
            if self._cache is not None and error is None:
                try:
                    self._cache.write(self._map, str(pk3))
                except Exception as raised:
                    error = raised
        with zipfile.ZipFile(pk3) as archive:
            assert archive.read(f"maps/{self._map}.bsp") == b"compiled" * 100
        if error:
            raise error

    def _compile(self, pk3):
        if _lacks() == "zip":
            print("sh: 1: zip: not found", file=sys.stderr, flush=True)
        if _lacks() == "zip" or pk3.exists():  # `zip` adds to what is there, and half of an archive is none
            raise RuntimeError('Failed to start environment - "Failed to compile map"')
        with zipfile.ZipFile(pk3, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"maps/{self._map}.bsp", b"compiled" * 100)
        self.compiled.append(self._map)


def _lacks():
    return os.environ.get("STAND_IN_LACKS", "")

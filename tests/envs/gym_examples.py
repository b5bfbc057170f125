"""Small environments that register themselves with gymnasium when this module is imported."""

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.experimental.functional import FuncEnv

GRAY, RED = 90, (200, 10, 30)
BOX = spaces.Box(-1, 1, (2,))


class Counting(gymnasium.Env):
    """The reward is the number of the step, the third one terminates; `received` keeps the actions."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(self, observation="image", actions="box", ends=3, reward=None, frame=None, render_mode=None):
        self.render_mode, self._kind, self._ends = render_mode, observation, ends
        self._reward, self._frame = reward, frame
        pixels = {"image": (48, 96, 3), "dict": (48, 96, 3), "gray": (48, 96), "gray1": (48, 96, 1)}
        self._shape = pixels.get(observation)
        image = spaces.Box(0, 255, self._shape, np.uint8) if self._shape else None
        self.observation_space = {
            "dict": spaces.Dict({"image": image, "speed": spaces.Box(-1, 1, (2,))}) if image else None,
            "vector": spaces.Box(-1, 1, (2,)),
        }.get(observation, image)
        self.action_space = {
            "box": spaces.Box(np.array([[-2, 0], [-np.inf, 5]], np.float32), np.array([[2, 10], [1, 7]], np.float32)),
            "discrete": spaces.Discrete(3, start=5),
            "many": spaces.MultiDiscrete([2, 2]),
            "one_bound": spaces.Box(np.array([0, -np.inf]), np.array([np.inf, -0.5]), dtype=np.float64),
            "far_bound": spaces.Box(3, np.inf, (1,)),
            "doubles": spaces.Box(-0.1, 0.3, (1,), np.float64),
            "nothing": spaces.Box(-1, 1, (0,)),
        }[actions]
        self.received, self.rendered = [], 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._count, self._level = 0, int(self.np_random.integers(256))
        return self._observe(), {}

    def step(self, action):
        self.received.append(action)
        self._count += 1
        reward = float(self._count) if self._reward is None else self._reward
        return self._observe(), reward, self._count == self._ends, False, {}

    def render(self):
        self.rendered += 1
        if self._frame is not None:
            return self._frame[self._count % len(self._frame)]
        frame = np.full((30, 60, 3), RED, np.uint8)
        frame[..., 1] = self._count
        return frame

    def _observe(self):
        if self._kind == "vector":
            return np.zeros(2, np.float32)
        image = np.full(self._shape, GRAY, np.uint8)
        image.reshape(48, 96, -1)[:, :48, 0] = self._level
        return {"image": image, "speed": np.zeros(2, np.float32)} if self._kind == "dict" else image


class Blind(Counting):
    """Neither images nor frames."""

    metadata = {"render_modes": ["human"]}

    def __init__(self):
        super().__init__(observation="vector")


def nothing():
    """A function that makes no environment."""


for name, kwargs in {
    "Image": {},
    "Gray": {"observation": "gray"},
    "Gray1": {"observation": "gray1"},
    "Dict": {"observation": "dict"},
    "Discrete": {"observation": "vector", "actions": "discrete", "ends": 100},
    "Many": {"actions": "many"},
    "OneBound": {"actions": "one_bound"},
    "FarBound": {"actions": "far_bound"},
    "Doubles": {"actions": "doubles"},
    "NoActions": {"actions": "nothing"},
    "IntegerReward": {"reward": 7},
    "NoReward": {"reward": "seven"},
    "Frames": {
        "observation": "vector",
        "frame": [
            np.full((200, 30, 4), 9, np.uint8),
            np.full((20, 30), 9, np.uint8),
            "a picture",
            np.zeros((20, 30, 3)),
            np.zeros((3, 20, 30), np.uint8),
        ],
        "ends": 100,
    },
}.items():
    gymnasium.register(f"{name}-v0", Counting, kwargs=kwargs, max_episode_steps=5)
gymnasium.register("folder/Blind-v1", Blind)


class Choosing(Counting):
    """A constructor with arguments of its own."""

    def __init__(self, ends=3, *, speed=1.0, render_mode=None):
        if speed < 0:
            raise ValueError("speed is negative")
        super().__init__(ends=ends, render_mode=render_mode)
        self.speed = speed


class Telling(Counting):
    """What `told` has of a step, the reset first, is its `info`; what is told last is told again."""

    def __init__(self, told, *, observation="image", render_mode=None):
        super().__init__(observation=observation, render_mode=render_mode)
        self._said = told

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], self._info()

    def step(self, action):
        return (*super().step(action)[:4], self._info())

    def _info(self):
        return self._said[min(self._count, len(self._said) - 1)]


class Counted(Counting):
    """Its `info` has the number of the episode, from 1."""

    episodes = 0

    def reset(self, *, seed=None, options=None):
        self.episodes += 1
        return super().reset(seed=seed)[0], {}

    def step(self, action):
        return (*super().step(action)[:4], {"n": self.episodes})


class Named(Telling):
    """With an observation that has the name of a number of `info`."""

    def __init__(self, *, render_mode=None):
        super().__init__([{"x": 1}], render_mode=render_mode)
        self.observation_space = spaces.Dict({"image": self.observation_space, "info": spaces.Dict({"x": BOX})})


class Needing(Counting):
    """One that cannot be made without an argument."""

    def __init__(self, ends, *, render_mode=None):
        super().__init__(ends=ends, render_mode=render_mode)


class Modeless(Counting):
    """It renders, but cannot be asked to."""

    def __init__(self, ends=3):
        super().__init__(ends=ends, observation="vector")


class OldStep(Counting):
    """reset and step of the old gym."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0]

    def step(self, action):
        observation, reward, done, _, info = super().step(action)
        return observation, reward, done, info


class OnlyOldStep(OldStep):
    """step alone."""

    def reset(self, *, seed=None, options=None):
        return Counting.reset(self, seed=seed)


class OldSeed(OldStep):
    """No seeds in reset."""

    def reset(self):
        return super().reset()


class OldClass:
    """Of the old gym altogether."""

    def reset(self):
        """Begin."""

    def step(self, action):
        """Act."""


class Broken(Counting):
    """Its own code unpacks too many values."""

    def step(self, action):
        observation, reward = super().step(action)
        return observation, reward, False, False, {}


class Functions(FuncEnv):
    """An environment of functions."""


class Several(gymnasium.vector.VectorEnv):
    """A vector environment."""


for name, maker in {"OldStep": OldStep, "OnlyOldStep": OnlyOldStep, "OldSeed": OldSeed, "OldClass": OldClass}.items():
    gymnasium.register(f"{name}-v0", maker, max_episode_steps=5)
gymnasium.register("Choosing-v0", Choosing, max_episode_steps=5)
gymnasium.register("Several-v0", vector_entry_point=Several)

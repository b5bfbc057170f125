"""Environments that render every repeated frame, to compare with. Worker processes import this: no TensorFlow."""

import numpy as np

from dreamer.envs.dmc import ALIASES, DMC
from dreamer.types import ActionSpace, Space


def every_frame(task, *, action_repeat, time_limit):
    """Our environment with the action repeat outside of it."""
    return RepeatOutside(DMC(task, action_repeat=1, time_limit=time_limit), action_repeat)


def plain_dm_control(task, *, action_repeat, time_limit):
    """The same, and the frames come from dm_control's own render call with its default framebuffer."""
    return RepeatOutside(PlainDMC(task, time_limit=time_limit), action_repeat)


class RepeatOutside:
    """An Env that holds an action for `action_repeat` steps of another one and keeps the last of their images."""

    def __init__(self, env, action_repeat):
        self._env, self.action_repeat = env, action_repeat
        self.observation_spaces, self.action_space = env.observation_spaces, env.action_space
        self.reset, self.close = env.reset, env.close

    def step(self, action):
        """See dreamer.envs.core.Env.step."""
        reward = 0.0
        for _ in range(self.action_repeat):
            step = self._env.step(action)
            reward += step["reward"]
            if step["is_last"]:
                break
        return {**step, "reward": np.float32(reward)}


class PlainDMC:
    """A task of the suite with actions in [-1, 1], as an Env of single frames of 64x64 and no other observation."""

    def __init__(self, task, *, time_limit):
        from dm_control import suite

        names = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
        domain, name = names[ALIASES.get(task, task)]
        self._env = suite.load(domain, name, task_kwargs={"random": 0, "time_limit": float("inf")})
        self._camera = 2 if domain == "quadruped" else 0
        self._time_limit, self._frame = time_limit, 0
        self.action_repeat = 1
        self.action_space = ActionSpace(size=self._env.action_spec().shape[0], discrete=False)
        self.observation_spaces = {"image": Space((64, 64, 3), "uint8")}

    def reset(self, seed=None):
        """See dreamer.envs.core.Env.reset."""
        if seed is not None:
            self._env.task.random.seed(seed)
        self._frame = 0
        self._env.reset()
        return self._step(0.0)

    def step(self, action):
        """See dreamer.envs.core.Env.step."""
        self._frame += 1
        return self._step(self._env.step(action).reward)

    def close(self):
        """Free the physics and its rendering context."""
        self._env.physics.free()

    def _step(self, reward):
        return {
            "image": self._env.physics.render(64, 64, camera_id=self._camera),
            "reward": np.float32(reward),
            "is_first": np.bool_(self._frame == 0),
            "is_last": np.bool_(self._frame >= self._time_limit),
            "is_terminal": np.bool_(False),
        }

"""Run-time checks at the border of an environment."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer.envs.core import FLAGS, EnvError
from dreamer.types import IMAGE, ActionSpace, Space


class Checked:
    """The environment itself, with every action that goes in and every step that comes out checked.

    Raises EnvError, saying what came and what was expected, for: an action of the wrong shape or dtype, not finite,
    outside [-1, 1] or (discrete) not one-hot, in each of its groups; a step before the first reset or after the last
    step of an episode; an observation, reward or flag that is missing, undeclared, or not of its declared shape and
    dtype; a reward that is not finite; a first step without is_first or with a reward; is_terminal without is_last.
    """

    def __init__(self, env: Any):
        self._env = env  # an Env
        self._asked: tuple[str, Any]
        self._ready = "step() before the first reset(): call reset() first"
        spaces = env.observation_spaces
        for name, space in spaces.items():
            image = name == IMAGE and space.dtype == "uint8" and len(space.shape) == 3
            vector = name != IMAGE and space.dtype == "float32" and len(space.shape) == 1
            if not (image or vector):
                raise EnvError(
                    f"observation_spaces has {name} of shape {space.shape} and dtype {space.dtype}: expected an image "
                    f'"{IMAGE}", (n, n, 3) uint8, and vectors, (size,) float32'
                )
        self.infos: tuple[str, ...] = getattr(env, "infos", ())
        clash = sorted({"reward", *FLAGS, *self.infos} & set(spaces))
        if clash:
            raise EnvError(f"observation_spaces has {clash}, which are names of other parts of a step")
        self.observation_spaces: dict[str, Space] = spaces
        self.action_space: ActionSpace = env.action_space
        self.action_repeat: int = env.action_repeat
        self.whole_games: bool = getattr(env, "whole_games", True)
        self.note: str = getattr(env, "note", "")
        self._expected = {
            **spaces,
            **{name: Space(shape=(), dtype="float32") for name in ("reward", *self.infos)},
            **{flag: Space(shape=(), dtype="bool") for flag in FLAGS},
        }

    @property
    def goes_on(self) -> bool:
        """See Env."""
        return getattr(self._env, "goes_on", False)

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset."""
        self.send("reset", seed)
        return self.receive()

    def step(self, action: np.ndarray) -> dict:
        """See Env.step."""
        self.send("step", action)
        return self.receive()

    def send(self, method: str, argument: Any) -> None:
        """Ask for reset(argument) or step(argument), by name; `receive` returns what comes of it.

        An environment in a process of its own is at work meanwhile, one in this process only then.
        """
        if method == "step":
            if self._ready:
                raise EnvError(self._ready)
            check_action(argument, self.action_space)
        self._asked = method, argument
        if hasattr(self._env, "send"):
            self._env.send(method, argument)

    def receive(self) -> dict:
        """The step that was asked for last."""
        method, argument = self._asked
        source = f"{method}()"
        with failing_as_env_error(source):
            step = self._env.receive() if hasattr(self._env, "receive") else getattr(self._env, method)(argument)
        self._check_step(step, source=source)
        if method == "step" and step["is_first"]:
            raise EnvError("step() returned is_first True: expected it from reset() alone")
        if method == "reset" and (not step["is_first"] or step["reward"] != 0):
            raise EnvError(
                f"reset() returned is_first {step['is_first']} and reward {step['reward']}: expected True and 0"
            )
        self._note(step)
        return step

    def close(self) -> None:
        """See Env.close."""
        self._env.close()

    def _note(self, step: dict) -> None:
        self._ready = "step() after the last step of an episode: call reset() first" if step["is_last"] else ""

    def _check_step(self, step: dict, source: str) -> None:
        missing, undeclared = sorted(set(self._expected) - set(step)), sorted(set(step) - set(self._expected))
        if missing or undeclared:
            raise EnvError(f"{source} returned a step with missing keys {missing} and undeclared keys {undeclared}")
        for key, space in self._expected.items():
            value = step[key]
            if not isinstance(value, np.ndarray | np.generic):
                raise EnvError(f"{source} returned {key} of type {type(value).__name__}: expected a NumPy value")
            if value.shape != space.shape or value.dtype != space.dtype:
                raise EnvError(
                    f"{source} returned {key} of shape {value.shape} and dtype {value.dtype}: "
                    f"expected {space.shape} and {space.dtype}"
                )
        if not np.isfinite(step["reward"]):
            raise EnvError(f"{source} returned the reward {step['reward']}: expected a finite number")
        if step["is_terminal"] and not step["is_last"]:
            raise EnvError(f"{source} returned is_terminal True with is_last False: a terminal step is the last one")


@contextlib.contextmanager
def failing_as_env_error(what: str) -> Iterator[None]:
    """Turn whatever an environment raises in the block into EnvError, of one line.

    One in a process of its own has it so already; in this process its errors would pass for errors of ours.
    """
    try:
        yield
    except EnvError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvError(f"{what} raised {type(error).__name__}: {' '.join(str(error).split())}") from error


def check_action(action: np.ndarray, space: ActionSpace) -> None:
    """Raise EnvError unless the action is a float32 array [A] within the space."""
    if not isinstance(action, np.ndarray):
        raise EnvError(f"action of type {type(action).__name__}: expected a NumPy array")
    if action.shape != (space.size,):
        raise EnvError(f"action of shape {action.shape}: expected ({space.size},)")
    if action.dtype != np.float32:
        raise EnvError(f"action of dtype {action.dtype}: expected float32")
    if not np.all(np.isfinite(action)):
        raise EnvError(f"action {action}: expected finite numbers")
    if space.discrete:
        groups = np.split(action, np.cumsum(space.groups)[:-1]) if space.groups else [action]
        if any(np.count_nonzero(group) != 1 or group.max() != 1 for group in groups):
            of_each = f" in each of the groups of {', '.join(map(str, space.groups))}" if space.groups else ""
            raise EnvError(f"action {action}: expected a one-hot vector{of_each}, a single 1 among zeros")
    elif np.abs(action).max() > 1:
        raise EnvError(f"action {action}: expected numbers within [-1, 1]")

"""Actions of gymnasium: our action space for one of its spaces, and how an action of ours becomes one of the space."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dreamer.envs.core import EnvRefused
from dreamer.types import ActionSpace

ToEnv = Callable[[np.ndarray], Any]


def translate(space: Any, task: str) -> tuple[ActionSpace, ToEnv]:
    """The ActionSpace of a space, and the function from our action [A] to one of the space. Raises EnvRefused."""
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        return ActionSpace(int(space.n), discrete=True), lambda action: int(space.start) + int(np.argmax(action))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.size:
        return _groups(np.ravel(space.nvec), np.ravel(space.start), space)
    if isinstance(space, spaces.MultiBinary) and 0 not in space.shape:
        count = int(np.prod(space.shape))
        return _groups(np.full(count, 2), np.zeros(count, int), space)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
        return _box(space, task)
    remedy = {
        "Box": "; whole numbers are choices: let it be MultiDiscrete, with one entry for each of them",
        "Dict": "; put its parts together in an ActionWrapper that has one of these",
        "Tuple": "; put its parts together in an ActionWrapper that has one of these",
    }.get(type(space).__name__, "")
    if isinstance(space, spaces.Box) and 0 in space.shape:
        remedy = "; this one has no numbers"
    raise EnvRefused(
        f"{task} has actions of the kind {space}: expected a Discrete space, MultiDiscrete, MultiBinary, or a Box of "
        f"floats{remedy}"
    )


def _groups(choices: np.ndarray, first: np.ndarray, space: Any) -> tuple[ActionSpace, ToEnv]:
    """Several choices at once: a one-hot group for each."""
    ends = np.cumsum(choices)

    def to_env(action: np.ndarray) -> np.ndarray:
        chosen = [int(np.argmax(group)) for group in np.split(action, ends[:-1])]
        return (first + chosen).reshape(space.shape).astype(space.dtype)

    groups = tuple(map(int, choices)) if len(choices) > 1 else ()
    return ActionSpace(int(ends[-1]), discrete=True, groups=groups), to_env


def _box(space: Any, task: str) -> tuple[ActionSpace, ToEnv]:
    low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float64)
    high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float64)
    if np.any((low >= high) & ~(np.isfinite(space.low) & np.isfinite(space.high))):
        raise EnvRefused(f"{task} has actions with one bound, beyond [-1, 1]: {space} needs the other bound too")

    def scale(action: np.ndarray) -> np.ndarray:
        unit = (action.astype(np.float64).reshape(space.shape) + 1) / 2
        # Rounding may lead out of the space by the last digit.
        return np.clip((1 - unit) * low + unit * high, low, high).astype(space.dtype)

    return ActionSpace(int(np.prod(space.shape)), discrete=False), scale

"""Any environment that gymnasium makes, the user's own included, seen through its images.

The module has the name of the package that it wraps; `import gymnasium` in here is the package.
"""

import functools
import importlib
import operator
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from dreamer.envs.core import EnvError, unknown
from dreamer.types import ActionSpace, Space

TASKS = ("CarRacing-v3",)

_IMAGES = "uint8 arrays of shape (H, W), (H, W, 1) or (H, W, 3)"


class Gymnasium:
    """One environment as an Env with 64x64 images.

    task: a registered id, or MODULE:ID, which imports the module first so that it can register the id; or MODULE:NAME
        of a class or function there that makes the environment, and takes render_mode where its images are rendered.
    action_repeat: environment steps ("frames") for which an action is held; rewards add up.
    time_limit: frames of an episode, beside the environment's own limit; reaching either is no terminal.
    size: side of the image in pixels.

    Images are the observations where these are uint8 arrays of shape (H, W), (H, W, 1) or (H, W, 3), or a Dict with
    such an "image"; otherwise the frames of render_mode "rgb_array". They are resized bilinearly.
    Actions: Discrete is passed one-hot; a Box is flattened and scaled to [-1, 1], which also stands for a bound that it
    lacks. terminated is is_terminal; truncated alone is a last step that is none. A new environment begins with seed 0.
    Raises ValueError for an unknown task, EnvError for spaces of another kind, where there are no images, and for
    frames or rewards that are not what gymnasium asks for.
    """

    def __init__(self, task: str, *, action_repeat: int = 1, time_limit: int = 1000, size: int = 64):
        import gymnasium

        found = find(task)
        make = functools.partial(gymnasium.make, found) if isinstance(found, str) else found
        self._env = make()
        if not isinstance(self._env, gymnasium.Env):
            raise EnvError(f"{task} made an object of type {type(self._env).__name__}: expected a gymnasium.Env")
        self._image_in = _image_in(self._env.observation_space)
        if self._image_in is None:
            if "rgb_array" not in self._env.metadata.get("render_modes", ()):
                raise EnvError(
                    f"{task} has no images: its observations are {self._env.observation_space}, not {_IMAGES} (or a "
                    'Dict with such an "image"), and it does not offer the render_mode "rgb_array"'
                )
            self._env.close()
            self._env = make(render_mode="rgb_array")
        self.action_repeat, self._time_limit, self._size = action_repeat, time_limit, size
        self.action_space, self._to_env = _actions(self._env.action_space, task)
        self.observation_spaces = {"image": Space((size, size, 3), "uint8")}
        self._seeded = False
        self._frame = 0

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset; a seed lies in 0..2**32 - 1."""
        if seed is None and not self._seeded:
            seed = 0
        self._seeded, self._frame = True, 0
        observation, _ = self._env.reset(seed=seed)
        return self._observe(observation, reward=0.0, first=True, last=False, terminal=False)

    def step(self, action: np.ndarray) -> dict:
        """See Env.step; an episode that ends within the action repeat ends it early."""
        total = 0.0
        for _ in range(self.action_repeat):
            observation, reward, terminated, truncated, _ = self._env.step(self._to_env(action))
            total += _number(reward)
            self._frame += 1
            last = terminated or truncated or self._frame >= self._time_limit
            if last:
                break
        return self._observe(observation, reward=total, first=False, last=last, terminal=terminated)

    def close(self) -> None:
        """See Env.close."""
        self._env.close()

    def _observe(self, observation: Any, *, reward: float, first: bool, last: bool, terminal: bool) -> dict:
        image = self._image_in(observation) if self._image_in else self._env.render()
        return {
            "image": _resize(image, self._size),
            "reward": np.float32(reward),
            "is_first": np.bool_(first),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(terminal),
        }


def find(task: str) -> str | Callable:
    """The registered id of a task. For MODULE:ID the module is imported, from the working directory too.

    Where MODULE registers no such id but has a class or function of that name, that is returned.
    Raises ValueError in one line where the module cannot be imported or there is neither.
    """
    import gymnasium

    module, colon, environment_id = task.rpartition(":")
    if colon:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            importlib.import_module(module)
        except (Exception, SystemExit) as error:  # A script that runs as it is imported may well end with sys.exit().
            problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f'cannot import the module "{module}" of the task "{task}": {problem}') from error
    atari = not colon and environment_id.startswith("ALE/")  # registered in a process that has had a game of Atari
    if atari or environment_id not in gymnasium.registry:
        if colon and callable(constructor := _attribute(sys.modules[module], environment_id)):
            return constructor
        if module == "__main__":
            raise ValueError(
                f"the environment {environment_id} of this run was defined in a script or a notebook, and only there "
                "can it be made: put it into a module to find it elsewhere too"
            )
        hint = "" if colon else "; MODULE:ID imports a module that registers its own"
        if atari:
            hint = "; games of Atari are the suite atari: --configs atari --task pong, as `dreamer tasks` lists them"
        raise ValueError(unknown("environment of gymnasium", environment_id, gymnasium.registry) + hint)
    return environment_id


def name_of(constructor: Callable) -> str:
    """The task MODULE:NAME for a class or function. Raises ValueError where that does not lead to it."""
    module, name = getattr(constructor, "__module__", None), getattr(constructor, "__qualname__", None)
    if not (module and name and callable(constructor) and _attribute(sys.modules.get(module), name) is constructor):
        shown = name or f"an object of type {type(constructor).__name__}"
        raise ValueError(
            "env: expected a class or function at the top of a module, a script or a notebook, which makes a gymnasium "
            f"environment each time it is called and can be found by its name later; got {shown}"
        )
    return f"{module}:{name}"


def _attribute(module: Any, name: str) -> Any:
    """What a dotted name in a module stands for, None where it is nothing."""
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        return None


def _image_in(space: Any) -> Callable[[Any], np.ndarray] | None:
    """The function from an observation of a space to the image in it; None where there is none."""
    import gymnasium

    if _is_image(space):
        return lambda observation: observation
    if isinstance(space, gymnasium.spaces.Dict) and _is_image(space.spaces.get("image")):
        return lambda observation: observation["image"]
    return None


def _is_image(space: Any) -> bool:
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
        return False
    return len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[2] in (1, 3))


def _resize(image: Any, size: int) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) or, with an opacity that is dropped, (H, W, 4) uint8 -> (size, size, 3) uint8."""
    if not isinstance(image, np.ndarray):
        raise EnvError(f"an image of type {type(image).__name__}: expected {_IMAGES}")
    if image.dtype != np.uint8 or image.ndim < 2 or 0 in image.shape or image.shape[2:] not in ((), (1,), (3,), (4,)):
        raise EnvError(f"an image of shape {image.shape} and dtype {image.dtype}: expected {_IMAGES}")
    if image.shape[2:] == (1,):
        image = image[:, :, 0]
    image = Image.fromarray(image).convert("RGB")
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR))


def _number(reward: Any) -> float:
    try:
        return float(reward)
    except (TypeError, ValueError) as error:
        raise EnvError(f"step() returned the reward {reward!r}: expected a number") from error


def _actions(space: Any, task: str) -> tuple[ActionSpace, Callable[[np.ndarray], Any]]:
    """The ActionSpace of a gymnasium space, and the function from our action [A] to one of the space."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Discrete):
        return ActionSpace(int(space.n), discrete=True), lambda action: int(space.start) + int(np.argmax(action))
    if isinstance(space, gymnasium.spaces.Box) and np.issubdtype(space.dtype, np.floating) and 0 not in space.shape:
        low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float64)
        high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float64)
        if np.any((low >= high) & ~(np.isfinite(space.low) & np.isfinite(space.high))):
            raise EnvError(f"{task} has actions with one bound, beyond [-1, 1]: {space} needs the other bound too")

        def scale(action: np.ndarray) -> np.ndarray:
            unit = (action.astype(np.float64).reshape(space.shape) + 1) / 2
            # Rounding may lead out of the space by the last digit.
            return np.clip((1 - unit) * low + unit * high, low, high).astype(space.dtype)

        return ActionSpace(int(np.prod(space.shape)), discrete=False), scale
    raise EnvError(f"{task} has actions of the kind {space}: expected a Discrete space, or a Box of floats")

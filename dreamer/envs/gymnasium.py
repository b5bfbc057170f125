"""Any environment that gymnasium makes, the user's own included.

The module has the name of the package that it wraps; `import gymnasium` in here is the package.
"""

import contextlib
import functools
import importlib
import json
import operator
import os
import sys
import traceback
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dreamer.envs import gym_actions, gym_observations
from dreamer.envs.core import EnvError, EnvRefused, unknown
from dreamer.types import INFO, Space

TASKS = ("CarRacing-v3",)
NONE = "none"  # of the key env.info

_LARGEST = float(np.finfo(np.float32).max)
_IMAGES = "uint8 arrays of shape (H, W), (H, W, 1) or (H, W, 3)"
_OLD = (
    "has the interface of the old gym: its reset() has to take seed and options and to return (observation, info), its "
    "step() to return (observation, reward, terminated, truncated, info). Change these two functions, or wrap it in "
    "GymV21CompatibilityV0 or GymV26CompatibilityV0 of the package shimmy"
)


class Gymnasium:
    """One environment as an Env.

    task: a registered id, or MODULE:ID, which imports the module first so that it can register the id; or MODULE:NAME
        of a class or function there that makes the environment, and takes render_mode where its images are rendered.
    action_repeat: environment steps ("frames") for which an action is held; rewards add up.
    time_limit: frames of an episode, beside the environment's own limit; reaching either is no terminal.
    kwargs: further arguments of whatever makes the environment, a JSON object.
    image: which observation is the image, see env.image in configs/defaults.yaml.
    info: names of numbers in `info`, separated by commas, that a step has too, as "info.NAME"; "a.b" is one in a dict
        there. NONE for none.
    size: side of the image in pixels. images: False leaves the image out, and renders nothing.

    Images are observations of any of the forms in gym_observations, or the frames of render_mode "rgb_array" where
    there are none. They are resized bilinearly. The numbers beside the image, one-hot where they are choices, are
    observations [n] float32. `note` says what is used and what is left out.
    Actions: see gym_actions; a Box is flattened and scaled to [-1, 1], which also stands for a bound that it lacks.
    terminated is is_terminal; truncated alone is a last step that is none. A new environment begins with seed 0.
    Raises ValueError for an unknown task, EnvRefused for spaces of another kind, where there are no images, and for
    what is no environment of gymnasium; EnvError for observations or rewards that are not of their spaces.
    """

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 1,
        time_limit: int = 1000,
        kwargs: str = "{}",
        image: str = gym_observations.AUTO,
        info: str = NONE,
        size: int = 64,
        images: bool = True,
    ):
        make = functools.partial(_make, task, find(task), kwargs)
        rendered = images and image == gym_observations.RENDER
        self._env = make(rendered=rendered)
        seen = gym_observations.take(self._env.observation_space, image, images=images, task=task)
        if images and not seen.image:
            if "rgb_array" not in (self._env.metadata or {}).get("render_modes", ()):
                without = "; --model.inputs vectors learns from its numbers alone" if seen.vectors else ""
                raise EnvRefused(
                    f"{task} has no images: its observations are {self._env.observation_space}, not {_IMAGES} (or a "
                    'Dict with such an "image"), nor of another form of images, and it does not offer the render_mode '
                    f'"rgb_array"{without}'
                )
            if not rendered:
                self._env.close()
                self._env = make(rendered=True)
        if not images and not seen.vectors:
            raise EnvRefused(f"{task} has no numbers among its observations, {self._env.observation_space}")
        self._task, self._vectors = task, seen.vectors
        self._image = (seen.image or (lambda observation: self._env.render())) if images else None
        self.action_repeat, self._time_limit, self._size = action_repeat, time_limit, size
        self.action_space, self._to_env = gym_actions.translate(self._env.action_space, task)
        self.observation_spaces = {"image": Space((size, size, 3), "uint8")} if images else {}
        self.observation_spaces |= seen.spaces
        self._infos = _names(info, seen.spaces, task)
        self.infos = tuple(self._infos)
        self.note = _note(task, seen, images)
        self._seeded = False
        self._frame = 0

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset; a seed lies in 0..2**32 - 1."""
        if seed is None and not self._seeded:
            seed = 0
        self._seeded, self._frame = True, 0
        observation, info = self._asked(2, self._env.reset, seed=seed)
        told = self._told(info)
        return self._observe(observation, told, reward=0.0, first=True, last=False, terminal=False)

    def step(self, action: np.ndarray) -> dict:
        """See Env.step; an episode that ends within the action repeat ends it early."""
        total, told = 0.0, dict.fromkeys(self.infos, np.float32(np.nan))
        for _ in range(self.action_repeat):
            observation, reward, terminated, truncated, info = self._asked(5, self._env.step, self._to_env(action))
            total += _number(reward)
            told |= {name: value for name, value in self._told(info).items() if np.isfinite(value)}
            self._frame += 1
            last = terminated or truncated or self._frame >= self._time_limit
            if last:
                break
        return self._observe(observation, told, reward=total, first=False, last=last, terminal=terminated)

    def close(self) -> None:
        """See Env.close."""
        self._env.close()

    def _asked(self, count: int, method: Callable, *args: Any, **kwargs: Any) -> tuple:
        """What a method returns, `count` values."""
        with _naming_the_old_interface(self._task):
            result = method(*args, **kwargs)
        if not isinstance(result, tuple) or len(result) != count:
            raise EnvRefused(f"{self._task} {_OLD}")
        return result

    def _told(self, info: Any) -> dict[str, np.float32]:
        """The numbers of `info` that were asked for; NaN for one that is not there, is None, or no finite float32."""
        return {stored: _number_in(info, name) for stored, name in self._infos.items()}

    def _observe(self, observation: Any, told: dict, *, reward: float, first: bool, last: bool, terminal: bool) -> dict:
        image = {"image": _resize(self._image(observation), self._size)} if self._image else {}
        return {
            **image,
            **{name: vector(observation) for name, vector in self._vectors.items()},
            **told,
            "reward": np.float32(reward),
            "is_first": np.bool_(first),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(terminal),
        }


def _make(task: str, found: str | Callable, kwargs: str, *, rendered: bool) -> Any:
    """The environment of gymnasium. Raises EnvRefused for what is none, and for arguments that it does not take."""
    import gymnasium
    from gymnasium.experimental.functional import FuncEnv

    arguments = json.loads(kwargs) | ({"render_mode": "rgb_array"} if rendered else {})
    several = "is a vector environment: give the single one, of which --envs.count N makes several"
    if isinstance(found, str):
        spec = gymnasium.registry[found]
        if spec.entry_point is None and spec.vector_entry_point is not None:
            raise EnvRefused(f"{task} {several}")
    try:
        env = gymnasium.make(found, **arguments) if isinstance(found, str) else found(**arguments)
    except TypeError as error:
        problem = " ".join(str(error).split())
        if "inherit from the gymnasium.Env" in problem:
            raise EnvRefused(f"{task} {_OLD}, and let its class inherit from gymnasium.Env") from error
        if "required" in problem and "argument" in problem:
            raise EnvRefused(f"{task} needs arguments, --env.kwargs '{{\"NAME\": VALUE}}': {problem}") from error
        if rendered and ("'render_mode'" in problem or "takes no arguments" in problem):
            raise EnvRefused(
                f"{task} has its images rendered, and does not take render_mode, which asks for them: {problem}"
            ) from error
        if "argument" in problem and json.loads(kwargs):
            raise EnvRefused(f"{task} does not take --env.kwargs '{kwargs}': {problem}") from error
        raise
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise EnvRefused(f"{task} {several}")
    if isinstance(env, FuncEnv):
        raise EnvRefused(
            f"{task} is a FuncEnv, of functions: wrap it in gymnasium.envs.functional_jax_env.FunctionalJaxEnv, or "
            "write a gymnasium.Env around it"
        )
    if not isinstance(env, gymnasium.Env):
        old = callable(getattr(env, "reset", None)) and callable(getattr(env, "step", None))
        remedy = ": let its class inherit from it; if it is of the old gym, it " + _OLD if old else ""
        raise EnvRefused(f"{task} made an object of type {type(env).__name__}: expected a gymnasium.Env{remedy}")
    return env


def _note(task: str, seen: gym_observations.Observations, images: bool) -> str:
    """What is used of an environment, on one line."""
    parts = [f"the image is {seen.image_from or 'what render() draws'}"] if images else []
    if seen.spaces:
        stored = ", ".join(f'"{name}" [{space.shape[0]}]' for name, space in seen.spaces.items())
        parts.append(f"numbers{' beside it' if images else ''}: {stored}")
    if seen.out:
        parts.append(f"left out: {', '.join(seen.out)}")
    return f"{task}: {'; '.join(parts)}."


@contextlib.contextmanager
def _naming_the_old_interface(task: str) -> Iterator[None]:
    """Turn what the old gym's reset and step come to in gymnasium's own code, or in ours, into EnvRefused."""
    import gymnasium

    try:
        yield
    except (TypeError, ValueError) as error:
        theirs = ("values to unpack", "unexpected keyword argument 'seed'", "unexpected keyword argument 'options'")
        place = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        within = place == Path(__file__) or place.is_relative_to(Path(gymnasium.__file__).parent)
        if within and any(problem in str(error) for problem in theirs):
            raise EnvRefused(f"{task} {_OLD}") from error
        raise


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
        valid = [*(_defined(sys.modules[module]) if colon else ()), *gymnasium.registry]
        raise ValueError(unknown("environment of gymnasium", environment_id, valid) + hint)
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


def _defined(module: Any) -> list[str]:
    """The classes and functions that a module defines, and does not import: the first that a wrong name may mean."""
    own = (name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
    return [name for name in own if callable(getattr(module, name))]


def _attribute(module: Any, name: str) -> Any:
    """What a dotted name in a module stands for, None where it is nothing."""
    try:
        return operator.attrgetter(name)(module)
    except AttributeError:
        return None


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
        number = float(reward)
    except (TypeError, ValueError) as error:
        raise EnvError(f"step() returned the reward {reward!r}: expected a number") from error
    if _LARGEST < abs(number) < np.inf:
        raise EnvError(
            f"step() returned the reward {number:g}: expected a number that float32 has, up to {_LARGEST:.3g}"
        )
    return number


def _names(info: str, taken: Container[str], task: str) -> dict[str, str]:
    """{name in a step: name in `info`} of env.info. Raises EnvRefused for a name twice, none, or one that is taken."""
    names = [] if info == NONE else [name.strip() for name in info.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise EnvRefused(f"--env.info {info}: expected names in `info`, each once, such as success,goal.distance")
    stored = {f"{INFO}{name}": name for name in names}
    if clash := [name for name in stored if name in taken]:
        raise EnvRefused(f"--env.info {info}: {task} has an observation that is stored as {clash[0]} already")
    return stored


def _number_in(info: Any, name: str) -> np.float32:
    """A number in `info` by its name. Raises EnvError for what is none."""
    value = _look_up(info, name)
    if isinstance(value, int):  # of any size, unlike those of NumPy
        value = float(value) if abs(value) <= _LARGEST else np.nan
    try:
        array = np.asarray(np.nan if value is None else value)
    except ValueError:  # a list of lists that are not equally long
        array = np.empty(0)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise EnvError(f"info has {name} {' '.join(repr(value).split())[:80]}: expected a number (--env.info)")
    with np.errstate(over="ignore"):
        number = array.reshape(()).astype(np.float32)
    return np.float32(number if np.isfinite(number) else np.nan)


def _look_up(info: Any, name: str) -> Any:
    """info["a.b"], or else info["a"]["b"]; None where there is neither."""
    if not isinstance(info, Mapping):
        return None
    if name in info:
        return info[name]
    outer, _, inner = name.partition(".")
    return _look_up(info.get(outer), inner) if inner else None

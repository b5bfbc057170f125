"""Levels of DeepMind Lab through its native module `deepmind_lab`.

The module is imported by the constructor. Its renderer carries LLVM as TensorFlow does: the environment needs a process
of its own.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.envs import lab_engine
from dreamer.envs.core import EnvError, PrintedError, unknown
from dreamer.types import ActionSpace, Space

# The 13 names of the release, and the level that each one stands for.
LEVELS = {
    "collect": "rooms_collect_good_objects_train",
    "collect_few": "explore_object_rewards_few",
    "compare": "psychlab_sequential_comparison",
    "doors_large": "explore_obstructed_goals_large",
    "doors_small": "explore_obstructed_goals_small",
    "explore_small": "explore_object_locations_small",
    "find_large": "explore_goal_locations_large",
    "find_small": "explore_goal_locations_small",
    "keys": "rooms_keys_doors_puzzle",
    "lasertag_1": "lasertag_one_opponent_small",
    "lasertag_3": "lasertag_three_opponents_small",
    "recognize": "psychlab_visual_search",
    "watermaze": "rooms_watermaze",
}
TASKS = tuple(LEVELS)
_FOLDER = "contributed/dmlab30/"

# Levels whose full name has no folder.
OTHER_TASKS = (
    "lt_chasm",
    "lt_hallway_slope",
    "lt_horseshoe_color",
    "lt_space_bounce_hard",
    "nav_maze_random_goal_01",
    "nav_maze_random_goal_02",
    "nav_maze_random_goal_03",
    "nav_maze_static_01",
    "nav_maze_static_02",
    "nav_maze_static_03",
    "seekavoid_arena_01",
    "stairway_to_melon",
)

INSTALL = (
    "it is not on the package index; `dmlab-gym build` makes it for Python 3.13, where Docker or Podman, git and "
    "libOSMesa.so.8 (Debian's libosmesa6) are, and `docker build --target dmlab` puts it into an image (see the "
    "Dockerfile)"
)
REMEDY = f"its engine takes: apt-get install {' '.join(lab_engine.PACKAGES)}"
PROBE = "explore_small"  # which compiles its map

# Look left-right and down-up [pixels a frame], strafe, move, fire, jump, crouch.
ACTIONS = np.array(
    [
        [0, 0, 0, 1, 0, 0, 0],  # forward
        [0, 0, 0, -1, 0, 0, 0],  # backward
        [0, 0, -1, 0, 0, 0, 0],  # strafe left
        [0, 0, 1, 0, 0, 0, 0],  # strafe right
        [-20, 0, 0, 0, 0, 0, 0],  # look left
        [20, 0, 0, 0, 0, 0, 0],  # look right
        [-20, 0, 0, 1, 0, 0, 0],  # look left and forward
        [20, 0, 0, 1, 0, 0, 0],  # look right and forward
        [0, 0, 0, 0, 1, 0, 0],  # fire
    ],
    np.intc,
)

_IMAGE, _REMAINING = "RGB_INTERLEAVED", "FRAMES_REMAINING_AT_60"
_TEST_MODE = {"allowHoldOutLevels": "true", "mixerSeed": str(0x600D5EED)}


class DMLab:
    """One level as an Env: 64x64 images, nine one-hot actions (see ACTIONS).

    task: a name of LEVELS, or a level by its full name, such as "contributed/dmlab30/language_select_located_object".
    action_repeat: frames for which an action is held; only the frame that is kept is rendered.
    time_limit: frames of an episode, beside the level's own limit; reaching either is no terminal.
    hold_out: evaluate in test mode, on the layouts that a level keeps from training (ours; the TF1 release never does).
    training: False is evaluation.
    level_cache: folder for compiled maps, which take seconds each, or "none"; processes may share it.
    size: side of the image in pixels.

    The first episode of a new environment is the same for the same seed and actions, bit for bit; a later one depends
    on how many resets came before it, too, so that a run that goes on from within one ends it there (see Driver).
    Longer than 460 frames not even the first is the same in lasertag_3. A new environment begins with seed 0. When an
    episode has ended, the module shows nothing any more, so that the last step repeats the image before it.
    Raises EnvError where the module is missing, does not load or does not know the level, where its engine lacks
    something, or where there cannot be such a level_cache.
    Source: Beattie et al., "DeepMind Lab", arXiv 1612.03801.
    """

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 4,
        time_limit: int = 108_000,
        hold_out: bool = True,
        training: bool = False,
        level_cache: str = "none",
        size: int = 64,
    ):
        try:
            import deepmind_lab
        except ImportError as error:
            if isinstance(error, ModuleNotFoundError) and error.name == "deepmind_lab":
                raise EnvError(f"the module deepmind_lab is missing: {INSTALL}") from error
            raise EnvError(
                f"the module deepmind_lab is installed but does not load: {error} (it is made for one version of "
                "Python, and renders with OSMesa, Debian's libosmesa6)"
            ) from error

        config = {"width": str(size), "height": str(size)}
        if hold_out and not training:
            config |= _TEST_MODE
        cache = None if level_cache == "none" else lab_engine.LevelCache(Path(level_cache).expanduser())
        level = f"{_FOLDER}{LEVELS[task]}" if task in LEVELS else task
        folder = lab_engine.TemporaryFolder()

        def build(observations: list[str]) -> Any:
            return deepmind_lab.Lab(
                level, observations, config=config, renderer="software", level_cache=cache, temp_folder=folder.path
            )

        try:
            with _told(f'DeepMind Lab does not start the level "{level}"'):
                try:
                    self._lab, self._counts_down = build([_IMAGE, _REMAINING]), True
                except ValueError:  # A level without a time limit has no such observation.
                    self._lab, self._counts_down = build([_IMAGE]), False
        except BaseException:
            folder.close()
            raise
        self._folder = folder
        self.action_repeat, self._time_limit = action_repeat, time_limit
        self.action_space = ActionSpace(size=len(ACTIONS), discrete=True)
        self.observation_spaces = {"image": Space((size, size, 3), "uint8")}
        self._random = np.random.default_rng(0)
        self._image, self._remaining, self._frame = None, np.inf, 0

    def reset(self, seed: int | None = None) -> dict:
        """Begin an episode; a seed lies in 0..2**31 - 1. See DMLab for what it decides."""
        if self._lab is None:  # which would end the process
            raise EnvError("reset() after close(): make a new environment")
        if seed is not None and not 0 <= seed < 2**31:  # of which the module would take the lower 32 bits
            raise EnvError(f"seed {seed}: expected 0 to {2**31 - 1}")
        if seed is None:
            seed = self._random.integers(2**31)
        else:
            self._random = np.random.default_rng(seed)
        with _told("DeepMind Lab does not begin an episode"):
            self._lab.reset(seed=int(seed))
        self._frame = 0
        self._look()
        return self._observe(reward=0.0, first=True, last=False, terminal=False)

    def step(self, action: np.ndarray) -> dict:
        """See Env.step; an episode that ends within the action repeat ends it early."""
        frames = min(self.action_repeat, self._time_limit - self._frame)
        with _told("DeepMind Lab does not take a step"):
            reward = self._lab.step(ACTIONS[np.argmax(action)], num_steps=frames)
        self._frame += frames
        ended = not self._lab.is_running()
        # Nothing tells a terminal from a time-out but the time that was left; one step more than needed for rounding.
        terminal = ended and self._counts_down and self._remaining > 2 * self.action_repeat
        if not ended:
            self._look()
        return self._observe(
            reward=reward, first=False, last=ended or self._frame >= self._time_limit, terminal=terminal
        )

    def close(self) -> None:
        """See Env.close."""
        if self._lab is not None:
            self._lab.close()
            self._folder.close()
        self._lab = None

    def _look(self) -> None:
        seen = self._lab.observations()
        self._image = seen[_IMAGE]
        if self._counts_down:
            self._remaining = float(seen[_REMAINING][0])

    def _observe(self, *, reward: float, first: bool, last: bool, terminal: bool) -> dict:
        return {
            "image": self._image,
            "reward": np.float32(reward),
            "is_first": np.bool_(first),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(terminal),
        }


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the module raises into an error that says what it lacks here; the engine prints the cause."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        lacking = lab_engine.lacking(str(error))
        raise PrintedError(f"{what}: {error}{lacking and f' ({lacking})'}") from error


def short_name(task: str) -> str:
    """The name in LEVELS of a level given by its full name; other names stay as they are."""
    full = {f"{_FOLDER}{level}": name for name, level in LEVELS.items()}
    return full.get(task, task)


def is_level(task: str) -> bool:
    """Whether a name is the full name of a level, as far as that can be told without the module.

    Raises ValueError, naming the nearest, for a level in a folder that the installed module does not have.
    """
    known = lab_engine.levels()
    if known is None:
        return "/" in task
    if "/" in task and task not in known:
        raise ValueError(unknown("level of the installed DeepMind Lab", task, sorted(known)))
    return task in known

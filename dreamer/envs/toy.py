"""A tiny visual task with a known best policy, for checking in minutes that an agent learns from images.

A white dot starts anywhere in the unit square and is to be steered to the green goal in the middle. The reward of a
frame is 1 where neither coordinate is more than 0.1 from the goal after the move, and falls to 0 at 0.2. So most of the
square gives no hint of the way, and an agent that imagines only a few steps needs its value network to find it. Going
to the goal as fast as possible and staying there is optimal.
"""

import numpy as np

from dreamer.types import ActionSpace, Space

TASKS = ("dot", "dot_discrete")
SPEED = 0.1  # of the square's side per frame
GOAL = 0.5
_MOVES = SPEED * np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])  # of dot_discrete: stay, left, right, up, down
_BACKGROUND, _GREEN, _WHITE = (40, 40, 60), (40, 180, 90), (250, 250, 250)


class Dot:
    """`dot`: actions are velocities (x, y) in [-1, 1] times SPEED; `dot_discrete`: stay, left, right, up or down.

    The observation beside the image is the position, [2] in [0, 1]; without images it is the only one. size: side of
    the image in pixels. time_limit [frames] is never a terminal.
    """

    def __init__(self, task: str, *, action_repeat: int, time_limit: int, size: int = 64, images: bool = True):
        self._discrete = task == "dot_discrete"
        self.action_repeat, self._time_limit, self._size = action_repeat, time_limit, size
        self.action_space = ActionSpace(len(_MOVES), True) if self._discrete else ActionSpace(2, False)
        self._images = images
        image = {"image": Space((size, size, 3), "uint8")} if images else {}
        self.observation_spaces = {**image, "position": Space((2,), "float32")}
        self._random = np.random.default_rng()
        self._position: np.ndarray
        self._frame = 0

    def reset(self, seed: int | None = None) -> dict:
        """Begin an episode; with a seed it depends on nothing else."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._position, self._frame = self._random.integers(0, 11, 2) * SPEED, 0
        return self._step(0.0, is_first=True)

    def step(self, action: np.ndarray) -> dict:
        """Hold the action for action_repeat frames; the reward is the sum over them."""
        move = _MOVES[int(np.argmax(action))] if self._discrete else SPEED * np.asarray(action, np.float64)
        reward = 0.0
        for _ in range(min(self.action_repeat, self._time_limit - self._frame)):
            self._position = (self._position + move).clip(0.0, 1.0)
            self._frame += 1
            reward += frame_reward(self._position)
        return self._step(reward, is_first=False)

    def close(self) -> None:
        """Nothing to close."""

    def _step(self, reward: float, *, is_first: bool) -> dict:
        return {
            **({"image": self._render()} if self._images else {}),
            "position": self._position.astype(np.float32),
            "reward": np.float32(reward),
            "is_first": np.bool_(is_first),
            "is_last": np.bool_(self._frame >= self._time_limit),
            "is_terminal": np.bool_(False),
        }

    def _render(self) -> np.ndarray:
        image = np.full((self._size, self._size, 3), _BACKGROUND, np.uint8)
        for center, pixels, color in (((GOAL, GOAL), 10, _GREEN), (self._position, 7, _WHITE)):
            half = round(pixels * self._size / 64)
            x, y = (np.asarray(center) * (self._size - 2 * half) + half).round().astype(int)
            image[y - half : y + half, x - half : x + half] = color
        return image


def frame_reward(position: np.ndarray) -> float:
    """2 - 10 max(|dx|, |dy|) within [0, 1], at a position [2]."""
    return float(np.clip(2.0 - 10.0 * np.abs(position - GOAL).max(), 0.0, 1.0))


def best_return(start: np.ndarray, *, discrete: bool, frames: int) -> float:
    """The highest return from a start: both coordinates at full speed, or the farther one each time (discrete)."""
    left = np.abs(np.asarray(start, np.float64) - GOAL)
    total = 0.0
    for _ in range(frames):
        if discrete:
            left[np.argmax(left)] = max(0.0, left.max() - SPEED)
        else:
            left = np.maximum(0.0, left - SPEED)
        total += frame_reward(GOAL + left)
    return total

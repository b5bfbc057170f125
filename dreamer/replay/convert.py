"""What a file of another layout holds, as an episode of ours: numbers, actions and images in all their forms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamer.types import IMAGE, Space

UNUSABLE = (ValueError, TypeError, IndexError, OverflowError)  # what arrays of no sensible shape or kind can raise


class Refused(Exception):
    """Why something cannot be taken, in one line."""


class Found(NamedTuple):
    """An episode as `EpisodeStore.add` takes it, or None and why not; where it was, and what was done to it."""

    where: str
    episode: dict[str, np.ndarray] | None
    remarks: list[str]


class Source(NamedTuple):
    """What to read. names: key of each of NAMES that the user gives; choices: of discrete actions, 0: unknown; size:
    side of the images as they are stored.
    """

    path: Path
    format: str
    names: Mapping[str, str]
    choices: int = 0
    size: int = 64

    @property
    def inputs(self) -> dict[str, Space]:
        """What every episode has, for EpisodeStore."""
        return {IMAGE: Space((self.size, self.size, 3), "uint8")}


def shifted(image: np.ndarray, action: np.ndarray, reward: np.ndarray, terminal: bool) -> dict[str, np.ndarray]:
    """An episode in which actions [L - 1] follow from images [L]: row 0 gets none, and each moves on by one."""
    action = np.concatenate([np.zeros((1, action.shape[1]), np.float32), action])
    return whole(image, action, np.concatenate([np.zeros(1, np.float32), reward]), terminal)


def whole(image: np.ndarray, action: np.ndarray, reward: np.ndarray, terminal: bool) -> dict[str, np.ndarray]:
    """An episode of ours, of arrays [L, ...] whose rows are aligned as ours are."""
    step, last = np.arange(len(reward)), len(reward) - 1
    ends = (step == last) & terminal
    return {
        "image": image,
        "action": action,
        "reward": reward,
        "discount": 1 - ends.astype(np.float32),
        "is_first": step == 0,
        "is_last": step == last,
        "is_terminal": ends,
    }


def numbers(key: str, values: np.ndarray) -> np.ndarray:
    """Numbers as float32; half precision, which the published agents store, is exact in it."""
    if values.dtype.kind not in "fiub":
        raise Refused(f"{key} is {values.dtype}, expected numbers")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise Refused(f"{key} has values that are not finite")
    return values


def actions_of(values: np.ndarray, choices: int, remarks: list[str], *, first_is_reset: bool = False) -> np.ndarray:
    """Actions [N, A], from numbers in -1..1, one-hot vectors, or indices of `choices`."""
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "iu":
        values = values[:, 0]
    if values.ndim == 1 and values.dtype.kind in "iu":
        if not choices:
            raise Refused("its actions are indices: --choices N says of how many")
        if len(values) and not 0 <= values.min() <= values.max() < choices:
            raise Refused(f"its actions reach from {values.min()} to {values.max()}: expected indices below {choices}")
        action = np.eye(choices, dtype=np.float32)[values]
        if first_is_reset:
            action[0] = 0
        return action
    action = numbers("action", values)
    if action.ndim == 1:
        action = action[:, None]
    if action.ndim != 2:
        raise Refused(f"action has shape {action.shape}, expected [N, A]")
    if len(action) and np.abs(action).max() > 1:
        raise Refused(f"action reaches {np.abs(action).max():.4g}: expected numbers in -1..1")
    return action


def images_of(values: np.ndarray, size: int, remarks: list[str]) -> np.ndarray:
    """Images [L, size, size, 3] uint8, from any size, one channel or three, first or last, bytes or numbers in 0..1."""
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4:
        raise Refused(f"its observations have shape {values.shape}, expected images [L, H, W, 3]: --image KEY")
    first, last = (values.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        raise Refused(f"its images have shape {values.shape}: which axis has the channels cannot be told")
    if not first and not last:
        raise Refused(f"its images have shape {values.shape}, expected 1 or 3 channels")
    if first:
        values = np.moveaxis(values, 1, 3)
        remarks.append("channels moved to the end")
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1):
            raise Refused("its images are floating-point numbers beyond 0..1")
        values = np.round(values * 255).astype(np.uint8)
        remarks.append("images scaled from 0..1 to bytes")
    if values.dtype != np.uint8:
        raise Refused(f"its images are {values.dtype}, expected uint8 or floating-point numbers in 0..1")
    if values.shape[1:3] != (size, size):
        remarks.append(f"images of {values.shape[2]}x{values.shape[1]} resized to {size}x{size}")
        values = np.stack([_resized(image, (size, size)) for image in values])
    if values.shape[3] == 1:
        values = values.repeat(3, 3)
        remarks.append("one channel repeated as three")
    return np.ascontiguousarray(values)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else np.ascontiguousarray(image))
    resized = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    return resized[..., None] if grey else resized


def listed(keys: Any) -> str:
    """Names, for a message."""
    return ", ".join(sorted(map(str, keys)))

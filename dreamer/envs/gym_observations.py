"""Observations of gymnasium: which part of one is the image, and what becomes of the numbers beside it.

A part is a leaf of the space. It is named by its keys, `camera.rgb` in a Dict of Dicts, by its index in a Tuple, and
WHOLE where the space is no more than that. Images have one of these forms, in which k channels are k / c frames of c
channels, the newest last: an agent with a memory is shown the newest.

    (H, W)   (H, W, k)   (k, H, W)   (k, H, W, c)   (k, c, H, W)      k up to 16; c: 1 grey, 3 rgb, 4 rgba
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from dreamer.envs.core import FLAGS, EnvError, EnvRefused
from dreamer.types import Space

WHOLE = "observation"
# Of the key env.image: the image that is there; what render() draws; what runs did that are older than the key.
AUTO, RENDER, PLAIN = "auto", "render", "plain"
_CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
_MOST = 16  # channels; a larger axis is one of space
_WIDEST = 65_535.0  # distance of black and white; bounds farther apart stand for none
_CHOICES = 10_000  # of one part: as one-hot vectors, more than these would be most of what an episode stores
_LEAST = 16  # pixels of a side: what is smaller is rather a table of numbers
_TAKEN = {"image", "action", "reward", "discount", *FLAGS}  # what else a stored step has


class Form(NamedTuple):
    """The form of the images in a part, arrays of `shape`.

    channels: the axis of the channels, None where there is none; kept: how many of the last of them are the image.
    stacked: whether the first axis is one of frames. limits: the values of black and white; None for uint8.
    told: all of this in words.
    """

    shape: tuple
    channels: int | None
    kept: int
    stacked: bool
    limits: tuple[float, float] | None
    told: str

    @property
    def plain(self) -> bool:
        """Whether there is nothing to convert."""
        whole = self.channels is None or (self.channels == 2 and self.shape[2] == self.kept != 4)
        return self.limits is None and not self.stacked and whole

    def convert(self, value: Any) -> np.ndarray:
        """(H, W) or (H, W, c) uint8; a plain one as it is. Raises EnvError where the value is not of this form."""
        image = np.asarray(value)
        if self.plain and image.ndim < 2:
            return value  # no image at all, which whoever takes it names
        if image.shape != self.shape:
            raise EnvError(f"an observation of shape {image.shape}: expected an image of shape {self.shape}")
        if self.plain:
            return value
        if self.stacked:
            image = image[-1]
        if self.channels is not None:
            image = np.moveaxis(image, self.channels - self.stacked, -1)[..., -self.kept :]
        if self.limits is None:
            return np.ascontiguousarray(image)
        low, high = self.limits
        slack = 1e-3 * (high - low)
        if not (image.min() >= low - slack and image.max() <= high + slack):  # NaN is none of both
            raise EnvError(
                f"an image with values from {image.min():g} to {image.max():g}: its space says {low:g} to {high:g}"
            )
        return np.clip((image.astype(np.float64) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)


class Observations(NamedTuple):
    """What is taken from an observation.

    image: the function from an observation to (H, W) or (H, W, c) uint8; None where the image is none of it. vectors:
    by name, those to [n] float32. spaces: of the vectors. image_from: the part that is the image, told in words. out:
    what is left out, told in words.
    """

    image: Callable[[Any], np.ndarray] | None
    vectors: dict[str, Callable[[Any], np.ndarray]]
    spaces: dict[str, Space]
    image_from: str
    out: list[str]


class _Part(NamedTuple):
    name: str
    space: Any
    path: tuple

    def of(self, observation: Any) -> Any:
        for key in self.path:
            try:
                observation = observation[key]
            except (KeyError, IndexError, TypeError) as error:
                raise EnvError(f"the observation {self} is missing, which its space has") from error
        return observation

    def __str__(self) -> str:
        box = self.space
        if not hasattr(box, "low"):
            return f'"{self.name}" {type(box).__name__}'
        return f'"{self.name}" {box.shape} {box.dtype}'


def take(space: Any, key: str, *, images: bool, task: str) -> Observations:
    """What is to be taken from observations of a space. key: env.image, see configs/defaults.yaml.

    Raises EnvRefused for a key that names none of it, and where several parts may be the image or its black and white
    are not known.
    """
    parts = list(_parts(space))
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise EnvRefused(f"{task} has observations of one name, {sorted({n for n in names if names.count(n) > 1})}")
    name, _, kind = key.partition(":")
    known = f"there are {', '.join([AUTO, RENDER, *names])}"
    if name not in (AUTO, RENDER, PLAIN, *names):
        raise EnvRefused(f'--env.image {key}: {task} has no observation "{name}", {known}')
    if kind and (kind not in _CHANNELS or name in (AUTO, RENDER, PLAIN)):
        raise EnvRefused(f"--env.image {key}: expected NAME:{', NAME:'.join(_CHANNELS)}; {known}")
    shaped = [part for part in parts if _layout(part, small=part.name in (WHOLE, "image", name))]
    chosen = _choose(shaped, name, kind, task) if images else None
    vectors: dict[str, Callable[[Any], np.ndarray]] = {}
    spaces, out = {}, []
    for part in parts:
        if chosen and part is chosen[0]:
            continue
        numbers = None if part in shaped else _numbers(part)
        if numbers is None:
            out.append(str(part))
            continue
        stored = f"{WHOLE}.{part.name}" if part.name in _TAKEN else part.name
        if stored in vectors:
            raise EnvRefused(f'{task} has two observations that would be stored as "{stored}"')
        size, vectors[stored] = numbers
        spaces[stored] = Space((size,), "float32")
    if not chosen:
        return Observations(None, vectors, spaces, "", out)
    part, form = chosen
    return Observations(lambda seen: form.convert(part.of(seen)), vectors, spaces, f"{part}, {form.told}", out)


def _parts(space: Any, path: tuple = ()) -> Iterator[_Part]:
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _parts(inner, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, inner in enumerate(space.spaces):
            yield from _parts(inner, (*path, index))
    else:
        yield _Part(".".join(map(str, path)) or WHOLE, space, path)


def _choose(shaped: list[_Part], name: str, kind: str, task: str) -> tuple[_Part, Form] | None:
    """The part that is the image, and how; None where it is none."""
    if name == RENDER:
        return None
    if name == PLAIN:
        shaped = [part for part in shaped if part.path in ((), ("image",)) and _is_plain(part.space)]
    if name not in (AUTO, PLAIN):
        part = next((part for part in shaped if part.name == name), None)
        if part is None:
            raise EnvRefused(f'--env.image {name}: "{name}" of {task} has no form of an image')
    else:
        # Where one has the name of the image, there is no doubt.
        named = [part for part in shaped if part.name == "image" and part.space.dtype == np.uint8]
        several = named or [part for part in shaped if _range(part.space)]
        if len(several) > 1:
            raise EnvRefused(
                f"{task} has several images: {', '.join(map(str, several))}: choose with --env.image "
                f"{' | '.join([part.name for part in several] + [RENDER])}"
            )
        if not several and not shaped:
            return None
        part = (several or shaped)[0]
    return part, _form(part, kind, task)


def _form(part: _Part, kind: str, task: str) -> Form:
    """The form of a part that has the shape of an image. kind: of _CHANNELS, "" for what is likeliest.

    Raises EnvRefused where its values or its channels are unclear.
    """
    limits = _range(part.space)
    if limits is None:
        raise EnvRefused(
            f"{task} has an observation of the shape of an image, {part}, whose bounds do not tell its black and white:"
            f" let its space have one low and one high, such as 0 and 1, or take --env.image {RENDER}"
        )
    channels, count, stacked = _layout(part, small=True) or (None, 1, False)
    shape = part.space.shape
    kept = _CHANNELS[kind] if kind else _of_a_frame(count, shape, channels, stacked)
    if kept is None:
        raise EnvRefused(
            f"{task} has an image of four channels, {part}: set --env.image {part.name}:grey where these are four "
            f"frames, or {part.name}:rgba where they are colours and an opacity"
        )
    if count % kept:
        raise EnvRefused(f"--env.image {part.name}:{kind}: {part} has {count} channels, no multiple of {kept}")
    frames = shape[0] if stacked else count // kept
    told = [{1: "grey", 3: "colours", 4: "colours without their opacity"}[kept]]
    if channels not in (None, len(shape) - 1):
        told.append("channels first")
    if part.space.dtype == np.uint8:
        limits = None
    else:
        told.append(f"{limits[0]:g} to {limits[1]:g} made 0 to 255")
    if frames > 1:
        told.append(f"the newest of {frames} frames")
    return Form(shape, channels, kept, stacked, limits, ", ".join(told))


def _layout(part: _Part, *, small: bool) -> tuple[int | None, int, bool] | None:
    """(axis of channels or None, number of channels, whether the first axis is one of frames); None: no image's shape.

    small: whether images may be smaller than _LEAST where they have the commonest form, uint8 with the channels last.
    """
    from gymnasium import spaces

    if not isinstance(part.space, spaces.Box) or part.space.dtype == np.bool_:
        return None
    shape = part.space.shape

    def large(*sides: int) -> bool:
        return min(sides) >= _LEAST

    if small and _is_plain(part.space):
        return (2, shape[2], False) if len(shape) == 3 else (None, 1, False)
    if len(shape) == 2 and large(*shape) and _range(part.space):
        return None, 1, False
    if len(shape) == 3:
        if shape[2] <= _MOST and large(*shape[:2]):
            return 2, shape[2], False
        if shape[0] <= _MOST and large(*shape[1:]):
            return 0, shape[0], False
    if len(shape) == 4 and shape[0] <= _MOST:
        for axis, sides in ((3, shape[1:3]), (1, shape[2:])):
            if shape[axis] in _CHANNELS.values() and large(*sides):
                return axis, shape[axis], True
    return None


def _is_plain(box: Any) -> bool:
    """Whether a Box has the commonest form of images, at whatever size."""
    return box.dtype == np.uint8 and (len(box.shape) == 2 or (len(box.shape) == 3 and box.shape[2] in (1, 3)))


def _of_a_frame(count: int, shape: tuple, channels: int | None, stacked: bool) -> int | None:
    """Channels of one frame, of `count` in all; None where that cannot be told."""
    if stacked:
        return count
    if count == 4 and channels == 2 and shape[:2] != (84, 84):  # which is how Mnih et al. (2015) stacked greys
        return None
    return 3 if count % 3 == 0 else 1


def _range(space: Any) -> tuple[float, float] | None:
    """(low, high) of a Box where they are the same everywhere and tell something; of uint8 always 0 and 255."""
    if space.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(np.min(space.low)), float(np.max(space.high))
    same = np.all(space.low == low) and np.all(space.high == high)
    return (low, high) if same and 0 < high - low <= _WIDEST else None


def _numbers(part: _Part) -> tuple[int, Callable[[Any], np.ndarray]] | None:
    """The size of the vector that a part becomes, and the function from an observation to it; None: no numbers."""
    from gymnasium import spaces

    space = part.space
    if isinstance(space, spaces.Discrete):
        choices, first = np.array([space.n]), np.array([space.start])
    elif isinstance(space, spaces.MultiDiscrete):
        choices, first = np.ravel(space.nvec), np.ravel(space.start)
    elif isinstance(space, spaces.Box | spaces.MultiBinary) and 0 not in space.shape:
        return int(np.prod(space.shape)), lambda seen: _vector(part, part.of(seen))
    else:
        return None
    begins, size = np.cumsum(choices) - choices, int(np.sum(choices))
    if size > _CHOICES:
        return None

    def one_hot(seen: Any) -> np.ndarray:
        chosen = np.ravel(np.asarray(part.of(seen))) - first
        if chosen.shape != choices.shape or np.any((chosen < 0) | (chosen >= choices)):
            raise EnvError(f"the observation {part} is {part.of(seen)}: expected one of its space")
        vector = np.zeros(size, np.float32)
        vector[begins + chosen.astype(int)] = 1
        return vector

    return size, one_hot


def _vector(part: _Part, value: Any) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):  # reported as not finite below
            vector = np.asarray(value).astype(np.float32).ravel()
    except (TypeError, ValueError) as error:
        raise EnvError(f"the observation {part} is {value!r:.60}: expected numbers") from error
    if vector.size != int(np.prod(part.space.shape)):
        raise EnvError(f"the observation {part} is of shape {np.shape(value)}")
    if not np.isfinite(vector).all():
        raise EnvError(f"the observation {part} has values that are not finite")
    return vector

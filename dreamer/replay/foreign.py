"""Episodes of other layouts as ours: files of the published agents, Minari data sets, arrays of the user's.

What differs is which image an action belongs to:

    row                   0      1      2            ours, Dreamer and PlaNet (TF1, TF2): action, reward and discount
    image                o_0    o_1    o_2           of a row led TO its image; row 0 is the reset, all of it zero
    action, reward        0     a_1    a_2

    row                   0      1                   Minari, D4RL and most arrays: action and reward of a row follow
    observation          o_0    o_1   (o_2)          FROM its image. Minari has one image more than actions; D4RL has
    action, reward       a_1    a_2                  it in next_observations or lacks it

Nothing here knows where the episodes go: `read` yields what there is, and why what cannot be taken is refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dreamer.replay import minari
from dreamer.replay.convert import (
    UNUSABLE,
    Found,
    Refused,
    Source,
    actions_of,
    images_of,
    listed,
    numbers,
    shifted,
    whole,
)
from dreamer.replay.npz import DAMAGE
from dreamer.types import INFO

FORMATS = ("dreamer", "minari", "arrays")
# Names that arrays go by. `done` is among none: it may be a terminal or a time limit, and learning differs.
NAMES = {
    "image": ("observations", "observation", "obs", "images", "image", "pixels"),
    "next": ("next_observations", "next_observation", "next_obs"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "terminal": ("terminals", "terminations", "terminated", "terminal", "is_terminal"),
    "timeout": ("timeouts", "truncations", "truncated", "timeout"),
}
OPTIONAL = ("next", "terminal", "timeout")


def format_of(path: Path, names: Mapping[str, str]) -> str:
    """The format of a file or folder, by what is in it. Raises Refused where that cannot be told."""
    if path.suffix in (".hdf5", ".h5") or (path / "data" / minari.FILE).is_file() or (path / minari.FILE).is_file():
        return "minari"
    files = npz_files(path)
    if (path / "data" / "metadata.json").is_file() and not files:
        raise Refused(f"{path} is a Minari data set that is not kept as HDF5, which is what is read")
    if not files:
        raise Refused(f"{path} has neither .npz files nor a Minari data set (data/{minari.FILE})")
    keys = set(_load(files[0]))
    if names:
        if told := keys & {"discount", "is_first"}:  # which image an action belongs to would be a guess
            raise Refused(
                f"{files[0].name} has {listed(told)}, as files of the layout dreamer have, and names of your own: "
                "--format dreamer or --format arrays says which it is"
            )
        return "arrays"
    if {"image", "action", "reward"} <= keys:
        if keys & {"observations", "actions", "terminals"}:
            raise Refused(f"{files[0].name} has keys of several layouts ({listed(keys)}): --format says which it is")
        return "dreamer"
    return "arrays"


def npz_files(path: Path) -> list[Path]:
    """The .npz files that a path means, in the order of their names, which begin with the time in most layouts."""
    return sorted(path.glob("*.npz")) if path.is_dir() else [path] if path.suffix == ".npz" else []


def read(source: Source) -> Iterator[Found]:
    """Everything that is in a source, one after the other."""
    if source.format == "minari":
        yield from minari.read(source)
        return
    convert = _dreamer if source.format == "dreamer" else _arrays
    for path in npz_files(source.path):
        try:
            arrays = _load(path)
            yield from convert(path.name, arrays, source)
        except Refused as error:
            yield Found(path.name, None, [str(error)])
        except UNUSABLE as error:
            yield Found(path.name, None, [f"cannot be understood: {error}"])


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (*DAMAGE, OSError) as error:
        raise Refused(f"cannot be read: {' '.join(str(error).split()) or type(error).__name__}") from error


def _dreamer(where: str, arrays: dict[str, np.ndarray], source: Source) -> Iterator[Found]:
    """A file of one episode in which actions led to their row's image."""
    remarks: list[str] = []
    keys = {name: source.names.get(name, name) for name in ("image", "action", "reward")}
    if missing := [key for key in keys.values() if key not in arrays]:
        raise Refused(f"has no {listed(missing)} among {listed(arrays)}")
    reward = numbers("reward", arrays[keys["reward"]])
    if reward.ndim != 1 or len(reward) < 2:
        raise Refused(f"reward has shape {reward.shape}: expected at least 2 rows, the reset included")
    length = len(reward)
    action = actions_of(arrays[keys["action"]], source.choices, remarks, first_is_reset=True)
    for name in ("is_first", "discount", "is_terminal", *keys.values()):
        if name in arrays and len(arrays[name]) != length:
            raise Refused(f"{name} has {len(arrays[name])} rows, reward has {length}")
    if action[0].any() or reward[0] != 0:
        raise Refused(
            "its first row has an action or a reward, and in this layout nothing leads to the first image: where "
            "actions follow from the image of their row, --format arrays takes them"
        )
    if "is_first" in arrays and arrays["is_first"][1:].any():
        raise Refused("holds several episodes: is_first is set after the first row")
    episode = whole(
        images_of(arrays[keys["image"]], source.size, remarks), action, reward, _terminal_of(arrays, length)
    )
    others = set(arrays) - set(episode) - set(keys.values())
    for key in sorted(others):
        values = arrays[key]
        if values.dtype.kind == "f" and values.shape == (length,) and key.startswith(INFO):
            episode[key] = values
        elif values.dtype.kind == "f" and values.ndim in (1, 2) and len(values) == length:
            episode[key] = numbers(key, values).reshape(length, -1)
        else:
            remarks.append(f"{key} left out")
    yield Found(where, episode, remarks)


def _terminal_of(arrays: Mapping[str, np.ndarray], length: int) -> bool:
    """Whether an episode of the published layouts ends in a terminal; with neither key, as in PlaNet's, none does."""
    told = {}
    if "discount" in arrays:  # 0 at a terminal; elsewhere 1, or the discount factor itself
        told["discount"] = numbers("discount", arrays["discount"]) == 0
    if "is_terminal" in arrays:
        told["is_terminal"] = numbers("is_terminal", arrays["is_terminal"]) != 0
    for key, values in told.items():
        if values[:-1].any():
            raise Refused(f"{key} says that row {int(values.argmax())} of {length} is terminal, before the last")
    ends = {bool(values[-1]) for values in told.values()}
    if len(ends) > 1:
        raise Refused("discount and is_terminal differ about the last row")
    return ends == {True}


def _arrays(where: str, arrays: dict[str, np.ndarray], source: Source) -> Iterator[Found]:
    """A file of transitions: actions follow from their row's image; terminals and time limits tell episodes apart."""
    found = {name: key for name in NAMES if (key := _key(name, arrays, source.names)) is not None}
    if lacking := [name for name in NAMES if name not in found and name not in OPTIONAL]:
        name = lacking[0]
        raise Refused(f"has no {NAMES[name][0]} among {listed(arrays)}: --{name} KEY says which it is")
    if not all(array.ndim for array in arrays.values()) or not arrays[found["action"]].size:
        raise Refused("holds no transitions: an array is empty, or a single number")
    steps = len(arrays[found["action"]])
    images = arrays[found["image"]]
    closed = len(images) == steps + 1  # with the image that the last action led to
    for name, key in found.items():
        if len(arrays[key]) != steps and not (name == "image" and closed):
            raise Refused(f"{key} has {len(arrays[key])} rows, {found['action']} has {steps}")
    none = np.zeros(steps, bool)
    terminal, timeout = (
        numbers(found[name], arrays[found[name]]).reshape(-1) != 0 if name in found else none
        for name in ("terminal", "timeout")
    )
    if not closed and "terminal" not in found and "timeout" not in found:
        raise Refused(
            f"nothing tells where its episodes end, among {listed(arrays)}: --terminal KEY or --timeout KEY "
            "(or one image more than actions, in a file of one episode)"
        )
    ends = terminal | timeout
    if closed and ends[:-1].any():
        raise Refused(f"has one image more than actions, as a file of one episode, and ends of {int(ends.sum())}")
    begins = [0, *(np.flatnonzero(ends[:-1]) + 1)]
    after = arrays[found["next"]] if "next" in found else None
    for begin, end in zip(begins, [*begins[1:], steps], strict=True):
        name = where if len(begins) == 1 else f"{where} rows {begin}..{end - 1}"
        remarks: list[str] = []
        try:
            if closed:
                seen = images
            elif after is not None:
                seen = np.concatenate([images[begin:end], after[end - 1 : end]])
            else:
                seen = images[begin:end]
                remarks.append("the image after its last action is missing: that action, and any terminal, left out")
            count = len(seen) - 1
            rows = slice(begin, begin + count)
            yield Found(
                name,
                shifted(
                    images_of(seen, source.size, remarks),
                    actions_of(arrays[found["action"]][rows], source.choices, remarks),
                    numbers("reward", arrays[found["reward"]][rows].reshape(-1)),
                    bool(count == end - begin and count and terminal[end - 1]),
                ),
                remarks,
            )
        except Refused as error:
            yield Found(name, None, [str(error)])


def _key(name: str, arrays: Mapping[str, np.ndarray], given: Mapping[str, str]) -> str | None:
    """The key of an array, the user's or the one usual name that is there; None where there is none."""
    if name in given:
        if given[name] not in arrays:
            raise Refused(f"has no {given[name]} among {listed(arrays)}")
        return given[name]
    usual = [key for key in NAMES[name] if key in arrays]
    if len(usual) > 1:
        raise Refused(f"has {listed(usual)}: --{name} KEY says which one it is")
    return usual[0] if usual else None

"""Reading Minari data sets: an HDF5 group for each episode, of one observation more than actions.

h5py reads them, which Keras brings; the package minari is not needed. Images are arrays, or, as Minari writes them
since 0.5.4, JPEG files in the rows of an array.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.replay.convert import UNUSABLE, Found, Refused, Source, actions_of, images_of, listed, numbers, shifted
from dreamer.run import formats

FILE = "main_data.hdf5"  # in the folder data/ of a data set


def read(source: Source) -> Iterator[Found]:
    """A Minari data set that is kept as HDF5, which h5py reads; the package minari is not needed."""
    import h5py

    places = (source.path, source.path / "data" / FILE, source.path / FILE)
    path = next(place for place in places if place.is_file())
    try:
        with h5py.File(path, "r") as file:
            space = _action_space(path)
            names = sorted(
                (name for name in file if name.startswith("episode_")), key=lambda name: int(name.split("_")[1])
            )
            if not names:
                raise Refused(f"has no episodes among {listed(file)}")
            for name in names:
                where = f"{path.name} {name}"
                remarks: list[str] = []
                try:
                    yield Found(where, _minari_episode(file[name], space, source, remarks), remarks)
                except Refused as error:
                    yield Found(where, None, [str(error)])
                except (KeyError, *UNUSABLE) as error:
                    yield Found(where, None, [f"cannot be understood: {error}"])
    except OSError as error:
        yield Found(path.name, None, [f"cannot be read as HDF5: {' '.join(str(error).split())}"])
    except Refused as error:
        yield Found(path.name, None, [str(error)])


def _action_space(path: Path) -> dict[str, Any]:
    """What the data set says of its actions; {} where it says nothing."""
    try:
        described: Any = formats.document(path.parent / "metadata.json")
        space: Any = formats.parse(described["action_space"].encode(), "action_space: ")
        return dict(space)
    except (formats.FormatError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _minari_episode(group: Any, space: Mapping[str, Any], source: Source, remarks: list[str]) -> dict[str, np.ndarray]:
    observations, key = group["observations"], source.names.get("image")
    if hasattr(observations, "keys"):
        pictures = [name for name, values in observations.items() if _shows(values)]
        if key is None and len(pictures) != 1:
            raise Refused(f"{len(pictures)} of its observations {listed(observations)} are images: --image KEY")
        if (key or pictures[0]) not in observations:
            raise Refused(f"has no observation {key} among {listed(observations)}")
        observations = observations[key or pictures[0]]
    actions = np.asarray(group["actions"])
    choices = source.choices or (int(space["n"]) if space.get("type") == "Discrete" else 0)
    if actions.dtype.kind in "iu" and space.get("start"):
        actions = actions - int(space["start"])
    if space.get("type") == "Box" and actions.dtype.kind == "f":
        low, high = (np.asarray(space[name], np.float64) for name in ("low", "high"))
        if not (np.all(low == -1) and np.all(high == 1)):
            if not np.isfinite([low, high]).all():
                raise Refused("its actions have no bounds, and ours are numbers in -1..1")
            actions = (actions - low) / (high - low) * 2 - 1
            remarks.append("actions scaled to -1..1")
    reward = numbers("rewards", np.asarray(group["rewards"]))
    if len(observations) != len(reward) + 1:
        raise Refused(f"has {len(observations)} observations and {len(reward)} rewards: expected one more than those")
    if _are_jpegs(observations):
        seen = np.stack([_decoded(row) for row in observations])
        remarks.append("images decoded from JPEG")
    else:
        seen = np.asarray(observations)
    return shifted(
        images_of(seen, source.size, remarks),
        actions_of(actions, choices, remarks),
        reward,
        bool(np.asarray(group["terminations"])[-1]),
    )


def _shows(values: Any) -> bool:
    """Whether an observation of a Minari data set is images: an array [L, H, W, C], or encoded ones in its rows."""
    return getattr(values, "ndim", 0) == 4 or _are_jpegs(values)


def _are_jpegs(values: Any) -> bool:
    """Whether rows are JPEG files, as Minari writes images since 0.5.4: padded to one length, or each of its own."""
    if getattr(values, "ndim", 0) not in (1, 2) or not len(values):
        return False
    row = values[0]
    return isinstance(row, np.ndarray) and row.dtype == np.uint8 and row[:3].tobytes() == b"\xff\xd8\xff"


def _decoded(row: Any) -> np.ndarray:
    from PIL import Image

    try:
        return np.asarray(Image.open(io.BytesIO(bytes(np.asarray(row, np.uint8)))))
    except OSError as error:
        raise Refused(f"has an image that cannot be decoded: {error}") from error

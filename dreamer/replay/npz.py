"""Reading a few rows of the arrays in an .npz file without reading the rest.

Where an array is stored uncompressed, its rows are one positional read; else it is decoded from its beginning to them.
"""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from typing import IO, Any, BinaryIO, NamedTuple

import numpy as np

# What a broken .npz file can raise while it is read; trouble of the system (EIO, EMFILE) is not among them.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    ValueError,
    OverflowError,
    NotImplementedError,  # unknown compression
    RuntimeError,  # encrypted
    tokenize.TokenError,  # NumPy takes an unreadable array header for one that Python 2 wrote
    SyntaxError,
)


class Member(NamedTuple):
    """One array inside an .npz file; offset: bytes before row 0, or None where rows cannot be read in place."""

    shape: tuple
    dtype: np.dtype
    offset: int | None


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read an .npy header -> shape, Fortran order, dtype; leaves the file at the first row."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"array format {version} is not plain numbers")


def read_layout(file: BinaryIO, keys: Iterable[str]) -> dict[str, Member]:
    """Find the arrays `keys` in an open .npz file; raises one of DAMAGE for a broken file."""
    layout = {}
    with zipfile.ZipFile(file) as archive:
        for key in keys:
            info = archive.getinfo(f"{key}.npy")
            with archive.open(info) as member:
                shape, fortran, dtype = _read_header(member)
                header = member.tell()
            if info.file_size != header + math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{key} does not have the size that it claims")
            offset = None
            if info.compress_type == zipfile.ZIP_STORED and not fortran:
                # The local header may be longer than the central one says (np.savez pads it), so ask the file.
                file.seek(info.header_offset)
                name_size, extra_size = struct.unpack("<26x2H", file.read(30))
                offset = info.header_offset + 30 + name_size + extra_size + header
            layout[key] = Member(shape, dtype, offset)
    return layout


def _fill(file: Any, buffer: np.ndarray) -> None:
    """Read exactly the bytes of a C-contiguous array; short reads happen above 2 GB and at the end of a cut file."""
    view = buffer.reshape(-1).view(np.uint8).data
    while view:
        count = file.readinto(view)
        if not count:
            raise EOFError("it ends early")
        view = view[count:]


def read_rows(file: BinaryIO, key: str, member: Member, start: int, out: np.ndarray) -> None:
    """Fill out [count, ...] with rows start..start+count of one array of an open .npz file; raises one of DAMAGE."""
    rows = out if out.dtype == member.dtype else np.empty(out.shape, member.dtype)
    first_byte = start * math.prod(member.shape[1:]) * member.dtype.itemsize
    if member.offset is not None:
        file.seek(member.offset + first_byte)
        _fill(file, rows)
    else:
        with zipfile.ZipFile(file) as archive, archive.open(f"{key}.npy") as decoded:
            if _read_header(decoded)[1]:  # Fortran order: its rows are scattered over the whole member
                whole = np.frombuffer(decoded.read(), member.dtype).reshape(member.shape, order="F")
                rows[...] = whole[start : start + len(out)]
            else:
                decoded.seek(first_byte, os.SEEK_CUR)
                _fill(decoded, rows)
    if rows is not out:
        out[...] = rows

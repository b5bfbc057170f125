"""Reading a few rows of the arrays in an .npz file without reading the rest.

Where an array is stored uncompressed, its rows are read where they lie; else it is decoded from its beginning to them.
Files of one writer with arrays of the same shapes are alike but for the rows and their checksums, so that whoever has
found the arrays in one of them knows where they are in all:

    head   what the zip says of the array (its name, checksum, sizes), then the .npy header (dtype, shape)
    file   | head | rows of image | head | rows of action | ... | the zip's directory |
"""

import contextlib
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
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


_CRC = slice(14, 18)  # of the rows, in the head that a zip sets before each array
_SMALL = 16384  # bytes that are as quickly read as a part of them


class Member(NamedTuple):
    """One array inside an .npz file; offset: bytes before row 0, or None where rows cannot be read in place.

    head: the bytes that stand before row 0, see above; empty where there is no offset.
    """

    shape: tuple
    dtype: np.dtype
    offset: int | None
    head: bytes = b""


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
            layout[key] = Member(shape, dtype, None)
            if info.compress_type == zipfile.ZIP_STORED and not fortran:
                # The local header may be longer than the central one says (np.savez pads it), so ask the file.
                file.seek(info.header_offset)
                name_size, extra_size = struct.unpack("<26x2H", file.read(30))
                head = np.empty(30 + name_size + extra_size + header, np.uint8)
                file.seek(info.header_offset)
                _fill(file, head)
                layout[key] = Member(shape, dtype, info.header_offset + len(head), head.tobytes())
    return layout


def read_rows(file: BinaryIO, layout: Mapping[str, Member], start: int, out: Mapping[str, np.ndarray]) -> None:
    """Fill each array [count, ...] of out with rows start..start+count of an open .npz file; raises one of DAMAGE.

    layout: what `read_layout` has found in this file.
    """
    with contextlib.ExitStack() as opened:
        archive: zipfile.ZipFile | None = None
        for key, wanted in out.items():
            member = layout[key]
            rows = wanted if wanted.dtype == member.dtype else np.empty(wanted.shape, member.dtype)
            if member.offset is not None:
                file.seek(member.offset + start * _row_size(member))
                _fill(file, rows)
            else:
                archive = archive or opened.enter_context(zipfile.ZipFile(file))
                _decode(archive, key, member, start, rows)
            if rows is not wanted:
                wanted[...] = rows


class Alike:
    """Reads rows of files that are alike, by the layout that was found in one of them.

    One that is not is noticed at every read, by the head of each array. Arrays that follow on each other and are small
    together are read whole: a short episode then is one call of the system, which is most of what reading it takes.
    """

    def __init__(self, layout: Mapping[str, Member]):
        """layout: of `read_layout`, with an offset of every array."""
        self.keys = layout.keys()
        self._blocks: list[_Block] = []
        for key, member in sorted(layout.items(), key=lambda item: item[1].offset or 0):
            assert member.offset is not None
            place = _Place(
                key, member, member.offset, _row_size(member), member.head[: _CRC.start], member.head[_CRC.stop :]
            )
            begin, end = member.offset - len(member.head), member.offset + place.row_size * member.shape[0]
            last = self._blocks[-1] if self._blocks else None
            if last and last.end <= begin and end - last.begin <= _SMALL:
                self._blocks[-1] = last._replace(end=end, places=[*last.places, place])
            else:
                self._blocks.append(_Block(begin, end, [place]))

    def read(self, descriptor: int, start: int, out: Mapping[str, np.ndarray]) -> bool:
        """Fill each array [count, ...] of out, one for every key, with rows start..start+count of an open file.

        Returns whether the file is like the one of the layout. Else, and where its rows are not of the shapes and
        dtypes asked for, or are not all there, what is in `out` means nothing.
        """
        reads: list[tuple[int, Any]] = []
        heads, copies = [], []
        for begin, end, places in self._blocks:
            size = end - begin
            if size <= _SMALL:
                whole = bytearray(size)
                reads.append((begin, whole))
                for key, (shape, dtype, _, _), offset, _, first, rest in places:
                    rows = out[key]
                    stored = np.ndarray(shape, dtype, whole, offset - begin)[start : start + len(rows)]
                    if rows.dtype != dtype or rows.shape != stored.shape:
                        return False
                    heads.append((whole, offset - begin, first, rest))
                    copies.append((rows, stored))
            else:
                for key, (shape, dtype, _, _), offset, row_size, first, rest in places:
                    rows, head = out[key], bytearray(offset - begin)
                    if rows.dtype != dtype or rows.shape[1:] != shape[1:] or start + len(rows) > shape[0]:
                        return False
                    heads.append((head, offset - begin, first, rest))
                    reads.append((begin, head))
                    reads.append((offset + start * row_size, rows.data.cast("B")))
        if start < 0 or not _read(descriptor, reads):
            return False
        for head, end, first, rest in heads:
            at = end - len(rest)
            if head[at:end] != rest or not head.startswith(first, at - _CRC.stop):
                return False
        for rows, stored in copies:
            rows[...] = stored
        return True


class _Place(NamedTuple):
    """Of one array: where its rows begin, the bytes of each, and its head before and after the checksum."""

    key: str
    member: Member
    offset: int
    row_size: int
    first: bytes
    rest: bytes


class _Block(NamedTuple):
    """Arrays that follow on each other in a file: the bytes from the first one's head to the last one's end."""

    begin: int
    end: int
    places: list[_Place]


def _read(descriptor: int, reads: list[tuple[int, Any]]) -> bool:
    """Fill buffers from a file, each from its offset on, neighbours in one call; whether there were enough bytes."""
    begin = end = reads[0][0]
    buffers: list[Any] = []
    for offset, buffer in reads:
        if offset != end:
            # A read of more than 2 GB comes back short: whoever asks for that much at once reads in another way.
            if os.preadv(descriptor, buffers, begin) != end - begin:
                return False
            begin, buffers = offset, []
        buffers.append(buffer)
        end = offset + len(buffer)
    return os.preadv(descriptor, buffers, begin) == end - begin


def _row_size(member: Member) -> int:
    return math.prod(member.shape[1:]) * member.dtype.itemsize


def _decode(archive: zipfile.ZipFile, key: str, member: Member, start: int, rows: np.ndarray) -> None:
    """Fill rows from an array that has to be decoded from its beginning."""
    with archive.open(f"{key}.npy") as decoded:
        if _read_header(decoded)[1]:  # Fortran order: its rows are scattered over the whole member
            whole = np.frombuffer(decoded.read(), member.dtype).reshape(member.shape, order="F")
            rows[...] = whole[start : start + len(rows)]
        else:
            decoded.seek(start * _row_size(member), os.SEEK_CUR)
            _fill(decoded, rows)


def _fill(file: Any, buffer: np.ndarray) -> None:
    """Read exactly the bytes of a C-contiguous array; short reads happen above 2 GB and at the end of a cut file."""
    view = buffer.reshape(-1).view(np.uint8).data
    while view:
        count = file.readinto(view)
        if not count:
            raise EOFError("it ends early")
        view = view[count:]

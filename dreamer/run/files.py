"""Writing files so that neither a reader nor a crash nor a power cut ever meets half of one."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; when the block ends well it takes the place of `path`.

    The block writes the temporary file; its bytes reach the disk before the rename, the rename before the return. If
    the block raises, `path` keeps its old content and the temporary file is removed. Missing parent directories are
    made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path`; when the block ends well it takes the place of `path` and all in it.

    If the block raises, `path` stays as it was. Missing parent directories are made. A link stays, and what it points
    to is replaced. Raises OSError for a directory that something is mounted on, and for the working directory, which
    whoever stands in it would lose.
    """
    for held, what in ((os.path.ismount(path), "mounted"), (path.exists() and path.samefile("."), "working")):
        if held:
            raise OSError(errno.EBUSY, f"a {what} directory cannot be replaced, name one inside it", str(path))
    path = Path(os.path.realpath(path))
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{what}") for what in ("tmp", "old"))
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
    finally:
        discard(old)
        discard(temporary)


def sync(path: Path) -> None:
    """Bring a file's bytes, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def discard(folder: Path) -> None:
    """Remove a directory and all that is in it, what is gone already left out.

    What cannot be removed stays: whoever discards has an error of its own to tell, or nothing that depends on it.
    """
    shutil.rmtree(folder, ignore_errors=True)

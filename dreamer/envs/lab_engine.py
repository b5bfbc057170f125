"""Files around DeepMind Lab's engine: the levels that its module brings, compiled maps, and its temporary folders.

None of them may end a run: a map that cannot be kept or read is compiled anew, and what a killed process has left is
removed by the next one.
"""

import contextlib
import ctypes
import errno
import fcntl
import importlib.util
import os
import shutil
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from dreamer.envs.core import EnvError

MODULE = "deepmind_lab"
# Where a wheel of the module keeps its level scripts, below its package; the folder's name depends on who built it.
_LEVELS = ("baselab/game_scripts/levels", "*/baselab/game_scripts/levels")
_NO_LEVELS = "factories"  # parts of levels, which cannot be started alone
# What the engine needs beside the module: shared libraries and programs, and the Debian packages that have them.
_LIBRARIES = {"libSDL2-2.0.so.0": "libsdl2-2.0-0", "libOSMesa.so.8": "libosmesa6"}
_PROGRAMS = {"zip": "zip"}
PACKAGES = (*_LIBRARIES.values(), *_PROGRAMS.values())

_PREFIX = "dreamer_lab_"
_STALE = 3600.0  # seconds after which nobody writes a partial map any more
# The folder cannot be one, whatever comes: for whoever named it. All else may be over tomorrow.
_WRONG_FOLDER = (errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)


def levels() -> frozenset[str] | None:
    """Full names of the levels that the installed module brings; None where it cannot be told. Imports nothing."""
    try:
        found = importlib.util.find_spec(MODULE)
        places = [*(found.submodule_search_locations or ())] if found else []
    except (ImportError, ValueError, AttributeError):
        return None
    folders = [folder for place in places for pattern in _LEVELS for folder in Path(place).glob(pattern)]
    scripts = [path.relative_to(folder) for folder in folders for path in folder.rglob("*.lua")]
    names = frozenset(path.with_suffix("").as_posix() for path in scripts if _NO_LEVELS not in path.parts)
    return names or None


def lacking(told: str) -> str:
    """What explains an error of the module on this machine, in words and with the Debian packages; "" for nothing.

    told: the module's words. It names no cause: without a library it "failed to connect", without `zip` "to compile
    map".
    """
    absent = {}
    if "connect" in told:
        absent = {library: package for library, package in _LIBRARIES.items() if not _loads(library)}
    elif "map" in told:
        absent = {f"the program {name}": package for name, package in _PROGRAMS.items() if not shutil.which(name)}
    return f"{' and '.join(absent)} missing here, apt-get install {' '.join(absent.values())}" if absent else ""


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


class LevelCache:
    """Compiled maps in a folder, in the form that the module asks for: fetch(key, path) and write(key, path).

    Several processes may share it. Whatever happens to the folder once it is there, neither method raises: an error in
    them would end the episode, and the map can be compiled.
    """

    def __init__(self, folder: Path):
        """Raises EnvError for what cannot be a folder of one's own."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in _WRONG_FOLDER:
                raise EnvError(f"level_cache {folder} cannot be used as a folder: {error.strerror}") from error
            self._tell("is not to be had", error)
        with contextlib.suppress(OSError):
            for partial in folder.glob(".*.partial"):  # of processes that were killed
                if partial.stat().st_mtime < time.time() - _STALE:
                    partial.unlink()

    def fetch(self, key: str, pk3_path: str) -> bool:
        """Copy the map of a key to a path; False, and nothing at the path, if there is none that is whole."""
        try:
            shutil.copyfile(self._folder / key, pk3_path)
            with zipfile.ZipFile(pk3_path) as archive:
                damaged = archive.testzip()
            if damaged is None:
                return True
            self._tell(f"has a damaged map {key}", damaged)
        except FileNotFoundError:
            return False
        except Exception as error:  # half an archive raises what the place of the damage makes it raise
            self._tell(f"has no map {key} that can be read", error)
        # `zip` adds to an archive that is there, and fails at half of one.
        with contextlib.suppress(OSError):
            os.unlink(pk3_path)
        return False

    def write(self, key: str, pk3_path: str) -> None:
        """Keep a compiled map. Another process sees it whole or not at all."""
        partial = self._folder / f".{key}.{os.getpid()}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pk3_path, partial)
            os.replace(partial, self._folder / key)
        except OSError as error:
            self._tell(f"does not take the map {key}", error)
            with contextlib.suppress(OSError):
                partial.unlink()

    def _tell(self, what: str, why: object) -> None:
        """Say it where the output of the environment's process goes, which every error of it shows."""
        print(f"level_cache {self._folder} {what}: {why}", file=sys.stderr, flush=True)


class TemporaryFolder:
    """A folder for the engine's files, some megabytes, which is gone when it is closed.

    Where a process is killed its folder stays, with a lock that has ended with the process: the next one that is made
    removes it.
    """

    def __init__(self) -> None:
        root = Path(tempfile.gettempdir())
        for folder in root.glob(f"{_PREFIX}*"):
            _remove_abandoned(folder)
        while True:
            self.path = tempfile.mkdtemp(prefix=_PREFIX)
            with contextlib.suppress(OSError):  # another process has taken it for an abandoned one
                self._lock = _locked(self.path)
                if os.path.samestat(os.fstat(self._lock), os.stat(self.path)):
                    return
                os.close(self._lock)

    def close(self) -> None:
        """Remove it and all that is in it; once."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is in use, somebody else's, or gone
        lock = _locked(folder)
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _locked(folder: str | Path) -> int:
    """A descriptor of the folder that holds its lock. Raises OSError where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor

"""Who holds a log directory: one process at a time, of one machine or of several that share a file system.

The holder has a lock of the system (flock) on the file `.lock`, which ends with its process, however that ends. Between
machines it may reach too little (some network file systems keep it to one machine) or too much (NFS may keep the lock
of a machine that is gone). So the file names its holder, who touches it every BEAT seconds:

    lock   the file names          who wants it ...
    free   nobody, this machine    has it
    free   another machine         has it after SILENCE seconds without a touch, and is refused if there is one
    held   this machine            is refused: the process that holds it is alive
    held   another machine         as with a free one, but puts a new file in the place of the old one

A machine that was suspended, or cut off for so long, may come back after that: its process finds another name in the
file and ends at once, because the run is no longer its own.
"""

import contextlib
import fcntl
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from dreamer.run import formats, layout

IN_USE = os.EX_TEMPFAIL  # 75, exit code of a command that another process keeps from its log directory
BEAT, SILENCE = 5.0, 60.0  # seconds
SETTLING = 1.0  # seconds in which a second one, who began to wait in the same moment, may have taken the place
# So often a lock is asked for, with so many seconds between: who only looks at it holds it too, briefly.
LOOKS, LOOK = 5, 0.02
_LINE_BYTES = 1000


class Holder(NamedTuple):
    """Who holds a log directory, as its lock tells; silent: seconds since it was touched, by this machine's clock.

    held: whether the lock is, of a process of this machine, for which that is the truth; None where it cannot be asked.
    """

    host: str
    pid: int
    silent: float
    held: bool | None

    @property
    def is_alive(self) -> bool:
        """Whether it is there, or elsewhere was heard of lately; to look at, not to build on: clocks differ."""
        return self.silent < 4 * BEAT if self.held is None else self.held


@contextlib.contextmanager
def exclusive(logdir: Path, report: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Hold `logdir` for this process, until the block or the process ends. BlockingIOError if another one holds it.

    The directory is made if it does not exist, and taken away again if nothing was written into it. report: takes a
    line before a wait for a holder on another machine that may be gone.
    """
    made = [folder for folder in (logdir, *logdir.parents) if not folder.exists()]
    logdir.mkdir(parents=True, exist_ok=True)
    path, mine = logdir / layout.LOCK, f"{_machine()} {socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
    with contextlib.ExitStack() as resources:
        file = _claim(path, mine, report, resources)
        left = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, file, mine, left), daemon=True, name="lock")
        beat.start()
        try:
            yield
        finally:
            left.set()
            beat.join()
            with contextlib.suppress(OSError):  # a file system that is away must not hide why the block ended
                file.truncate(0)  # names nobody, so that the next one need not wait
            if os.listdir(logdir) == [layout.LOCK]:
                path.unlink()
                for folder in made:
                    with contextlib.suppress(OSError):  # another run may have begun beside this one
                        folder.rmdir()


def holder(logdir: Path) -> Holder | None:
    """Who holds a log directory or held it until its machine failed; None where it was left in order."""
    try:
        line, touched = _read(logdir / layout.LOCK)
        machine, host, pid, _ = line.split()
        held = _is_held(logdir / layout.LOCK) if machine == _machine() else None
        return Holder(host, int(pid), max(0.0, time.time() - touched), held)
    except (OSError, ValueError):  # no lock, or one of a release whose locks name nobody
        return None


def _claim(path: Path, mine: str, report: Callable[[str], None], resources: contextlib.ExitStack) -> IO[str]:
    """The file at `path`, open and locked until `resources` close, with the name of this process in it."""
    file = resources.enter_context(_open(path))
    free = _lock(file)
    while not _is_at(file, path):  # whoever held it has just left and removed it
        file = resources.enter_context(_open(path))
        free = _lock(file)
    line, touched = _read(path)
    elsewhere = bool(line) and line.split()[0] != _machine()
    if not free and not elsewhere:
        raise _in_use(path)
    if elsewhere:
        _wait_for_a_sign_of_life(path, line, touched, report)
    if free:
        _write(file, mine)
    else:
        file = resources.enter_context(_replacing(path, mine))
    if elsewhere:
        time.sleep(SETTLING)
        if _read(path)[0] != mine:
            raise _in_use(path)
        report(f"There was none: {path.parent} is taken over.")
    return file


def _wait_for_a_sign_of_life(path: Path, line: str, touched: float, report: Callable[[str], None]) -> None:
    """Return after SILENCE seconds in which the file at `path` stays as it is; BlockingIOError if it does not."""
    report(f"{path.parent} is held by {_host(line)}: waiting {SILENCE:.0f} seconds for a sign of life.")
    until = time.monotonic() + SILENCE
    while time.monotonic() < until:
        time.sleep(BEAT / 5)
        if _read(path) != (line, touched):
            raise _in_use(path)


def _beat(path: Path, file: IO[str], mine: str, left: threading.Event) -> None:
    """Show that this process lives, until it leaves; end it where another has taken its place."""
    while not left.wait(BEAT):
        with contextlib.suppress(OSError):  # a network file system that is away for a while
            line, _ = _read(path)
            if line not in ("", mine):
                text = f"{path.parent} was taken over by {_host(line)}, which had not heard of this process for long"
                os.write(2, f"dreamer: {formats.one_line(text)}\n".encode())
                os._exit(IN_USE)
            if not line:  # older releases empty it when they look
                _write(file, mine)
            os.utime(file.fileno())


def _in_use(path: Path) -> BlockingIOError:
    return BlockingIOError(f"{path.parent} is in use by another process: wait for it or use another --logdir")


def _open(path: Path) -> IO[str]:
    return open(path, "a+", encoding="utf-8")


def _lock(file: IO[str]) -> bool:
    for _ in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # by its holder, or by somebody who looks whether it is held and is gone at once
            time.sleep(LOOK)
        else:
            return True
    return False


def _is_held(path: Path) -> bool | None:
    with open(path, encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return None
    return False


def _is_at(file: IO[str], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    return False


def _replacing(path: Path, mine: str) -> IO[str]:
    """A locked file of our own in the place of one whose lock nobody will ever give back."""
    own = path.with_name(f"{path.name}.{mine.split()[-1]}")
    file = _open(own)
    _lock(file)
    _write(file, mine)
    os.replace(own, path)
    return file


def _write(file: IO[str], line: str) -> None:
    file.truncate(0)
    file.write(line)
    file.flush()


def _read(path: Path) -> tuple[str, float]:
    """What the file says, and when it was touched. Opened each time: that asks a server, where stat may remember."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(_LINE_BYTES).strip(), os.fstat(file.fileno()).st_mtime


def _host(line: str) -> str:
    """The name of a holder's machine, for a message."""
    return formats.one_line(" ".join(line.split()[1:2])) or "another machine"


def _machine() -> str:
    """Tells this machine, since it was started, from all others; its containers share its kernel, and so its locks."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return socket.gethostname()

"""An environment in a process of its own, started fresh and never importing TensorFlow.

The child is a new interpreter, neither a fork (OpenGL does not survive one) nor multiprocessing's spawn (which imports
the parent's main module, and TensorFlow with it). Parent and child talk over a socket pair that only they hold, in
pickles: a constructor can travel in no other form, and none of them ever comes from a file or goes to one.

    parent                                    child
    (constructor, keyword arguments)   ->     builds the environment
                                       <-     ("ok", spaces and other attributes, goes_on)
    (method, arguments)                ->     calls it
                                       <-     ("ok", result, goes_on), ("error", message, traceback, printed)
                                              or ("refused", message)
    end of file                        ->     closes the environment and leaves
"""

import fcntl
import os
import pickle
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.envs.core import Env, EnvError, EnvRefused, PrintedError
from dreamer.types import ActionSpace, Space

# Output of the child that is kept for error messages: bytes shown where it died, and beside an error of its own; bytes
# on disk at which it starts afresh.
_TAIL, _CAUSE = 4000, 600
_OUTPUT_LIMIT = 1_000_000
# Seconds that an orderly exit may take before the child is killed.
_EXIT_LIMIT = 5.0


class WorkerDied(EnvError):
    """The process of an environment is gone: by a crash, by a signal from outside, or ended because it hung."""


class RemoteTraceback(Exception):
    """The traceback of an exception inside the child, as text; the cause of the EnvError that the parent raises."""

    def __str__(self) -> str:
        return f"in the process of the environment:\n{self.args[0]}"


class Worker:
    """The environment `constructor(**kwargs)` in a process of its own; the same interface as Env.

    constructor: importable by name, so that the child can import it too; it finds modules where the parent does.
    kwargs: its keyword arguments, anything that pickles.
    variables: environment variables of the child beside the parent's, set before anything is imported.
    timeout: seconds that a reply may take. An environment answers within milliseconds to seconds, so the limit tells
        one that hangs from a machine that is merely busy.
    start_timeout: those that its start may take; 0 for as many.

    What the child prints is not shown; its end is part of the error where it died or hangs, or where it says that the
    cause was printed (PrintedError). The child ignores SIGINT, SIGTERM and
    SIGHUP, which a terminal, a job system or `timeout` may send to the whole process group: the parent decides what
    they mean. It leaves when the parent closes it or dies, in whatever way.
    Raises EnvError when the environment raises (the cause holds its traceback), EnvRefused where it does, WorkerDied
    when its process is gone or did not reply in time.
    """

    def __init__(
        self,
        constructor: Callable[..., Env],
        kwargs: Mapping,
        *,
        variables: Mapping[str, str] | None = None,
        timeout: float = 300.0,
        start_timeout: float = 0.0,
    ):
        self._name = f"{constructor.__name__}({', '.join(f'{key}={value!r}' for key, value in kwargs.items())})"
        self._timeout = timeout
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the worker)
        # Appending, so that the file can be cut off while the child writes to it.
        fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", "-c", _MAIN, str(theirs.fileno()), str(os.getpid())],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    **(variables or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())
        self._open = True
        self._waiting = ""  # for the reply to this method
        self.goes_on = False  # see Env; as it was after the last reply
        try:
            self._send("start", pickle.dumps((constructor, dict(kwargs))))
            spaces, action_space, action_repeat, whole_games, note, infos = self._receive(start_timeout or timeout)
        except BaseException:
            self.close()
            raise
        self.observation_spaces: dict[str, Space] = spaces
        self.action_space: ActionSpace = action_space
        self.action_repeat: int = action_repeat
        self.whole_games: bool = whole_games
        self.note: str = note
        self.infos: tuple[str, ...] = infos

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset."""
        self.send("reset", seed)
        return self.receive()

    def step(self, action: np.ndarray) -> dict:
        """See Env.step."""
        self.send("step", action)
        return self.receive()

    def send(self, method: str, argument: Any) -> None:
        """Ask for `reset` or `step` without waiting for the result, which `receive` returns."""
        if method == "reset" and self._open and os.fstat(self._output.fileno()).st_size > _OUTPUT_LIMIT:
            os.ftruncate(self._output.fileno(), 0)
        self._send(method, pickle.dumps((method, (argument,))))

    def receive(self) -> Any:
        """The result of what was asked for last. Raises EnvError, WorkerDied."""
        return self._receive(self._timeout)

    def _receive(self, timeout: float) -> Any:
        what = self._waiting
        try:
            if not self._connection.poll(timeout):
                message = f"{self._name} did not reply to {what} within {timeout:g} seconds{self._tail()}"
                self.close()
                raise WorkerDied(message)
            reply = pickle.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise self._died(what) from None
        self._waiting = ""
        if reply[0] == "refused":
            raise EnvRefused(reply[1])
        if reply[0] == "error":
            _, message, remote_traceback, printed = reply
            message = f"{self._name} failed in {what}: {message}{self._tail(_CAUSE) if printed else ''}"
            raise EnvError(message) from RemoteTraceback(remote_traceback)
        _, result, self.goes_on = reply
        return result

    def close(self) -> None:
        """End the child: in order where it is waiting for a request, by SIGKILL where it is busy or hangs."""
        if not self._open:
            return
        self._open = False
        if self._waiting:
            self._process.kill()
        self._connection.close()
        try:
            self._process.wait(_EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    def _send(self, what: str, request: bytes) -> None:
        if not self._open:
            raise EnvError(f"{what} after close(): {self._name} is gone")
        if self._waiting:
            raise EnvError(f"{what} after a call that was interrupted: close {self._name} and make a new one")
        self._waiting = what
        try:
            self._connection.send_bytes(request)
        except (EOFError, ConnectionError):
            raise self._died(what) from None

    def _died(self, what: str) -> WorkerDied:
        """Return the error for a child whose end of the connection is closed, and clean up after it."""
        try:
            code = self._process.wait(_EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            cause = "closed its connection"
        else:
            cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error = WorkerDied(f"the process of {self._name} {cause} during {what}{self._tail()}")
        self.close()
        return error

    def _tail(self, most: int = _TAIL) -> str:
        """Return the end of what the child printed, introduced for an error message; empty if it printed nothing."""
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), most, max(0, size - most)).decode(errors="replace").strip()
        return f"; the end of its output:\n{text}" if text else ""


_MAIN = f"import sys; from {__name__} import main; main(int(sys.argv[1]), parent=int(sys.argv[2]))"


def main(descriptor: int, parent: int) -> None:
    """Serve one environment over an inherited socket until the parent closes it; the child process runs this.

    It never returns: the exit handlers of dm_control's OSMesa platform print a traceback that means nothing.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    try:
        with Connection(descriptor) as connection:
            _serve(connection)
    except (EOFError, ConnectionError):
        # The parent has closed its end, or died.
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def _serve(connection: Connection) -> None:
    """Build the environment that the first request describes, answer the others, close it when they end."""
    env = None
    try:
        while True:
            request = connection.recv_bytes()
            try:
                if env is None:
                    constructor, kwargs = pickle.loads(request)
                    env = constructor(**kwargs)
                    spaces = env.observation_spaces, env.action_space, env.action_repeat
                    told = getattr(env, "whole_games", True), getattr(env, "note", ""), getattr(env, "infos", ())
                    result = *spaces, *told
                else:
                    method, arguments = pickle.loads(request)
                    result = getattr(env, method)(*arguments)
                reply: tuple = ("ok", result, bool(getattr(env, "goes_on", False)))
            except EnvRefused as error:
                reply = ("refused", _describe(error))
            except Exception as error:
                reply = ("error", _describe(error), traceback.format_exc(), isinstance(error, PrintedError))
            connection.send(reply)
    finally:
        if env is not None:
            env.close()


def _describe(error: Exception) -> str:
    """An exception on one line, with the place where an environment from outside of this project raised it."""
    message = " ".join(str(error).split())
    if isinstance(error, EnvError):
        return message
    message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    # Libraries do what they were told to: of interest is the line that told them.
    libraries: tuple[Any, ...] = (*map(sysconfig.get_path, ("stdlib", "purelib", "platlib")), Path(__file__).parents[1])
    places = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<")
        and not any(Path(frame.filename).is_relative_to(library) for library in libraries)
    ]
    return f"{message} ({places[-1].filename}, line {places[-1].lineno})" if places else message


def _leave_with(parent: int) -> None:
    """End this process when its parent is gone, even in the middle of a step that never returns."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)

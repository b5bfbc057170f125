"""The command `dreamer`: finds the command, and turns what it raises into one line and an exit code."""

import errno
import io
import os
import sys
from collections.abc import Callable

from dreamer import DISTRIBUTION, __version__, envs, stops
from dreamer.cli import about, export, importing, inspect, learn, show, status, sweep, train
from dreamer.cli.arguments import UNUSABLE, HelpShown, UsageError, is_named
from dreamer.cli.output import fail, say, silence
from dreamer.config import ConfigError
from dreamer.near import nearest
from dreamer.run import formats, settings

HELP = """\
usage: dreamer [COMMAND] ...

  dreamer --configs dmc --task walker_walk     train; `train` may be left out

commands:
{commands}

  dreamer COMMAND --help                       what a command takes
  dreamer --version                            the version"""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad input, 75 in use, 128 + n stopped by signal n."""
    words = list(sys.argv[1:] if argv is None else argv)
    _open_streams()
    try:
        with stops.Stops() as active:
            return _dispatch(words, active)
    except HelpShown:
        return 0
    except (UsageError, ConfigError, settings.SettingsError) as error:
        return fail(error, 2)
    except stops.Stopped as error:
        return fail(f"stopped by {error}", error.code)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("dreamer"):
            raise
        how = f"`make setup` or pip install {DISTRIBUTION} installs it, see `dreamer doctor`"
        return fail(f"the package {error.name} is not installed: {how}", 1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(f"no space left on the disk: {error.filename or error.strerror}", 1)
        if isinstance(error, BrokenPipeError):
            silence()
            return fail("whoever read what this prints has left", 1)
        if error.errno in UNUSABLE and is_named(error.filename, words):
            return fail(f"{formats.shown(error.filename)}: {error.strerror}", 2)
        raise


def _open_streams() -> None:
    """Let everything be printed: to nobody where a daemon has closed a stream, and whatever letters a terminal lacks.

    The number of a closed stream would be that of the next file that is opened.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115  # for as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(words: list[str], active: stops.Stops) -> int:
    if words[:1] in ([], ["--help"], ["-h"], ["help"]):
        return say(HELP.format(commands="\n".join(f"  {name:<9}{text}" for name, (_, text) in COMMANDS.items())))
    if words[:1] == ["--version"]:
        return say(f"dreamer {__version__}")
    if words[0].startswith("-"):
        words = ["train", *words]
    name, *words = words
    if name not in COMMANDS:
        near = "".join(f"did you mean {command!r}? " for command in nearest(name, COMMANDS)[:1])
        near = f"did you mean --task {name}? " if any(name in suite.tasks for suite in envs.SUITES.values()) else near
        raise UsageError(f"unknown command {name[:60]!r}: {near}There are {', '.join(COMMANDS)}")
    if name in WITH_STOPS:
        return WITH_STOPS[name](words, active)
    return COMMANDS[name][0](words)


COMMANDS: dict[str, tuple[Callable[..., int], str]] = {
    "train": (train.train, "Train an agent, or go on with a run (the default)."),
    "learn": (learn.learn, "Train from stored episodes, with no environment."),
    "import": (importing.import_episodes, "Take episodes of other layouts into ours."),
    "sweep": (sweep.sweep, "Train many runs: tasks, seeds and settings."),
    "status": (status.status, "Tell how far runs are."),
    "eval": (inspect.evaluate, "Play episodes with the agent of a run and print their returns."),
    "imagine": (inspect.imagine, "Show what the world model of a run predicts."),
    "export": (export.export, "Write the agent of a run: its policy as a SavedModel, or a run without its episodes."),
    "configs": (about.configs, "List every key and overlay."),
    "tasks": (about.tasks, "List the tasks of every suite."),
    "doctor": (about.doctor, "Tell what this machine offers and what is missing."),
    "scores": (show.scores, "Print the returns of runs beside the published ones."),
    "plot": (show.plot, "Draw learning curves of runs."),
    "report": (show.report, "Write one page about runs: scores, curves, videos, settings, time."),
}
# Those that save before they end, or have others do so.
WITH_STOPS: dict[str, Callable[[list[str], stops.Stops], int]] = {
    "train": train.train,
    "learn": learn.learn,
    "sweep": sweep.sweep,
}

"""What command lines are made of: parsers whose errors are one line, and the kinds of values that they take."""

import argparse
import errno
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from dreamer.cli.output import say
from dreamer.near import nearest
from dreamer.run import formats
from dreamer.start import UsageError

# What the system says about a path that the user has no way to, rather than about a fault of the program.
UNUSABLE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EBUSY),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
# An option of one value or more, which add up where it is given again.
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}
PATH_BYTES, NAME_BYTES = 4095, 255  # what Linux and its file systems take


class Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and leave."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        what, _, words = message.partition(": --")
        near = nearest(words.split("=")[0].split(" ")[0], self._options()) if what == "unrecognized arguments" else []
        hint = f": did you mean --{near[0]}?" if near else f" (see `{self.prog} --help`)"
        raise UsageError(f"{message}{hint}")

    def tell_replaced(self, words: list[str]) -> None:
        """See the function of this name, of the options of one value among the words that were parsed."""
        words = words[: words.index("--")] if "--" in words else words
        single = {name for action in self._actions if action.nargs is None for name in action.option_strings}
        parts = [(*word.partition("="), after) for word, after in zip(words, [*words, ""][1:], strict=True)]
        tell_replaced((name, value if equals else after) for name, equals, value, after in parts if name in single)

    def _options(self) -> list[str]:
        return [option.removeprefix("--") for action in self._actions for option in action.option_strings]


def tell_replaced(given: Iterable[tuple[str, str]]) -> None:
    """Say of each option that was given several values which one counts: the last words of a script may be meant to.

    given: (option, value) in their order.
    """
    values: dict[str, list[str]] = {}
    for option, value in given:
        values.setdefault(option, []).append(value)
    for option, all_of_it in values.items():
        if len(set(all_of_it)) > 1:
            option, last = formats.one_line(option)[:60], formats.one_line(all_of_it[-1])[:60]
            print(f"dreamer: {option} is given more than once: {last} counts", file=sys.stderr, flush=True)


def make_parser(command: str, description: str) -> Parser:
    """The parser of `dreamer COMMAND`."""
    return Parser(prog=f"dreamer {command}", description=description, allow_abbrev=False)


class HelpShown(Exception):
    """The words asked for the help, which is printed; there is nothing more to do."""


def parse(parser: Parser, words: list[str]) -> argparse.Namespace:
    """What the words say. Raises UsageError; HelpShown where they ask for the help."""
    if "--help" in words or "-h" in words:
        say(parser.format_help().rstrip())
        raise HelpShown
    args = parser.parse_args(words)
    parser.tell_replaced(words)
    return args


def parse_known(parser: Parser, words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """As `parse`, with the words that the parser does not know."""
    if not {"--help", "-h"}.isdisjoint(words):
        return parse(parser, words), []
    args, rest = parser.parse_known_args(words)
    parser.tell_replaced(words)
    return args, rest


def to_positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    if not (number := _whole(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text[:40]!r}")
    return number


def to_seed(text: str) -> int:
    """A whole number, 0 or above, for argparse."""
    if (number := _whole(text)) is None:
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or above, got {text[:40]!r}")
    return number


def _whole(text: str) -> int | None:
    """A whole number that 64 bits take, None for any other text."""
    number = int(text) if text.isdecimal() and len(text) < 20 else None
    return number if number is not None and number < 2**63 else None


def to_path(text: str) -> Path:
    """A path with ~ and ~user replaced, for argparse: told here if no file can ever have it."""
    try:
        path = Path(text).expanduser()
        parts = [os.fsencode(path), *map(os.fsencode, path.parts)]
    except (RuntimeError, UnicodeEncodeError) as error:
        problem = "there is no such user" if isinstance(error, RuntimeError) else "it is no valid text"
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: {problem}") from error
    if b"\0" in parts[0]:
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: a path cannot hold a NUL")
    if len(parts[0]) > PATH_BYTES or max(map(len, parts[1:]), default=0) > NAME_BYTES:
        raise argparse.ArgumentTypeError(f"{formats.shown(text)}: longer than a file system takes")
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise argparse.ArgumentTypeError(f"{formats.shown(text)}: {error.strerror}") from error
    return path


def to_frames(text: str) -> float:
    """A number of frames, for argparse: at least one, and no more than any run has."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 1 <= number <= 1e15:
        raise argparse.ArgumentTypeError(f"expected a number of frames from 1 to 1e15, got {text[:40]!r}")
    return number


def is_named(filename: object, words: list[str]) -> bool:
    """Whether a path is one of the command line's words, or lies below one."""
    path = Path(os.path.abspath(str(filename)))
    values = [word.partition("=")[2] if word.startswith("--") else word for word in words]
    given = {Path(os.path.abspath(os.path.expanduser(value))) for value in values if value}
    return filename is not None and not given.isdisjoint({path, *path.parents})

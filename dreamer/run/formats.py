"""The one reader of each file format of a run: JSON documents, lines of JSON, and YAML.

Files come from other machines, other programs and power cuts, so that each reader has limits, on size, depth and
numbers, and takes regular files only: nothing that it opens can block it, and nothing that it returns can overflow a
later computation or fail to be printed. Whatever is wrong with a file is a FormatError. Only the standard library is
imported here, because everything that starts a command reads a config.
"""

import contextlib
import json
import os
import re
import stat
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any, BinaryIO

DOCUMENT_BYTES = 64 * 2**20  # a score file with a curve of a million points takes 26 MB
LINES_BYTES, LINES, LINE_BYTES = 256 * 2**20, 1_000_000, 2**20
YAML_BYTES = 2**17  # ten times what configs/defaults.yaml has with all its comments; YAML is read at 100 kB/s
CONTAINERS = 200_000  # lists and objects in a document
DEPTH = 32  # of lists and objects in each other
STEP = '{"step": frames, ...}'
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
_PATH_SHOWN = 300  # characters


class FormatError(ValueError):
    """A file that cannot be used; the message is one line: the path, the line if there is one, and what is wrong."""


class MissingError(FormatError):
    """There is no such file."""


def document(path: str | os.PathLike) -> object:
    """The value in a JSON file: its numbers are finite and within 64 bits, its text is Unicode. Raises FormatError."""
    data = read(path, DOCUMENT_BYTES)
    if not data.strip():
        raise FormatError(f"{shown(path)}: is empty, expected JSON")
    return parse(data, f"{shown(path)}: ")


def step_lines(path: str | os.PathLike, problems: list[str]) -> Iterator[dict]:
    """The objects {"step": frames, ...} of a file with one per line; none if there is no file.

    What is no such line is left out, and so is a last line without an end, which may still be being written. One line
    that says where and how many is added to `problems` once the file is read, or one that says why it cannot be.
    """
    count, bad, first, reason = 0, 0, 0, ""
    try:
        with _opened(path, LINES_BYTES) as file:
            for count, line in enumerate(_cut(file), start=1):
                if count > LINES:
                    problems.append(f"{shown(path)}: has more than {LINES:,} lines: the others are left out")
                    break
                try:
                    yield _step_line(line)
                except FormatError as error:
                    bad += 1
                    first, reason = (first, reason) if bad > 1 else (count, error)
    except MissingError:
        return
    except FormatError as error:
        problems.append(f"{error}: left out")
    except OSError as error:
        problems.append(f"{shown(path)}: {error.strerror}: what follows line {count} is left out")
    if bad:
        more = f" and {bad - 1} more" if bad > 1 else ""
        problems.append(f"{shown(path)}: line {first}{more} is not {STEP}: left out ({reason})")


def last_step_lines(path: str | os.PathLike, size: int) -> list[dict]:
    """The objects that the last `size` bytes of such a file hold; what cannot be read or used is left out in silence.

    For whoever looks again and again at a file that is being written.
    """
    found = []
    try:
        with _opened(path, INT_MAX) as file:
            start = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(start)
            if start:
                file.readline(LINE_BYTES)  # the rest of a line that began before
            lines = list(_cut(file))
    except (FormatError, OSError):
        return []
    for line in lines:
        with contextlib.suppress(FormatError):
            found.append(_step_line(line))
    return found


def yaml_tree(path: str | os.PathLike, *, comments: bool = False) -> dict:
    """The keys and values of a YAML file; {} if it is empty. Raises FormatError.

    Neither aliases, of which a few lines can stand for gigabytes or for themselves, nor tags. With comments, mappings
    are ruamel's, which know the comments and the lines of their keys, and numbers are as they are written; without,
    they are finite and within int64 and float64.
    """
    # Here and not above, so that `dreamer doctor` can tell where the package is missing.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    where = shown(path)
    text = _text(read(path, YAML_BYTES), f"{where}: ")
    try:
        _check_events(YAML(typ="safe", pure=True).parse(text), where)
        tree = (YAML() if comments else YAML(typ="safe", pure=True)).load(text)
    except FormatError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = one_line(error.problem or error.context or "not YAML")
        if problem.startswith("but ") and error.context:  # a sentence of which the library calls half the context
            problem = one_line(f"{error.context}, {problem}")
        raise FormatError(f"{where}:{mark.line + 1}: {problem}" if mark else f"{where}: {problem}") from error
    except Exception as error:
        # The parser lets through what its own parts raise: errors of numbers, dates and keys, asserts, recursion.
        raise FormatError(f"{where}: not YAML: {one_line(str(error) or type(error).__name__)}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise FormatError(f"{where}: expected lines of `key: value`")
    if fault := _fault(tree, numbers=not comments):
        raise FormatError(f"{where}: {fault}")
    return tree


def read(path: str | os.PathLike, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Raises FormatError."""
    try:
        with _opened(path, limit) as file:
            return file.read(limit)
    except OSError as error:
        raise FormatError(f"{shown(path)}: {error.strerror}") from error


def parse(data: bytes, where: str = "") -> object:
    """The value of JSON in UTF-8, with the promises of `document`. Raises FormatError that begins with `where`."""
    text = _text(data, where)
    if len(text) > CONTAINERS and text.count("[") + text.count("{") > CONTAINERS:
        raise FormatError(f"{where}holds more than {CONTAINERS:,} lists and objects")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise FormatError(f"{where}not complete JSON ({line}character {error.colno}: {error.msg})") from None
    except RecursionError:
        raise FormatError(f"{where}{_TOO_DEEP}") from None
    except ValueError:  # the interpreter refuses integers of more than some thousand digits
        raise FormatError(f"{where}holds a number beyond 64 bits") from None
    if fault := _fault(value):
        raise FormatError(f"{where}{fault}")
    return value


def is_number(value: Any, largest: float = sys.float_info.max) -> bool:
    """Whether a value out of a file is a number, not true or false, and not beyond -largest..largest."""
    # The comparison is false for NaN and infinities, and holds for integers that no float can take.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= largest


def one_line(text: object) -> str:
    """Text as one line that any terminal can print: a space for a line end, escapes for what cannot be shown."""
    text = re.sub(r"\s*[\r\n]\s*", " ", str(text).strip())
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(path: object) -> str:
    """A path for a message: on one line, and cut in the middle if it is so long that it would hide the message."""
    text = str(path)
    text = text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= _PATH_SHOWN else f"{text[: _PATH_SHOWN // 2]}...{text[-_PATH_SHOWN // 2 :]}"


_TOO_DEEP = f"has lists or objects more than {DEPTH} deep in each other"


def _opened(path: str | os.PathLike, limit: int) -> BinaryIO:
    """A regular file of at most `limit` bytes, open for reading. Raises FormatError."""
    try:
        # Without waiting: a pipe that nobody writes to would hold the command for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(f"{shown(path)}: {error.strerror}") from error
    except OSError as error:
        raise FormatError(f"{shown(path)}: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise FormatError(f"{shown(path)}: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "directory" if stat.S_ISDIR(status.st_mode) else "device or a pipe"
            raise FormatError(f"{shown(path)}: is a {kind}, expected a file")
        if status.st_size > limit:
            raise FormatError(f"{shown(path)}: has {status.st_size:,} bytes, at most {limit:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _cut(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, each cut where it is longer than any that we write."""
    while line := file.readline(LINE_BYTES):
        yield line
        while len(line) == LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(LINE_BYTES)


def _step_line(line: bytes) -> dict:
    if not line.endswith(b"\n"):
        raise FormatError("it has no end" if len(line) < LINE_BYTES else f"longer than {LINE_BYTES:,} bytes")
    value: Any = parse(line[:-1])
    step: Any = value.get("step") if isinstance(value, dict) else None
    if not (is_number(step, INT_MAX) and step >= 0 and step == int(step)):
        raise FormatError(f"{ascii(line.decode().strip()):.40}")
    value["step"] = int(step)
    return value


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(f"{where}not UTF-8 text (line {line}, byte {data[error.start]:#04x})") from None


def _check_events(events: Iterable[Any], where: str) -> None:
    """Refuse what makes a YAML file larger or deeper than it looks, before anything is built from it."""
    depth = 0
    for event in events:
        name, line = type(event).__name__, event.start_mark.line + 1
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        if depth > DEPTH:
            raise FormatError(f"{where}:{line}: {_TOO_DEEP}")
        if name == "AliasEvent" or getattr(event, "anchor", None) is not None:
            raise FormatError(f"{where}:{line}: has an alias: write the value itself")
        if getattr(event, "tag", None) is not None:
            raise FormatError(f"{where}:{line}: has a tag: write the value alone")


def _fault(value: Any, numbers: bool = True, place: str = "", depth: int = DEPTH) -> str:
    """What is wrong with a value out of a file, and where in it; "" if nothing is."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        if not numbers or (is_number(value) and (isinstance(value, float) or INT_MIN <= value <= INT_MAX)):
            return ""
        size = "not a finite number" if isinstance(value, float) else "beyond 64 bits"
        return f"{place or 'the number'} is {_short(value)}, {size}"
    if isinstance(value, str):
        return "" if _is_unicode(value) else f"{place or 'the text'} is {ascii(value):.40}, not valid Unicode"
    if not isinstance(value, list | dict):
        return ""
    if not depth:
        return _TOO_DEEP
    if isinstance(value, list):
        return "" if _is_plain(value) else _first(value, enumerate(value), "{}[{}]", numbers, place, depth)
    for key in () if _is_plain(value) else value:
        if isinstance(key, str) and not _is_unicode(key):
            return f"{place or 'the object'} has the key {ascii(key):.40}, not valid Unicode"
    if _is_plain(value.values()):
        return ""
    return _first(value, value.items(), "{}.{}" if place else "{}{}", numbers, place, depth)


def _first(value: Any, items: Iterable[tuple[Any, Any]], form: str, numbers: bool, place: str, depth: int) -> str:
    for key, item in items:
        if isinstance(item, float | int) and is_number(item, INT_MAX):
            continue
        if fault := _fault(item, numbers, form.format(place, str(key)[:40]), depth - 1):
            return fault
    return ""


def _is_plain(values: Collection) -> bool:
    """Whether all values are numbers far from all limits and nulls, or all are ASCII: quick where they are many."""
    kinds = set(map(type, values))
    if kinds <= {int, float, type(None)}:
        return sum(abs(value) for value in values if value is not None) <= INT_MAX
    return kinds == {str} and all(map(str.isascii, values))


def _is_unicode(text: str) -> bool:
    """Whether text has no lone surrogates, which neither a file nor a terminal takes."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


def _short(number: int | float) -> str:
    return f"{number:.6g}" if isinstance(number, float) else f"an integer of {number.bit_length()} bits"

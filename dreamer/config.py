"""Load the documented defaults, lay overlays and command-line values over them, check every value, freeze the result.

configs/defaults.yaml is the documentation and the schema at once: every key carries a comment
`# [unit; allowed; resume; before VALUE] meaning (source).`, and the type of a key is the type of its default. Of what
is in the brackets only the unit must be there.

resume tells whether the key may have another value when a run goes on: `free` keys change neither what is learned nor
what has been, `told` ones change what is learned from there on and need the user's word, all others cannot change.
before VALUE stands at keys that releases up to 0.1 did not have: what those did is what this value does.
source is where the default is from, `paper, PLACE`, `TF1`, `TF2`, `PlaNet` or `ours`; a remark on it may follow after a
colon, and what others have instead after semicolons: `(TF2; paper: 300).`
"""

import difflib
import functools
import json
import math
import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from dreamer import keys
from dreamer.near import nearest
from dreamer.run import formats
from dreamer.run.files import replacing

_PACKAGE = Path(__file__).resolve().parent
# An installed package holds them; in a checkout they are beside it, where people look for them.
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
COMMAND_LINE = "command line"
SETTLED = "settled when the run began"  # what was left open, such as the precision, or what older releases did
LONGEST_LINE = 10**6  # of a saved config: a long text stays on its line

_COMMENT = re.compile(r"#\s*\[(?P<unit>[^;\[\]]+)(?P<fields>(?:;[^;]*?)*)\]\s+(?P<meaning>\S.*)")
_SOURCE = re.compile(
    r"\((?P<source>paper, (?:(?:Section|Appendix|Algorithm) [A-Z\d][.\d]*|eqs?\. \d+(?:-\d+)?)|TF1|TF2|PlaNet|ours)"
    r"(?:[:;] [^()]+)?\)\.$"
)
FREE, TOLD, FIXED = "free", "told", "fixed"
_NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_RANGE = re.compile(rf"(?P<open_low>\()?(?P<low>{_NUMBER})?\.\.(?P<high>{_NUMBER})?(?P<close>[\])])?")
_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


class ConfigError(ValueError):
    """Bad configuration; the message is one line that says what was wrong, where, and what would be right."""


@dataclass(frozen=True)
class Range:
    """Interval of numbers; an end that is None is unbounded, an open end is left out."""

    low: float | None
    high: float | None
    open_low: bool
    open_high: bool

    def __contains__(self, value: float) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.open_low)
        below = self.high is None or value < self.high or (value == self.high and not self.open_high)
        return above and below

    def __str__(self) -> str:
        if self.low is not None and self.high is not None and not self.open_low and not self.open_high:
            return f"{self.low:g}..{self.high:g}"
        low = None if self.low is None else f"{'>' if self.open_low else '>='} {self.low:g}"
        high = None if self.high is None else f"{'<' if self.open_high else '<='} {self.high:g}"
        return ", ".join(end for end in (low, high) if end)


@dataclass(frozen=True)
class Choices:
    """Names to choose from."""

    names: tuple

    def __contains__(self, value: object) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return " | ".join(self.names)


class JSONObject:
    """A text that is a JSON object."""

    text = "JSON object"

    def normal(self, value: Any) -> str | None:
        """The object, or the text of one, as the one text that stands for it; None where it is none."""
        try:
            text = value if isinstance(value, str) else json.dumps(value)
            found = formats.parse(text.encode())
        except (formats.FormatError, TypeError, ValueError, RecursionError):
            return None
        return json.dumps(found, sort_keys=True) if isinstance(found, dict) else None

    def __contains__(self, value: object) -> bool:
        return self.normal(value) is not None

    def __str__(self) -> str:
        return """a JSON object such as '{"name": 2}'"""


class Key(NamedTuple):
    """One documented key: dotted name, default value, unit, what is allowed (None: anything), meaning and type.

    resume: FREE, TOLD or FIXED, whether it may change when a run goes on. before: the value that stands for what
    releases without the key did; None for keys that have always been there. source: where the default is from, as it
    begins the parenthesis at the end of the meaning; None where that names no source.
    """

    name: str
    value: Any
    unit: str
    allowed: Range | Choices | JSONObject | None
    meaning: str
    type: type
    resume: str = FIXED
    before: Any = None
    source: str | None = None

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if isinstance(self.allowed, Choices):
            return f"one of {str(self.allowed)}" if len(self.allowed.names) > 1 else str(self.allowed)
        if isinstance(self.allowed, JSONObject):
            return str(self.allowed)
        return _TYPE_NAMES[self.type] + (f" ({self.allowed})" if self.allowed else "")


class Config(keys.Keys):
    """All keys of a run, checked and frozen, made by `load` or `load_file`; equal where all values are.

    origins: dotted key to where its value is from, for values that are not the default's.
    """

    def __init__(self, values: dict, origins: dict[str, str] | None = None):
        super().__init__(values)
        object.__setattr__(self, "_origins", origins or {})

    def flat(self) -> dict[str, Any]:
        """Dotted key to value, in the order of configs/defaults.yaml."""
        return {key: value for key, value, _ in _flatten(self._values, "")}

    def replace(self, **values: Any) -> "Config":
        """A copy with some values changed, `config.replace(**{"replay.batch": 16})`; raises ConfigError like `load`."""
        flat = self.flat()
        replaced = _lay_over(flat, [(key, value, "replace") for key, value in values.items()])
        changed = {key: SETTLED for key in values if replaced[key] != flat[key]}
        return Config(_nest(replaced), self._origins | changed)

    def diff(self, other: "Config") -> list[tuple[str, Any, Any]]:
        """(key, value here, value in the other) of every key that differs."""
        theirs = other.flat()
        return [(key, value, theirs[key]) for key, value in self.flat().items() if value != theirs[key]]

    def save(self, path: str | os.PathLike) -> None:
        """Write YAML that `load_file` reads back; comments say which values are not the defaults, and whose they are.

        Atomic: a reader sees the old file or the new one.
        """
        from ruamel.yaml import YAML

        yaml = YAML()
        yaml.width = LONGEST_LINE
        with replacing(Path(path)) as partial, open(partial, "w", encoding="utf-8") as file:
            yaml.dump(_commented(self._values, self._origins), file)


def load(
    overlays: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
    where: str = COMMAND_LINE,
) -> Config:
    """The defaults, then the overlays configs/NAME.yaml in order, then command-line values.

    base: dotted key to value, laid over the defaults first. overrides: likewise, a string is read as the type of its
    key; where: they are given, for messages. Raises ConfigError.
    """
    values: dict[str, Any] = {key.name: key.value for key in describe()} | dict(base or {})
    origins: dict[str, str] = {}
    for name in overlays:
        path = overlay_path(name)
        entries = _read(path)
        values = _lay_over(values, entries)
        origins |= dict.fromkeys((key for key, _, _ in entries), _shown(path))
    overrides = overrides or {}
    values = _lay_over(values, [(key, value, where) for key, value in overrides.items()])
    return Config(_nest(values), origins | dict.fromkeys(overrides, COMMAND_LINE))


def load_file(path: str | os.PathLike) -> Config:
    """A config that `Config.save` wrote, also that of an older release. Raises ConfigError.

    No default slips in unseen: a key that the file lacks takes the value that stands for what releases without the key
    did (`filled_in` tells which), and a file without a key that has always been there is incomplete.
    """
    values = _lay_over({}, _read(Path(path)))
    missing = [key for key in describe() if key.name not in values]
    if lost := [key.name for key in missing if key.before is None]:
        raise ConfigError(f"{path}: {', '.join(lost)} missing: the file is incomplete or of another version")
    values |= {key.name: key.before for key in missing}
    return Config(_nest({key.name: values[key.name] for key in describe()}))


def filled_in(path: str | os.PathLike) -> dict[str, Any]:
    """The keys that a saved config lacks, being older than they are, with the values that `load_file` gives them."""
    present = {name for name, _, _ in _read(Path(path))}
    return {key.name: key.before for key in describe() if key.name not in present and key.before is not None}


def key(name: str, where: str = COMMAND_LINE) -> Key:
    """The key of this name. Raises ConfigError with what is nearest where there is none."""
    if name not in _schema():
        raise ConfigError(_unknown_key(name, where))
    return _schema()[name]


def describe() -> list[Key]:
    """Every key of configs/defaults.yaml in its order, with its documentation. Raises ConfigError."""
    return list(_schema().values())


def overlays() -> list[str]:
    """Names of the overlays in configs/, sorted."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "defaults")


def overlay_path(name: str) -> Path:
    """The file of an overlay: of configs/, or the user's own if the name is a path to a .yaml file.

    Raises ConfigError that names the overlays there are.
    """
    known = overlays()
    if name.endswith(".yaml"):
        own = Path(name).expanduser()
        if not own.is_file():
            what = "is no file" if own.exists() or own.is_symlink() else "no such overlay file"
            raise ConfigError(f"{formats.shown(own)}: {what}; of configs/ there are {', '.join(known)}")
        return own
    if name in known:
        return CONFIGS / f"{name}.yaml"
    if name == "defaults":
        raise ConfigError("the defaults are always loaded first: leave 'defaults' out of the overlays")
    name = name[-100:]
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"unknown overlay {name!r}: {hint}there are {', '.join(known)} in {CONFIGS}")


def overlay_comment(name: str) -> str:
    """The comment at the head of an overlay on one line, what it is for."""
    comment = []
    for line in overlay_path(name).read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("#").strip())
    return " ".join(comment)


@functools.lru_cache(maxsize=1)
def _schema() -> dict[str, Key]:
    path = CONFIGS / "defaults.yaml"
    if not path.is_file():
        raise ConfigError(f"{path} is missing: install the project again")
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = [_document(lines, *entry) for entry in _flatten(_parse(path), str(path))]
    return {key.name: key for key in keys}


def _document(lines: list[str], name: str, value: Any, where: str) -> Key:
    line = lines[int(where.rpartition(":")[2]) - 1]
    match = _COMMENT.search(line.rstrip())
    if not match:
        raise ConfigError(f"{name}: needs a comment `# [unit; allowed; resume] meaning` on its line ({where})")
    kind = next((kind for kind in (bool, int, float, str) if isinstance(value, kind)), None)
    if kind is None:
        raise ConfigError(f"{name}: the default must be a number, true or false, or a text ({where})")
    fields = [field.strip() for field in match["fields"].split(";")[1:]]
    resume = next((field for field in fields if field in (FREE, TOLD)), FIXED)
    before = next((field.removeprefix("before ") for field in fields if field.startswith("before ")), None)
    rest = [field for field in fields if field not in (FREE, TOLD) and not field.startswith("before ")]
    if len(rest) > 1:
        raise ConfigError(f"{name}: {' and '.join(map(repr, rest))}: only one of them can be what is allowed ({where})")
    allowed = _parse_allowed(rest[0] if rest else None, f"{name} ({where})")
    if isinstance(allowed, Choices):  # of which YAML reads true and false as flags
        kind, value = str, _as_name(value)
    meaning = match["meaning"].strip()
    source = _SOURCE.search(meaning)
    source = source and source["source"]
    key = Key(name, kind(value), match["unit"].strip(), allowed, meaning, kind, resume, source=source)
    key = key._replace(value=_check(key, key.value, where))
    return key._replace(before=None if before is None else _check(key, before, where))


def _parse_allowed(text: str | None, where: str) -> Range | Choices | JSONObject | None:
    if text is None:
        return None
    if text == JSONObject.text:
        return JSONObject()
    if ".." not in text:
        return Choices(tuple(name.strip() for name in text.split("|")))
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise ConfigError(f"{where}: {text!r} is no range like 0..1, (0..1], 1.. or (0..")
    low, high = (None if match[end] is None else float(match[end]) for end in ("low", "high"))
    return Range(low, high, open_low=bool(match["open_low"]), open_high=match["close"] == ")")


def _parse(path: Path) -> dict:
    try:
        return formats.yaml_tree(path, comments=True)
    except formats.FormatError as error:
        raise ConfigError(str(error)) from error


def _shown(path: Path) -> str:
    return f"configs/{path.name}" if path.parent == CONFIGS else formats.shown(path)


def _read(path: Path) -> list[tuple[str, Any, str]]:
    whole = {key.name for key in describe() if isinstance(key.allowed, JSONObject)}
    entries = list(_flatten(_parse(path), _shown(path), whole=whole))
    places: dict[str, str] = {}
    for name, _, where in entries:  # `actor.lr: 1` beside `actor: {lr: 2}`, which YAML takes for different keys
        if name in places:
            raise ConfigError(f"{formats.one_line(name)[:60]} is given twice: {places[name]} and {where}")
        places[name] = where
    return entries


def _commented(values: dict, origins: dict[str, str], prefix: str = "") -> dict:
    """The values as a tree that YAML writes with a comment at each key in `origins`."""
    from ruamel.yaml.comments import CommentedMap

    tree = CommentedMap()
    for name, value in values.items():
        key = f"{prefix}{name}"
        if value in ("true", "false") and isinstance(_schema()[key].allowed, Choices):
            value = value == "true"  # as people write it: `true` with quotes would be a text
        tree[name] = _commented(value, origins, f"{key}.") if isinstance(value, dict) else value
        if key in origins:
            tree.yaml_add_eol_comment(origins[key], name, column=0)
    return tree


def _flatten(tree: dict, file: str, prefix: str = "", whole: Container[str] = ()) -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, value, where) for every leaf; where is file:line if the tree came from a file.

    whole: keys of which the value may be a dict.
    """
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in whole:
            yield from _flatten(value, file, f"{key}.", whole)
        else:
            yield key, value, f"{file}:{_line(tree, name)}" if hasattr(tree, "lc") else file


def _line(tree: Any, name: str) -> int:
    # A key that is merged in, `<<: {key: value}`, has no line of its own.
    return (tree.lc.key(name) if name in (tree.lc.data or ()) else (tree.lc.line,))[0] + 1


def _nest(flat: dict[str, Any]) -> dict:
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    return tree


def _lay_over(values: dict, entries: Iterable[tuple[str, Any, str]]) -> dict:
    values = dict(values)
    for name, value, where in entries:
        values[name] = _check(key(name, where), value, where)
    return values


def _unknown_key(name: str, where: str) -> str:
    dashes = _dashes(where)
    known = [key.name for key in describe()]
    inside = [key for key in known if key.startswith(f"{name}.")]
    if inside:
        return f"{dashes}{name} is a section: give one of its keys, such as {dashes}{inside[0]} ({where})"
    near = _meant(name, known)
    hint = f"did you mean {' or '.join(dashes + key for key in near)}?" if near else "`dreamer configs` lists all keys"
    name = formats.one_line(name)
    return f"unknown key {dashes}{name if len(name) <= 60 else f'{name[:57]}...'} ({where}): {hint}"


def _meant(name: str, known: list[str]) -> list[str]:
    """The keys that a name which is none may stand for.

    In the same section, those that it is the beginning of; else of the same last part first, in the same section first.
    """
    section, _, last = name.rpartition(".")
    if section in known:
        return [section]
    sections = {key: key.rpartition(".")[0] for key in known}
    lasts = {key: key.rpartition(".")[2] for key in known}
    inside = nearest(section, sections.values()) if section else []
    if begun := [key for key in known if sections[key] == section and lasts[key].startswith(last)]:
        return begun
    for among in ([key for key in known if sections[key] in inside], known):
        here = {lasts[key] for key in among}
        longer = {other for other in here if last.startswith(f"{other}_") or other.startswith(f"{last}_")}
        if found := [key for key in among if lasts[key] in ({last} & here or nearest(last, here) or longer)]:
            return found
    return [] if section else nearest(name, known)  # such as `replay_batch`


def _dashes(where: str) -> str:
    return "--" if where == COMMAND_LINE else ""


def _check(key: Key, value: Any, where: str) -> Any:
    """The value as the key's type. A string is read as that type; raises ConfigError."""
    if isinstance(key.allowed, JSONObject):
        value = key.allowed.normal(value) or value
    result = _convert(_as_name(value) if isinstance(key.allowed, Choices) else value, key.type)
    if result is None or (key.allowed is not None and result not in key.allowed):
        shown = "nothing" if value is None else _in_words(value, key.type)
        raise ConfigError(f"{_dashes(where)}{key.name}: expected {key.expected}, got {shown} ({where})")
    return result


def _as_name(value: Any) -> Any:
    """The name that a flag is, where it is one of several: `true` of auto | true | false."""
    return str(value).lower() if isinstance(value, bool) else value


def _in_words(value: Any, kind: type) -> str:
    """A value that was refused, for a message: on one line, and no longer than one reads."""
    try:
        text = repr(value) if kind is str else str(value)
    except ValueError:  # the interpreter prints no integers of more than some thousand digits
        text = "a number of too many digits"
    text = formats.one_line(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _convert(value: Any, kind: type) -> Any:
    """The value as int, float, bool or str without losing anything, None where that cannot be."""
    if kind is str:
        # What cannot be printed could not be saved either, or would not read back the same.
        return str(value) if isinstance(value, str) and value.isprintable() else None
    if kind is bool:
        return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    if kind is float:
        number = float(number)
        return number if math.isfinite(number) else None
    # Steps and seeds travel as 64-bit integers. The size comes first: the int of 1e999999 would take minutes.
    return int(number) if number.adjusted() < 19 and number == int(number) and abs(number) < 2**63 else None

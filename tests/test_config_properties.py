"""The merger of configs against inputs that nobody thought of: a checked config, or ConfigError with one line."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dreamer import config
from dreamer.config import ConfigError

ALWAYS = settings(
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYS = {key.name: key for key in config.describe()}
PRINTABLE = st.text(max_size=20).filter(str.isprintable)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=5)
    | st.decimals()
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def values_of(key: config.Key):
    """Values that a key takes, of its own type."""
    if isinstance(key.allowed, config.Choices):
        return st.sampled_from(key.allowed.names)
    if isinstance(key.allowed, config.JSONObject):
        values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | PRINTABLE
        return st.dictionaries(PRINTABLE, values, max_size=3).map(lambda made: json.dumps(made, sort_keys=True))
    if key.type is bool:
        return st.booleans()
    if key.type is str:
        return PRINTABLE
    limits = key.allowed or config.Range(None, None, open_low=False, open_high=False)
    if key.type is int:
        low, high = (None if end is None else int(end) for end in (limits.low, limits.high))
        numbers = st.integers(low if low is not None else -(2**63), high if high is not None else 2**63 - 1)
    else:
        numbers = st.floats(limits.low, limits.high, allow_nan=False, allow_infinity=False)
    return numbers.filter(lambda number: number in limits)


GOOD = st.lists(st.sampled_from(sorted(KEYS)), max_size=8, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: values_of(KEYS[name]) for name in names})
)


def attempt(function, *arguments, **values):
    """What a function returns, None if it raises ConfigError with one line; everything else fails the test."""
    try:
        return function(*arguments, **values)
    except ConfigError as error:
        text = str(error)
        assert text.isprintable()
        assert 0 < len(text) < 2000
        text.encode()
        return None


def is_checked(made: config.Config) -> None:
    """Every key is there, of its type and among what is allowed."""
    assert list(made.flat()) == list(KEYS)
    for name, value in made.flat().items():
        assert type(value) is KEYS[name].type
        assert KEYS[name].allowed is None or value in KEYS[name].allowed


@settings(ALWAYS, max_examples=50)
@given(values=GOOD)
def test_values_survive_loading_replacing_saving_and_the_command_line(tmp_path, values):
    made = config.load([], values)
    is_checked(made)
    assert {name: made.flat()[name] for name in values} == values
    assert config.load().replace(**values) == made
    assert [name for name, _, _ in config.load().diff(made)] == [
        name for name in KEYS if name in values and values[name] != KEYS[name].value
    ]
    made.save(tmp_path / "config.yaml")
    again = config.load_file(tmp_path / "config.yaml")
    is_checked(again)
    assert again == made
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    assert config.load([], texts) == made


@ALWAYS
@given(values=st.dictionaries(st.sampled_from(sorted(KEYS)), ANYTHING, max_size=3))
@example(values={"steps": 10**5000})
@example(values={"steps": "1e999999999999999999999"})
@example(values={"seed": "1e-999999999999"})
@example(values={"model.lr": 10**400})
@example(values={"task": "\ud800"})
@example(values={"task": "a\nb"})
@example(values={"seed": [[["x" * 10_000]]]})
def test_values_of_any_type_are_checked_or_refused(tmp_path, values):
    made = attempt(config.load, [], values)
    assert made == attempt(config.load().replace, **values)
    if made is not None:
        is_checked(made)
        made.save(tmp_path / "config.yaml")
        assert config.load_file(tmp_path / "config.yaml") == made


@ALWAYS
@given(name=st.text(), value=ANYTHING)
@example(name="", value=1)
@example(name=".", value=1)
@example(name="model", value=1)
@example(name="model.deter.x", value=1)
@example(name="\ud800\n", value=1)
@example(name="m" * 100_000, value=1)
def test_unknown_keys_are_refused(name, value):
    if name not in KEYS:
        assert attempt(config.load, [], {name: value}) is None
        with pytest.raises(ConfigError, match=r"unknown key|is a section"):
            config.load([], {name: value})


@settings(ALWAYS, max_examples=50)
@given(names=st.lists(st.text() | st.sampled_from(config.overlays()), max_size=3))
@example(names=["\0"])
@example(names=["../configs/dmc"])
@example(names=["/etc/passwd"])
def test_overlays_are_loaded_or_refused(names):
    made = attempt(config.load, names)
    assert (made is not None) == (set(names) <= set(config.overlays()))


LINES = [f"{name.rpartition('.')[2]}: " for name in sorted(KEYS)] + [f"{name.partition('.')[0]}:\n  " for name in KEYS]
PIECES = [
    *sorted(set(LINES)),
    "  ",
    "\n",
    "1",
    "-1",
    "true",
    "x",
    "[",
    "]",
    "{",
    "}",
    "<<: ",
    "? ",
    ": ",
    "- ",
    "'",
    '"',
]
PIECES += [
    "1e999",
    ".nan",
    "~",
    "&a ",
    "*a",
    "!!str ",
    "1_0",
    "0x1",
    "2001-01-01",
    "|\n",
    "\t",
    "\0",
    "\\ud800",
    "---\n",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "config.yaml"
    config.load().save(path)
    return path.read_text(encoding="utf-8")


@ALWAYS
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=10), data=st.data())
def test_files_are_loaded_or_refused(tmp_path, saved, pieces, data):
    """What a file holds beside and in the place of a good config."""
    start = data.draw(st.integers(0, len(saved)))
    end = data.draw(st.integers(start, min(len(saved), start + 40)))
    text = saved[:start] + "".join(pieces) + saved[end:]
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    made = attempt(config.load_file, path)
    if made is not None:
        is_checked(made)
        made.save(path)
        assert config.load_file(path) == made


@ALWAYS
@given(content=st.binary(max_size=100))
def test_any_bytes_in_the_place_of_a_config_are_refused(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    assert attempt(config.load_file, path) is None

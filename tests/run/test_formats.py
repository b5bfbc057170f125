import json
import os
import stat

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dreamer.run import formats
from dreamer.run.formats import FormatError, MissingError

ALWAYS = settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = st.integers(formats.INT_MIN, formats.INT_MAX) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def message(reader, path) -> str:
    with pytest.raises(FormatError) as error:
        reader(path)
    text = str(error.value)
    assert text.startswith(f"{path}")
    assert text.isprintable()
    return text.removeprefix(f"{path}")


def outcome(reader, path):
    """(value, None) or (None, message): any other exception fails the test."""
    try:
        return reader(path), None
    except FormatError as error:
        return None, str(error)


def lines(path):
    problems = []
    found = list(formats.step_lines(path, problems))
    assert len(problems) <= 2
    assert all(problem.isprintable() and problem.startswith(str(path)) for problem in problems)
    return found, problems


@settings(ALWAYS, max_examples=100)
@given(value=VALUES)
def test_what_json_writes_is_read_back(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    assert formats.document(path) == value


@settings(ALWAYS, max_examples=50)
@given(values=st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=3))
def test_lines_that_json_writes_are_read_back(path, values):
    values = [{**value, "step": step} for step, value in enumerate(values)]
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    assert lines(path) == (values, [])


# Bytes alone seldom reach beyond the first check of a parser, so that what it accepts is mixed in.
PIECES = [b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"- ", b"a: ", b"&a ", b"*a", b"!!int ", b"!!python/name:x "]
PIECES += [b"1e999", b"-", b"NaN", b"null", b'{"step": 1}', b'"step": ', b"\\ud800", b"\0", b"\t", b"  ", b"|\n", b"? "]
PIECES += [
    b"<<: ",
    b"0x",
    b"2001-99-99",
    b".inf",
    b"1_0",
    b"#",
    b"%YAML 1.1\n",
    b"---\n",
    b"...",
    b"'",
    b"@",
    b"9" * 30,
]
PIECES += [b"9" * 5000, b"[" * 40, b"{a: " * 40, "\u2028\u0085\ufeff".encode(), b"\xff", b"=", b"<<", b"!!set ", b"~"]
CONTENT = st.binary(max_size=60) | st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=14).map(b"".join)


@ALWAYS
@given(content=CONTENT)
@example(content=b"[" * 200_000)
@example(content=b'{"a":' * 100_000)
@example(content=b"? " * 20_000)
@example(content=b"- " * 20_000)
@example(content=b"!" * 50_000)
@example(content=b"&" * 50_000)
def test_arbitrary_bytes_are_read_or_refused_in_one_line(path, content):
    path.write_bytes(content)
    for reader in (formats.document, formats.yaml_tree, lambda path: formats.yaml_tree(path, comments=True)):
        value, error = outcome(reader, path)
        assert error is None or (error.startswith(str(path)) and error.isprintable())
        assert error is None or len(error) < len(str(path)) + 300
        json.dumps(value, default=str, skipkeys=True).encode()
    found, _ = lines(path)
    for value in found:
        assert type(value["step"]) is int
        json.dumps(value, allow_nan=False).encode()


@ALWAYS
@given(text=st.text(st.characters(codec=None)))
def test_any_text_becomes_one_line(text):
    line = formats.one_line(text)
    assert line.isprintable()
    assert formats.shown(text).isprintable()
    line.encode()


def test_one_line_keeps_what_can_be_shown():
    assert formats.one_line(" a  b\n  c\r\nd ") == "a  b c d"
    assert formats.one_line("\x1b[31m\tä\udcff\0") == "\\x1b[31m\\tä\\udcff\\x00"
    assert formats.shown("a\nb  c") == "a\\nb  c"
    assert formats.shown("x" * 300) == "x" * 300
    assert formats.shown("a" * 500 + "b" * 500) == "a" * 150 + "..." + "b" * 150


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": [1, {"b": 1e999}]}', ": a[1].b is inf, not a finite number"),
        ('{"a": [1, null, NaN]}', ": a[2] is nan, not a finite number"),
        (f"[{2**63}]", ": [0] is an integer of 64 bits, beyond 64 bits"),
        (f"[1.5, {-(2**63) - 1}]", ": [1] is an integer of 64 bits, beyond 64 bits"),
        ("1e999", ": the number is inf, not a finite number"),
        ('["a", "\\ud800"]', ": [1] is '\\ud800', not valid Unicode"),
        ('{"a": {"\\udfff": 1}}', ": a has the key '\\udfff', not valid Unicode"),
        ("[" * 33 + "]" * 33, ": has lists or objects more than 32 deep in each other"),
        ("", ": is empty, expected JSON"),
        ("{", ": not complete JSON (character 2: Expecting property name enclosed in double quotes)"),
        ("[1,\n2", ": not complete JSON (line 2, character 2: Expecting ',' delimiter)"),
        ("[1,\n\xe4", ": not UTF-8 text (line 2, byte 0xe4)"),
    ],
)
def test_what_is_wrong_and_where(path, text, expected):
    path.write_bytes(text.encode("latin-1"))
    assert message(formats.document, path) == expected


def test_what_is_just_right(path):
    for value in (2**63 - 1, -(2**63), 1.7e308, [[2**62] * 3], "\U0001f600", json.loads("[" * 32 + "]" * 32)):
        path.write_text(json.dumps(value))
        assert formats.document(path) == value


def test_limits_of_size(path, monkeypatch):
    for name in ("DOCUMENT_BYTES", "YAML_BYTES", "LINES_BYTES"):
        monkeypatch.setattr(formats, name, 20)
    for length, fits in ((20, True), (21, False)):
        path.write_bytes(b'{"step": 1}'.ljust(length - 1) + b"\n")
        found, problems = lines(path)
        assert (len(found), len(problems)) == (fits, not fits)
        expected = ({"step": 1}, None) if fits else (None, f"{path}: has 21 bytes, at most 20 are read")
        assert outcome(formats.document, path) == outcome(formats.yaml_tree, path) == expected


def test_a_limit_of_lists_and_objects(path, monkeypatch):
    monkeypatch.setattr(formats, "CONTAINERS", 10)
    path.write_text("[" + ",".join(["{}"] * 9) + "]")
    assert formats.document(path) == [{}] * 9
    path.write_text("[" + ",".join(["{}"] * 10) + "]")
    assert message(formats.document, path) == ": holds more than 10 lists and objects"


def test_lines_that_are_left_out_are_counted_and_the_first_is_told(path):
    path.write_bytes(b'{"step": 1}\n\n{"step": 2.0, "a": null}\n{"a": 1}\n{"step": 3}')
    found, (problem,) = lines(path)
    assert found == [{"step": 1}, {"step": 2, "a": None}]
    assert problem == (
        f'{path}: line 2 and 2 more is not {{"step": frames, ...}}: left out '
        "(not complete JSON (character 1: Expecting value))"
    )


@pytest.mark.parametrize("end", [b'{"step": 2}', b'{"step": 2} ', b'{"step": 2', b" "])
def test_a_line_without_an_end_may_lack_a_part(path, end):
    path.write_bytes(b'{"step": 1}\n' + end)
    assert lines(path) == (
        [{"step": 1}],
        [f'{path}: line 2 is not {{"step": frames, ...}}: left out (it has no end)'],
    )


def test_a_line_that_is_too_long_takes_no_other_with_it(path, monkeypatch):
    monkeypatch.setattr(formats, "LINE_BYTES", 20)
    for blank in range(5, 60):
        path.write_bytes(b'{"step": 1}\n' + b" " * blank + b'{"step": 2}\n{"step": 3}\n')
        found, problems = lines(path)
        assert [line["step"] for line in found] == ([1, 2, 3] if blank + 12 <= 20 else [1, 3])
        assert len(problems) == (blank + 12 > 20)
    path.write_bytes(b" " * 20)
    assert lines(path)[0] == []


def test_more_lines_than_are_read(path, monkeypatch):
    monkeypatch.setattr(formats, "LINES", 3)
    path.write_bytes(b'{"step": 1}\n' * 3)
    assert lines(path)[1] == []
    path.write_bytes(b'{"step": 1}\n' * 4)
    found, problems = lines(path)
    assert (len(found), problems) == (3, [f"{path}: has more than 3 lines: the others are left out"])


def test_no_file(path):
    assert lines(path) == ([], [])
    for missing in (path, path / "below"):
        for reader in (formats.document, formats.yaml_tree):
            with pytest.raises(MissingError, match=r"file: No such file or directory$|below: No such|Not a directory"):
                reader(missing)
    with pytest.raises(FormatError, match="null byte"):
        formats.document("a\0b")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(path):
    path.write_text("1")
    path.chmod(stat.S_IWUSR)
    assert message(formats.document, path) == ": Permission denied"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x 1\nb: *x\n", ":1: has an alias: write the value itself"),
        ("a: 1\nb: !!str 2\n", ":2: has a tag: write the value alone"),
        ("a: 1\n---\nb: 2\n", ":2: expected a single document in the stream, but found another document"),
        ("a: 1\nb: [1\n", ":3: expected ',' or ']', but got '<stream end>'"),
        ("a:\n " + "[" * 40, ":2: has lists or objects more than 32 deep in each other"),
        ("- 1\n", ": expected lines of `key: value`"),
        ("a:\n  b: [1, .nan]\n", ": a.b[1] is nan, not a finite number"),
        (f"a: {2**63}\n", ": a is an integer of 64 bits, beyond 64 bits"),
    ],
)
def test_yaml_that_is_refused(path, text, expected):
    path.write_text(text)
    assert message(formats.yaml_tree, path) == expected


def test_yaml_with_its_comments_and_lines(path):
    path.write_text("a: 1  # one\nb:\n  c: .nan\n")
    tree = formats.yaml_tree(path, comments=True)
    assert tree.lc.key("b")[0] == 1
    assert "# one" in tree.ca.items["a"][2].value
    path.write_text("# nothing\n")
    assert formats.yaml_tree(path) == formats.yaml_tree(path, comments=True) == {}

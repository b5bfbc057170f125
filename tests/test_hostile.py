"""Damaged, foreign and hostile files and command lines: one line that says what is wrong, and nothing else happens.

A file that a command names itself is the user's error, exit code 2. One that is found in a folder of runs is left out
with a line on stderr, and the rest is shown. Neither changes anything on the disk.
"""

import hashlib
import json
import os
import re
import struct

import pytest

from dreamer import config
from dreamer.cli import main as cli
from dreamer.results import report

SCORES = {"task": "toy_dot", "method": "dreamer", "seed": 0, "xs": [10, 20], "ys": [1.0, 2.0]}
WHOLE = json.dumps(SCORES).encode()
OPEN_LOOP = {"step": 20, "context": 5, "image": [1.0, 2.0], "image_repeat": [3.0, 4.0]}
HUGE = "1" + "0" * 400
DIGITS = "9" * 5000
DEEP = 100_000


def score(**fields) -> bytes:
    return json.dumps({**SCORES, **fields}).encode()


def number(text: str, field: str = "ys") -> bytes:
    """A score file with a number in it that json.dumps would not write."""
    return score(**{field: [1, 77]}).replace(b"77", text.encode())


# Content of a score file, and a part of the line about it.
SCORE_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "is empty"),
    "half": (WHOLE[: len(WHOLE) // 2], "not complete JSON"),
    "all but the last byte": (WHOLE[:-1], "not complete JSON"),
    "two objects": (WHOLE * 2, "not complete JSON"),
    "nul bytes": (b"\0" * 100, "not complete JSON"),
    "nul bytes at the end": (WHOLE + b"\0\0", "not complete JSON"),
    "random bytes": (bytes(range(255, 0, -1)), "not UTF-8"),
    "utf-16": (WHOLE.decode().encode("utf-16"), "not UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf" + WHOLE, "JSON"),
    "latin-1": (score(method="x").replace(b'"x"', b'"\xe4"'), "not UTF-8"),
    "python": (str(SCORES).encode(), "not complete JSON"),
    "yaml": (b"task: toy_dot\n", "not complete JSON"),
    "html": (b"<html><body>404</body></html>", "not complete JSON"),
    "null": (b"null", "expected an object"),
    "number": (b"3", "expected an object"),
    "text": (b'"scores"', "expected an object"),
    "true": (b"true", "expected an object"),
    "empty object": (b"{}", "holds no scores"),
    "empty list": (b"[]", "holds no scores"),
    "list of numbers": (b"[1, 2]", "entry 0: expected an object"),
    "list of lists": (b"[[1]]", "entry 0: expected an object with task, method, seed, xs, ys, got a list"),
    "second entry": (b"[" + WHOLE + b", 3]", "entry 1: expected an object"),
    "nothing but a task": (b'{"task": "a"}', "lacks method, seed, xs, ys"),
    "other format": (b'{"results": {"mean": 3}}', "lacks task"),
    "deep lists": (b"[" * DEEP, "JSON|deep"),
    "deep closed lists": (b"[" * DEEP + b"]" * DEEP, "deep"),
    "lists too deep for us": (b"[" * 40 + b"]" * 40, "deep"),
    "deep objects": (b'{"a":' * DEEP, "JSON|deep"),
    "deep objects inside": (score(xs=0).replace(b"0}", b'{"a":' * 500 + b"1" + b"}" * 501), "JSON|deep"),
    "many objects": (b"[" + b"{}," * 300_000 + b"{}]", "more than 200,000 lists and objects"),
    "NaN": (number("NaN"), r"ys\[1\] is nan"),
    "Infinity": (number("-Infinity"), r"ys\[1\] is -inf"),
    "beyond float64": (number("1e999"), r"ys\[1\] is inf"),
    "frames beyond float64": (number("1e999", "xs"), r"xs\[1\] is inf"),
    "beyond int64": (number(str(2**63), "xs"), r"xs\[1\] is an integer of 64 bits"),
    "integer beyond float64": (number(HUGE), r"ys\[1\] is an integer of"),
    "integer of too many digits": (number(DIGITS), "beyond 64 bits"),
    "seed beyond int64": (score(seed=2**70), "seed is an integer of 71 bits"),
    "absurd return": (number("1e200"), r"ys\[1\] is 1e\+200, not a finite number"),
    "absurd frames": (number("1e17", "xs"), r"xs\[1\] is 1e\+17, not a finite number"),
    "negative frames": (score(xs=[-10, 20]), r"xs\[0\] is -10, not"),
    "true among frames": (score(xs=[True, 20]), r"xs\[0\] is True"),
    "null among returns": (score(ys=[None, 1]), r"ys\[0\] is None"),
    "text among returns": (score(ys=["1", 1]), r"ys\[0\] is '1'"),
    "list among returns": (score(ys=[[1], 1]), r"ys\[0\] is a list"),
    "no points": (score(xs=[], ys=[]), "0 xs and 0 ys"),
    "more frames than returns": (score(xs=[1, 2, 3]), "3 xs and 2 ys"),
    "frames as text": (score(xs="10"), "xs cannot be '10'"),
    "frames as object": (score(xs={"0": 10}), "xs cannot be a dict"),
    "task null": (score(task=None), "task cannot be None"),
    "task a list": (score(task=["a"]), "task cannot be a list"),
    "task empty": (score(task=""), "task cannot be ''"),
    "task of spaces": (score(task="  "), "task cannot be"),
    "task with a line end": (score(task="a\nb"), r"task cannot be 'a\\\\nb'|task cannot be 'a\\nb'"),
    "task with an escape": (score(task="\x1b[31m"), "task cannot be"),
    "task with a lone surrogate": (WHOLE.replace(b"toy_dot", rb"\ud800"), "not valid Unicode"),
    "key with a lone surrogate": (WHOLE.replace(b'{"task"', rb'{"\udfff": 1, "task"'), "not valid Unicode"),
    "task of a megabyte": (score(task="x" * 10**6), "task cannot be"),
    "method a number": (score(method=3), "method cannot be 3"),
    "method with a nul": (score(method="a\0"), "method cannot be"),
    "seed null": (score(seed=None), "seed cannot be None"),
    "seed true": (score(seed=True), "seed cannot be True"),
    "seed a fraction": (score(seed=1.5), "seed cannot be 1.5"),
    "seed with a line end": (score(seed="1\r\n"), "seed cannot be"),
}

# File beside the scores, content, and a part of the line about it; "" where no command reads it.
OTHER_FILES = {
    "metrics half a line": ("metrics.jsonl", b'{"step": 10, "a": 1}\n{"step": 2', "line 2 is not"),
    "metrics nothing but half a line": ("metrics.jsonl", b'{"st', "line 1 is not .*it has no end"),
    "metrics nul bytes": ("metrics.jsonl", b'{"step": 1}\n' + b"\0" * 50 + b"\n", "line 2 is not"),
    "metrics blank line": ("metrics.jsonl", b'{"step": 1}\n\n{"step": 2}\n', "line 2 is not"),
    "metrics line without step": ("metrics.jsonl", b'{"a": 1}\n', "line 1 is not"),
    "metrics step null": ("metrics.jsonl", b'{"step": null}\n', "line 1 is not"),
    "metrics step text": ("metrics.jsonl", b'{"step": "1"}\n', "line 1 is not"),
    "metrics step true": ("metrics.jsonl", b'{"step": true}\n', "line 1 is not"),
    "metrics step negative": ("metrics.jsonl", b'{"step": -1}\n', "line 1 is not"),
    "metrics step a fraction": ("metrics.jsonl", b'{"step": 1.5}\n', "line 1 is not"),
    "metrics step beyond int64": ("metrics.jsonl", b'{"step": 1e30}\n', "line 1 is not"),
    "metrics step beyond float64": ("metrics.jsonl", f'{{"step": {HUGE}}}\n'.encode(), "line 1 is not"),
    "metrics lists": ("metrics.jsonl", b"[1]\n" * 5, "line 1 and 4 more is not"),
    "metrics a list of lines": ("metrics.jsonl", b'[{"step": 1}]\n', "line 1 is not"),
    "metrics NaN": ("metrics.jsonl", b'{"step": 1, "a": NaN}\n', "line 1 is not .*a is nan"),
    "metrics too many digits": ("metrics.jsonl", f'{{"step": 1, "a": {DIGITS}}}\n'.encode(), "beyond 64 bits"),
    "metrics deep": ("metrics.jsonl", b'{"step": 1, "a": ' + b"[" * DEEP + b"\n", "line 1 is not"),
    "metrics lone surrogate": ("metrics.jsonl", b'{"step": 1, "\\ud800": 1}\n', "not valid Unicode"),
    "metrics latin-1": ("metrics.jsonl", b'{"step": 1, "\xe4": 1}\n', "line 1 is not"),
    "metrics a line of two megabytes": (
        "metrics.jsonl",
        b'{"step": 1, "a": "' + b"x" * 2**21 + b'"}\n{"step": 2}\n',
        "line 1 is not .*longer than",
    ),
    "metrics utf-16": ("metrics.jsonl", '{"step": 1}\n'.encode("utf-16"), "line 1 and 1 more is not"),
    "metrics absurd": ("metrics.jsonl", b'{"step": 1, "a": 1e300}\n', "a at step 1 is 1e\\+300: left out"),
    "metrics absurd time": ("metrics.jsonl", b'{"step": 1, "time/seconds": 1e60}\n', "time/seconds at step 1 is"),
    "metrics negative time": (
        "metrics.jsonl",
        b'{"step": 1, "time/seconds": -5, "time/acting": 1}\n',
        "time/seconds at step 1 is -5, and 1 more such numbers",
    ),
    "open loop half a line": ("open_loop.jsonl", b'{"step": 10, "im', "line 1 is not"),
    "open loop nul bytes": ("open_loop.jsonl", b"\0\n", "line 1 is not"),
    "open loop blank line": ("open_loop.jsonl", b"\n" + json.dumps(OPEN_LOOP).encode() + b"\n", "line 1 is not"),
    "open loop without step": ("open_loop.jsonl", b'{"image": [1], "image_repeat": [1]}\n', "line 1 is not"),
    "open loop without repeat": ("open_loop.jsonl", b'{"step": 1, "image": [1]}\n', "image_repeat at step 1"),
    "open loop text": (
        "open_loop.jsonl",
        json.dumps({**OPEN_LOOP, "image": "12"}).encode() + b"\n",
        "image at step 20",
    ),
    "open loop nested": (
        "open_loop.jsonl",
        json.dumps({**OPEN_LOOP, "image": [[1]]}).encode() + b"\n",
        "image at step",
    ),
    "open loop absurd": (
        "open_loop.jsonl",
        json.dumps({**OPEN_LOOP, "image": [1e200]}).encode() + b"\n",
        "image at step",
    ),
    "open loop beyond int64": ("open_loop.jsonl", f'{{"step": 1, "image": [{HUGE}]}}\n'.encode(), "line 1 is not"),
    "machines half": ("machines.jsonl", b'{"step": 0, "cpu"', "line 1 is not"),
    "machines text": ("machines.jsonl", b"Intel\n", "line 1 is not"),
    "machines nul": ("machines.jsonl", b"\0" * 9, "line 1 is not"),
    "machines list": ("machines.jsonl", b"[]\n[]\n", "line 1 and 1 more is not"),
    "machines deep": ("machines.jsonl", b'{"step": 0, "gpus": ' + b"[" * 40 + b"]" * 40 + b"}\n", "deep"),
    "random empty": ("random.json", b"", "is empty"),
    "random half": ("random.json", b'{"mean": 3, "std"', "not complete JSON"),
    "random list": ("random.json", b"[1]", "expected .*episodes"),
    "random NaN": ("random.json", b'{"mean": NaN, "std": 1, "episodes": 2}', "mean is nan"),
    "random text": ("random.json", b'{"mean": "3", "std": 1, "episodes": 2}', "expected .*episodes"),
    "random no episodes": ("random.json", b'{"mean": 3, "std": 1, "episodes": 0}', "expected .*episodes"),
    "random part of an episode": ("random.json", b'{"mean": 3, "std": 1, "episodes": 0.5}', "expected .*episodes"),
    "random deep": ("random.json", b"[" * DEEP, "JSON|deep"),
    "random beyond": ("random.json", f'{{"mean": {HUGE}, "episodes": 1}}'.encode(), "mean is an integer of"),
    "config empty": ("config.yaml", b"", "expected keys and values"),
    "config nul": ("config.yaml", b"\0" * 20, "not YAML"),
    "config not utf-8": ("config.yaml", b"a: \xff\n", "not UTF-8 text .line 1"),
    "config half": ("config.yaml", b"model: {a: 1", ":1: expected|:2: expected"),
    "config a list": ("config.yaml", b"- a\n- b\n", "expected lines of `key: value`"),
    "config words": ("config.yaml", b"just words\n", "expected lines of `key: value`"),
    "config tab": ("config.yaml", b"a:\n\tb: 1\n", ":2: "),
    "config twice": ("config.yaml", b"a: 1\na: 2\n", ":2: "),
    "config that contains itself": ("config.yaml", b"a: &a\n  b: *a\n", ":2: has an alias|:1: has an alias"),
    "config of laughs": (
        "config.yaml",
        b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (c, c, c - 1, c - 1) for c in range(98, 123)),
        ":1: has an alias",
    ),
    "config merging itself": ("config.yaml", b"&a a: 1\n<<: *a\n", "has an alias"),
    "config deep": ("config.yaml", b"a: " + b"[" * 5000 + b"\n", "deep"),
    "config deep closed": ("config.yaml", b"a: " + b"{a: " * 100 + b"1" + b"}" * 100 + b"\n", "deep"),
    "config python object": ("config.yaml", b"a: !!python/object/apply:os.system [ls]\n", ":1: has a tag"),
    "config tag": ("config.yaml", b"a: !!float x\n", ":1: has a tag"),
    "config no date": ("config.yaml", b"a: 2001-99-99\n", "not YAML"),
    "config beyond int64": ("config.yaml", f"a: {HUGE}\n".encode(), "a is an integer of"),
    "config too many digits": ("config.yaml", f"a: {DIGITS}\n".encode(), "not YAML"),
    "config NaN": ("config.yaml", b"model:\n  a: [.nan]\n", r"model.a\[0\] is nan"),
    "config infinity": ("config.yaml", b"a: -.inf\n", "a is -inf"),
    "config lone surrogate": ("config.yaml", b'a: "\\ud800"\n', "not valid Unicode|not YAML"),
    "config two documents": ("config.yaml", b"a: 1\n---\nb: 2\n", ":2: expected a single document"),
    "config of a megabyte": ("config.yaml", b"a: 1\n" * 200_000, "has 1,000,000 bytes, at most"),
    "evaluation half": ("evaluation.json", b'{"task"', ""),
    "evaluation deep": ("evaluation.json", b"[" * DEEP, ""),
    "prediction empty": ("videos/0000000020-open-loop.gif", b"", "it is no GIF"),
    "prediction foreign": ("videos/0000000020-open-loop.gif", b"\x89PNG\r\n\x1a\n", "it is no GIF"),
    "prediction of four gigapixels": (
        "videos/0000000020-open-loop.gif",
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0" + b"\xff\xff\xff\xff\0\2\2D\1\0;",
        "cannot be shown",
    ),
    "prediction cut": ("videos/0000000020-open-loop.gif", b"GIF89a\x10\0\x10\0\0\0\0,", "cannot be shown"),
    "episode empty": ("videos/0000000020-episode.mp4", b"", "it is no MP4"),
    "episode foreign": ("videos/0000000020-episode.mp4", b"GIF89a" * 9, "it is no MP4"),
}


def directory(path):
    path.mkdir(parents=True)


def loop(path):
    path.symlink_to(path.name)


def dangling(path):
    path.symlink_to("nowhere")


def cross(path):
    """Two links to each other."""
    (path.parent / "other").symlink_to(path.name)
    path.symlink_to("other")


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def gigabytes(path):
    """Five gigabytes that take no room."""
    with path.open("wb") as file:
        file.truncate(5 * 2**30)


ODD = {  # what can be in the place of a file, and a part of the line about it
    directory: "is a directory",
    loop: "[Ss]ymbolic links",
    cross: "[Ss]ymbolic links",
    pipe: "is a device or a pipe",
    device: "is a device or a pipe",
    gigabytes: "has 5,368,709,120 bytes",
}
PLACES = ("config.yaml", "metrics.jsonl", "open_loop.jsonl", "machines.jsonl", "random.json")


def listing(root) -> dict[str, str]:
    """Every name below a folder with a hash of what is there."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path) and os.path.getsize(path) < 2**30:
                with open(path, "rb") as file:
                    found[path] = hashlib.sha256(file.read()).hexdigest()
            else:
                found[path] = ""
    return found


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command in a folder beside which nothing may change but out/; returns (exit code, lines on stderr)."""
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    # The library is five megabytes in every page.
    monkeypatch.setattr(report, "get_plotlyjs", lambda: "")

    def run(*words):
        before = listing(tmp_path / "work")
        code = cli.main(list(map(str, words)))
        assert listing(tmp_path / "work") == before
        err = capfd.readouterr().err
        assert "Traceback" not in err
        return code, err.splitlines()

    return run


def write_run(folder, **fields):
    """A run that is right."""
    folder.mkdir(parents=True)
    (folder / "scores.json").write_bytes(score(**fields))
    return folder


@pytest.fixture
def bad(run, tmp_path):
    """The folder of a run that a test spoils, beside one that is right."""
    write_run(tmp_path / "work" / "good", task="dmc_walker_walk")
    return write_run(tmp_path / "work" / "bad")


def lines_about_page(run, tmp_path) -> list[str]:
    """Write a page of all runs, which must show the one that is right, and return the lines on stderr."""
    code, lines = run("report", ".", "--out", tmp_path / "out" / "r.html")
    assert code == 0
    assert "Walker Walk" in (tmp_path / "out" / "r.html").read_text(encoding="utf-8")
    return lines


@pytest.mark.parametrize("case", SCORE_FILES)
def test_a_bad_score_file(case, bad, run, tmp_path):
    content, expected = SCORE_FILES[case]
    (bad / "scores.json").write_bytes(content)
    for words in (["scores"], ["scores", "--json"]):
        code, (line,) = run(*words, bad / "scores.json", bad.with_name("good"))
        assert code == 2
        assert line.startswith(f"dreamer: {bad / 'scores.json'}: ")
        assert len(line) < 500
    code, (line,) = run("scores", tmp_path / "work")
    assert code == 0
    assert line.startswith(f"{bad / 'scores.json'}: ")
    assert re.search(expected, line), line
    code, (line,) = run("scores", bad)
    assert code == 2
    assert line.startswith("dreamer: nothing to show: ")


@pytest.mark.parametrize("case", OTHER_FILES)
def test_a_bad_file_beside_the_scores(case, bad, run, tmp_path):
    name, content, expected = OTHER_FILES[case]
    (bad / name).parent.mkdir(exist_ok=True)
    (bad / name).write_bytes(content)
    lines = lines_about_page(run, tmp_path)
    if not expected:
        assert lines == []
        return
    (line,) = lines
    assert line.startswith(f"bad/{name}")
    assert re.search(expected, line), line
    assert len(line) < 500


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_something_else_in_the_place_of_a_file(make, place, bad, run, tmp_path):
    make(bad / place)
    (line,) = lines_about_page(run, tmp_path)
    assert line.startswith(f"bad/{place}: ")
    assert re.search(ODD[make], line), line


@pytest.mark.parametrize("make", [*ODD, dangling], ids=lambda make: make.__name__)
def test_something_else_in_the_place_of_a_score_file(make, run, tmp_path):
    write_run(tmp_path / "work" / "good")
    (tmp_path / "work" / "bad").mkdir()
    make(tmp_path / "work" / "bad" / "scores.json")
    code, lines = run("scores", ".")
    assert code == 0
    assert len(lines) == (make is not directory)
    code, (line,) = run("scores", "good", "bad/scores.json")
    if make is directory:
        assert (code, line) == (0, "bad/scores.json: no scores.json in this directory or below it")
        return
    assert code == 2
    assert re.search(ODD.get(make, "No such file"), line), line


@pytest.mark.parametrize("make", [*ODD, dangling], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["0000000020-episode.mp4", "0000000020-open-loop.gif", ""])
def test_something_else_in_the_place_of_a_video(make, name, bad, run, tmp_path):
    if name:
        (bad / "videos").mkdir()
    make(bad / "videos" / name)
    assert len(lines_about_page(run, tmp_path)) == bool(name)


@pytest.mark.parametrize("make", [*ODD, dangling], ids=lambda make: make.__name__)
def test_something_else_as_a_folder_of_runs(make, run, tmp_path):
    make(tmp_path / "work" / "runs")
    for words in (["scores"], ["plot", "--out", tmp_path / "out" / "a.png"], ["report", "--out", "a.html"]):
        code, (line,) = run(*words, "runs")
        assert code == 2
        assert line.startswith("dreamer: ")
        assert len(line) < 500
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("make", [*ODD, dangling], ids=lambda make: make.__name__)
@pytest.mark.parametrize("command", [["eval"], ["imagine", "--out", "a.gif"]], ids=["eval", "imagine"])
def test_something_else_as_a_log_directory_or_config(make, command, run, tmp_path):
    (tmp_path / "work" / "run").mkdir()
    make(tmp_path / "work" / "run" / "config.yaml")
    for logdir in ("run", "run/config.yaml"):
        code, (line,) = run(*command, "--logdir", logdir)
        assert code == 2
        assert line.startswith("dreamer: ")
        assert f"{logdir}" in line


@pytest.mark.parametrize("case", [case for case in OTHER_FILES if case.startswith("config")])
@pytest.mark.parametrize("command", [["eval"], ["imagine", "--out", "a.gif"]], ids=["eval", "imagine"])
def test_a_bad_config_of_a_run_that_is_inspected(case, command, run, tmp_path):
    _, content, _ = OTHER_FILES[case]
    (tmp_path / "work" / "run").mkdir()
    (tmp_path / "work" / "run" / "config.yaml").write_bytes(content)
    code, (line,) = run(*command, "--logdir", "run")
    assert code == 2
    assert line.startswith("dreamer: run cannot be opened by this version of dreamer: ")
    assert len(line) < 6000


LONG = "x" * 300
OVERLONG = "/".join(["x" * 200] * 30)
PATHS = {
    "no such user": ("~nosuchuser/x", "there is no such user"),
    "nul": ("a\0b", "cannot hold a NUL"),
    "name too long": (LONG, "longer than a file system takes"),
    "path too long": (OVERLONG, "longer than a file system takes"),
    "lone surrogate": ("\ud800", "no valid text"),
}
TAKE_PATHS = {
    "scores RUN": ["scores"],
    "plot RUN": ["plot", "--out", "a.png"],
    "plot --out": ["plot", "good", "--out"],
    "report RUN": ["report", "--out", "a.html"],
    "report --out": ["report", "good", "--out"],
    "eval --logdir": ["eval", "--logdir"],
    "eval --video": ["eval", "--logdir", "run", "--video"],
    "imagine --logdir": ["imagine", "--out", "a.gif", "--logdir"],
    "imagine --out": ["imagine", "--logdir", "run", "--out"],
    "train --logdir": ["train", "--configs", "toy", "--logdir"],
}


@pytest.mark.parametrize("option", TAKE_PATHS)
@pytest.mark.parametrize("case", PATHS)
def test_paths_that_no_file_can_have(option, case, run, tmp_path):
    write_run(tmp_path / "work" / "good")
    path, expected = PATHS[case]
    code, (line,) = run(*TAKE_PATHS[option], path)
    assert code == 2
    assert expected in line
    assert line.isprintable()
    assert len(line) < 500


COMMAND_LINES = {
    "a window of no frames": (
        ["plot", "good", "--out", "a.png", "--bin", "1e-9"],
        "--bin: expected a number of frames",
    ),
    "a window of nothing": (["scores", "good", "--bin", ""], "--bin: expected a number of frames"),
    "a window of too many digits": (["scores", "good", "--bin", DIGITS], "--bin: expected a number of frames"),
    "a window that is no number": (["report", "good", "--out", "a.html", "--bin", "1\n2"], "--bin: expected a number"),
    "a task that is not there": (["scores", "good", "--tasks", "a\nb"], "no run of the task 'a"),
    "a task of a megabyte": (["scores", "good", "--tasks", "x" * 10**6], "no run of the task"),
    "a broken pattern": (["scores", "good", "--tasks", "[!"], "no run of the task '[!'"),
    "a pattern of many stars": (["scores", "good", "--tasks", "*a" * 2000 + "b"], "no run of the task"),
    "a method that is not there": (["scores", "good", "--methods", ""], "no run of the method ''"),
    "no runs": (["scores"], "the following arguments are required: RUN"),
    "a task that is not there beside an empty folder": (
        ["scores", "empty", "good", "--tasks", "a"],
        "no run of the task",
    ),
    "an empty folder": (["scores", "empty"], "no scores.json in this directory"),
    "nothing there": (["scores", "absent"], "absent: No such file"),
    "a file as a folder": (["scores", "good/scores.json/x"], "Not a directory"),
    "an option with a line end": (["scores", "good", "--a\nb"], "unrecognized arguments: --a b"),
    "another suffix": (["plot", "good", "--out", "a.jpg"], "the figure can be a .png, a .pdf, an .svg or a directory"),
    "a suffix of much text": (["plot", "good", "--out", "a." + "j" * 200], "the figure can be"),
    "a figure below a file": (["plot", "good", "--out", "good/scores.json/a.png"], "scores.json"),
    "figures below a file": (["plot", "good", "--out", "good/scores.json/a"], "scores.json"),
    "a figure where nothing can be": (["plot", "good", "--out", "/proc/none/a.png"], "/proc/none"),
    "a page below a file": (["report", "good", "--out", "good/scores.json/a.html"], "scores.json"),
    "a page where nothing can be": (["report", "good", "--out", "/proc/none/a.html"], "/proc/none"),
    "a page in the place of a folder": (["report", "good", "--out", "folder.html"], "folder.html"),
    "a page of another suffix": (["report", "good", "--out", "a.pdf"], "ends with .html"),
    "a figure through a link to itself": (["plot", "good", "--out", "loop/a.png"], "loop"),
    "runs through a link to itself": (["scores", "loop"], "loop"),
    "a run through a link to itself": (["eval", "--logdir", "loop"], "loop"),
    "a video through a link to itself": (["eval", "--logdir", "run", "--video", "loop/a.mp4"], "loop"),
    "episodes of too many digits": (["eval", "--logdir", "run", "--episodes", DIGITS], "--episodes: expected a whole"),
    "episodes beyond int64": (["eval", "--logdir", "run", "--episodes", str(2**63)], "--episodes: expected a whole"),
    "a seed of too many digits": (
        ["imagine", "--logdir", "run", "--out", "a.gif", "--seed", DIGITS],
        "--seed: expected",
    ),
    "a horizon of nothing": (["imagine", "--logdir", "run", "--out", "a.gif", "--horizon", ""], "--horizon: expected"),
    "a precision with a line end": (["eval", "--logdir", "run", "--precision", "a\nb"], "--precision: expected one of"),
    "a renderer of much text": (["eval", "--logdir", "run", "--env.renderer", "x" * 5000], "--env.renderer: expected"),
    "no run": (["eval", "--logdir", "empty"], "holds no config.yaml"),
    "an overlay with a line end": (["configs", "a\nb"], "unknown overlay"),
    "an overlay of another folder": (["configs", "../configs/dmc"], "did you mean dmc?"),
    "an overlay of a megabyte": (["configs", "x" * 10**6], "unknown overlay"),
    "an overlay with a nul": (["configs", "a\0"], "unknown overlay"),
    "a suite with a line end": (["tasks", "--suite", "a\nb"], "unknown suite"),
    "a suite of nothing": (["tasks", "--suite", ""], "unknown suite ''"),
    "a command of nothing": ([""], "unknown command ''"),
    "a command with a line end": (["sco\nres"], "unknown command"),
    "a command of a megabyte": (["x" * 10**6], "unknown command"),
    "a key with a line end": (["--a\nb", "1"], "unknown key --a b"),
    "a key of a megabyte": (["--" + "x" * 10**6, "1"], "unknown key"),
    "a value of too many digits": (["--steps", DIGITS], "--steps: expected a whole number"),
    "a value with a line end": (["--method", "a\nb"], "--method: expected a text"),
    "a task with a nul": (["--task", "a\0b"], "task: expected a text"),
    "a task with a lone surrogate": (["--task", "\udcff"], "task: expected a text"),
    "a task with an escape": (["--task", "\x1b[31m"], "task: expected a text"),
}


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_a_bad_command_line(case, run, tmp_path):
    work = tmp_path / "work"
    write_run(work / "good")
    for folder in ("empty", "folder.html", "run"):
        (work / folder).mkdir()
    config.load(["toy"]).save(work / "run" / "config.yaml")
    (work / "loop").symlink_to("loop")
    words, expected = COMMAND_LINES[case]
    code, (line,) = run(*words)
    assert code == 2
    assert line.startswith("dreamer: ")
    assert expected in line
    assert len(line) < 800


@pytest.mark.parametrize(
    "command", [["train"], ["eval", "--logdir", "run"], ["imagine", "--logdir", "run", "--out", "a.gif"]]
)
def test_a_platform_that_does_not_exist(command, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "foo")
    (tmp_path / "work" / "run").mkdir()
    config.load(["dmc"]).save(tmp_path / "work" / "run" / "config.yaml")
    assert run(*command) == (2, ["dreamer: MUJOCO_GL is 'foo': expected egl, osmesa, glfw, or unset"])


def test_every_table_is_large_enough():
    assert len(SCORE_FILES) + len(OTHER_FILES) + len(COMMAND_LINES) + len(PATHS) * len(TAKE_PATHS) > 200

import json
import os
from pathlib import Path

import pandas
import pytest

from dreamer.results import scores

RUN = {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0}
PUBLISHED = [
    {"task": "dmc_cup_catch", "method": "dreamer", "seed": "1", "xs": [1e4, 2e4], "ys": [0.5, 960.25]},
    {"task": "dmc_hopper_hop", "method": "planet", "seed": 2, "xs": [30, 10, 20], "ys": [3, 1, 2], "note": "x"},
]


def test_append_writes_the_published_field_names_in_order_of_frames(tmp_path):
    path = tmp_path / "run" / "scores.json"
    for x, y in ((20_000, 2.5), (30_000, 3.0), (10_000, 1.0), (20_000, 4.0)):
        returned = scores.append(path, **RUN, x=x, y=y)
    assert json.loads(path.read_text()) == {**RUN, "xs": [10_000, 20_000, 30_000], "ys": [1.0, 4.0, 3.0]}
    assert scores.read(path) == [returned]
    assert returned.path == path
    assert os.listdir(path.parent) == ["scores.json"]


def test_published_list_is_read_unchanged(tmp_path):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(PUBLISHED))
    entries = scores.read(path)
    assert [(e.task, e.method, e.seed, e.xs, e.ys) for e in entries] == [
        ("dmc_cup_catch", "dreamer", "1", [10000.0, 20000.0], [0.5, 960.25]),
        ("dmc_hopper_hop", "planet", 2, [30, 10, 20], [3, 1, 2]),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty, expected JSON"),
        (b" \n", "is empty, expected JSON"),
        (b"{}", "holds no scores"),
        (b"[]", "holds no scores"),
        (b'{"task": "a", "method"', "not complete JSON"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"3", "expected an object"),
        (b"[1, 2]", "entry 0: expected an object"),
        (b'{"task": "a", "method": "b", "xs": []}', "lacks seed, ys"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": [], "ys": []}', "0 xs and 0 ys"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": [1, 2], "ys": [1]}', "2 xs and 1 ys"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": [1, 2], "ys": [1, NaN]}', r"ys\[1\] is nan"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": [1, 2], "ys": [1e999, 1]}', r"ys\[0\] is inf"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": [true], "ys": [1]}', r"xs\[0\] is True"),
        (b'{"task": "a", "method": "b", "seed": 0, "xs": "ab", "ys": [1, 2]}', "xs cannot be 'ab'"),
        (b'{"task": null, "method": "b", "seed": 0, "xs": [1], "ys": [1]}', "task cannot be None"),
    ],
)
def test_bad_file_is_one_line_that_names_it(tmp_path, content, complaint):
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as error:
        scores.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=complaint):
        scores.append(path, **RUN, x=1, y=1.0)
    assert path.read_bytes() == content


def test_every_prefix_of_a_file_is_refused(tmp_path):
    path = tmp_path / "scores.json"
    scores.append(path, **RUN, x=10_000, y=1.0)
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)):
            scores.read(path)


def test_interrupted_append_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    scores.append(path, **RUN, x=10_000, y=1.0)
    before = path.read_bytes()

    def fail(self, text, **kwargs):
        self.write_bytes(text[:5].encode())
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        scores.append(path, **RUN, x=20_000, y=2.0)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["scores.json"]


def test_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "scores.json"
    scores.append(path, **RUN, x=10_000, y=1.0)
    before = path.read_bytes()
    with path.open("rb") as reader:
        scores.append(path, **RUN, x=20_000, y=2.0)
        assert reader.read() == before
    assert path.read_bytes() != before


@pytest.mark.parametrize("changed", [{"task": "dmc_walker_run"}, {"method": "planet"}, {"seed": 1}])
def test_append_refuses_another_run(tmp_path, changed):
    path = tmp_path / "scores.json"
    scores.append(path, **RUN, x=10_000, y=1.0)
    with pytest.raises(ValueError, match="holds dmc_walker_walk, dreamer, seed 0, cannot append"):
        scores.append(path, **{**RUN, **changed}, x=20_000, y=1.0)


@pytest.mark.parametrize(("x", "y"), [(-1, 0.0), (5, float("nan")), (5, float("-inf"))])
def test_append_refuses_bad_numbers(tmp_path, x, y):
    with pytest.raises(ValueError, match="cannot append"):
        scores.append(tmp_path / "scores.json", **RUN, x=x, y=y)
    assert os.listdir(tmp_path) == []


def test_drop_after_keeps_the_points_of_the_checkpoint(tmp_path):
    path = tmp_path / "scores.json"
    scores.drop_after(path, 10)  # a run without scores has nothing to drop
    for x in (10, 20, 30):
        scores.append(path, **RUN, x=x, y=x / 10)
    scores.drop_after(path, 20)
    assert scores.read(path)[0][3:5] == ([10, 20], [1.0, 2.0])
    scores.drop_after(path, 5)
    assert not path.exists()


def test_published_list_is_neither_extended_nor_cut(tmp_path):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(PUBLISHED))
    with pytest.raises(ValueError, match="and 1 more"):
        scores.append(path, task="dmc_cup_catch", method="dreamer", seed="1", x=3e4, y=1.0)
    with pytest.raises(ValueError, match="holds 2 runs"):
        scores.drop_after(path, 15)
    assert json.loads(path.read_text()) == PUBLISHED


def test_find_walks_directories_and_names_what_it_cannot_use(tmp_path):
    for seed in (0, 1):
        scores.append(tmp_path / "runs" / str(seed) / "scores.json", **{**RUN, "seed": seed}, x=1, y=1.0)
    broken = tmp_path / "runs" / "broken" / "scores.json"
    broken.parent.mkdir()
    broken.write_text('{"task"')
    (tmp_path / "empty").mkdir()
    published = tmp_path / "dreamer.json"
    published.write_text(json.dumps(PUBLISHED))
    paths = [tmp_path / "runs", tmp_path / "runs" / "0", published, tmp_path / "empty"]
    entries, problems = scores.find(paths)
    assert [(entry.task, entry.seed) for entry in entries] == [
        ("dmc_walker_walk", 0),
        ("dmc_walker_walk", 1),
        ("dmc_cup_catch", "1"),
        ("dmc_hopper_hop", 2),
    ]
    assert [problem.split(":")[0] for problem in problems] == list(map(str, [broken, tmp_path / "empty"]))
    assert "\n" not in "".join(problems)
    for named in (broken, tmp_path / "absent"):
        with pytest.raises(ValueError, match=f"^{named}: "):
            scores.find([*paths, named])


def test_a_score_file_is_one_table_to_pandas(tmp_path):
    scores.append(tmp_path / "scores.json", **RUN, x=1000, y=2.5)
    scores.append(tmp_path / "scores.json", **RUN, x=2000, y=3.5)
    table = pandas.DataFrame(json.loads((tmp_path / "scores.json").read_text()))
    assert table.to_dict("list") == {
        "task": ["dmc_walker_walk"] * 2,
        "method": ["dreamer"] * 2,
        "seed": [0, 0],
        "xs": [1000, 2000],
        "ys": [2.5, 3.5],
    }

import json

import pandas
import pytest

from dreamer import config
from dreamer.results import scores

RUN = {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0}
PUBLISHED = [
    {"task": "dmc_cup_catch", "method": "dreamer", "seed": "1", "xs": [1e4, 2e4], "ys": [0.5, 960.25]},
    {"task": "dmc_hopper_hop", "method": "planet", "seed": 2, "xs": [30, 10, 20], "ys": [3, 1, 2], "note": "x"},
]


def write(path, xs, ys, **changed):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**RUN, **changed, "xs": xs, "ys": ys}))


def test_published_list_is_read_unchanged(tmp_path):
    path = tmp_path / "published.json"
    path.write_text(json.dumps(PUBLISHED))
    entries = scores.read(path)
    assert [(e.task, e.method, e.seed, e.xs, e.ys) for e in entries] == [
        ("dmc_cup_catch", "dreamer", "1", [10000.0, 20000.0], [0.5, 960.25]),
        ("dmc_hopper_hop", "planet", 2, [30, 10, 20], [3, 1, 2]),
    ]


def test_runs_that_have_metrics_and_no_scores_are_found_where_they_are_asked_for(tmp_path):
    write(tmp_path / "played" / "scores.json", [1], [2])
    settings = {"seed": 3, "behavior.bootstrap": False, "task": "dot_discrete"}
    for name, run in (("learned", config.load(["toy"], settings)), ("damaged", None), ("nothing", None)):
        (tmp_path / name).mkdir()
        if run:
            run.save(tmp_path / name / "config.yaml")
        elif name == "damaged":
            (tmp_path / name / "config.yaml").write_text("a: [\n")
        (tmp_path / name / "metrics.jsonl").write_text("")
    assert [entry.path.parent.name for entry in scores.find([tmp_path])[0]] == ["played"]
    entries, (problem,) = scores.find([tmp_path], unscored=True)
    path = tmp_path / "learned" / "scores.json"
    assert entries[0] == ("toy_dot_discrete", "no_value", 3, [], [], path)
    assert [entry.path.parent.name for entry in entries] == ["learned", "played"]
    assert problem.startswith(f"{tmp_path / 'damaged' / 'config.yaml'}:2: ")
    _, problems = scores.find([tmp_path / "learned", tmp_path / "nothing"])
    nothing = f"{tmp_path / 'nothing'}: no scores.json"
    assert problems == [
        f"{path.parent}: no scores.json in this directory or below it; `dreamer plot --y METRIC` draws the metrics "
        "that are there",
        f"{nothing} in this directory or below it",
    ]
    assert scores.find([tmp_path / "nothing"], unscored=True) == (
        [],
        [f"{nothing}, nor metrics.jsonl beside config.yaml, in this directory or below it"],
    )
    with pytest.raises(ValueError, match=r"metrics.jsonl: has the metrics of a run, which is named by its directory$"):
        scores.find([tmp_path / "learned" / "metrics.jsonl"], unscored=True)
    path.write_text("{")  # which takes nothing else with it
    entries, problems = scores.find([path.parent], unscored=True)
    assert [entry.xs for entry in entries] == [[]]
    assert problems[0].startswith(f"{path}: not complete JSON")


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
    assert path.read_bytes() == content


def test_every_prefix_of_a_file_is_refused(tmp_path):
    path = tmp_path / "scores.json"
    write(path, [10_000], [1.0])
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=str(path)):
            scores.read(path)


def test_find_walks_directories_and_names_what_it_cannot_use(tmp_path):
    for seed in (0, 1):
        write(tmp_path / "runs" / str(seed) / "scores.json", [1], [1.0], seed=seed)
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
    write(tmp_path / "scores.json", [1000, 2000], [2.5, 3.5])
    table = pandas.DataFrame(json.loads((tmp_path / "scores.json").read_text()))
    assert table.to_dict("list") == {
        "task": ["dmc_walker_walk"] * 2,
        "method": ["dreamer"] * 2,
        "seed": [0, 0],
        "xs": [1000, 2000],
        "ys": [2.5, 3.5],
    }

import json

import numpy as np
import pytest

from dreamer.results import runs, scores

OPEN_LOOP = {"step": 20, "context": 5, "image": [1.0, 2.0], "image_repeat": [3.0, 4.0], "reward": [0.5, None]}
OPEN_LOOP["reward_repeat"] = [0.25, 0.125]


CHANGE = {"frames": 15, "key": "actor.lr", "from": 8e-05, "to": 3e-05}


def write_run(directory, **files):
    """A run with its scores and, by name without suffix, the text of further files."""
    directory.mkdir(parents=True)
    content = {"task": "toy_dot", "method": "dreamer", "seed": 0, "xs": [10, 20], "ys": [1, 2]}
    (directory / "scores.json").write_text(json.dumps(content))
    for name, text in files.items():
        (directory / ".".join(name.rsplit("_", 1))).write_text(text)
    return directory


def lines(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


def read_one(directory):
    entries, problems = scores.find([directory])
    (run,), more = runs.read(entries)
    return run, problems + more


def series(run, name):
    return tuple(values.tolist() for values in run.metrics[name])


def test_everything_that_a_run_leaves(tmp_path):
    metrics = lines(
        {"step": 10, "train/kl": 3.5, "time/training": 0.5, "time/acting": 0.25, "time/seconds": 100},
        {"step": 10, "eval/return": 1.0},
        {"step": 20, "train/kl": None, "time/training": 1.0, "time/overlap": 0.5, "time/seconds": 20},
    )
    directory = write_run(
        tmp_path / "run",
        metrics_jsonl=metrics,
        open_loop_jsonl=lines(OPEN_LOOP),
        config_yaml="suite: toy\nenv:\n  action_repeat: 2\nmodel: {lr: 6e-4, discount_head: false}\n",
        machines_jsonl=lines({"step": 0, "cpu": "a CPU", "cores": 2}),
        run_json=json.dumps({"format": 1, "dreamer": "0.1.0", "changes": [CHANGE]}),
    )
    (directory / "videos").mkdir()
    for name in ("0000000010-episode.mp4", "0000000020-episode.mp4", "0000000010-open-loop.gif", "x-episode.mp4"):
        (directory / "videos" / name).write_text("")
    run, problems = read_one(directory)
    assert problems == []
    assert run.settings == {"suite": "toy", "env.action_repeat": 2, "model.lr": 6e-4, "model.discount_head": False}
    assert series(run, "train/kl") == ([10], [3.5])
    assert series(run, "time/training") == ([10, 20], [0.5, 1])
    # Acting beside the training is no part of the time beside it.
    assert (run.frames, run.seconds, run.parts) == (20, 120, {"training": 70, "acting": 25, "other": 25})
    assert series(run, "time/overlap") == ([20], [0.5])
    np.testing.assert_array_equal(runs.errors(run.open_loop[0], "reward"), [0.5, np.nan])
    assert run.machines == [{"step": 0, "cpu": "a CPU", "cores": 2}]
    assert run.changes == [CHANGE]
    assert run.episode.name == "0000000020-episode.mp4"
    assert runs.frames_of(run.episode) == 20
    assert run.prediction.name == "0000000010-open-loop.gif"


def test_a_run_with_scores_alone(tmp_path):
    run, problems = read_one(write_run(tmp_path / "run"))
    assert problems == []
    assert run == runs.Run(run.scores)


def test_runs_of_a_list_have_no_directory(tmp_path):
    directory = write_run(tmp_path / "run", config_yaml="seed: 1\n")
    entry = json.loads((directory / "scores.json").read_text())
    (directory / "scores.json").write_text(json.dumps([entry, {**entry, "seed": 1}]))
    found, problems = runs.read(scores.find([directory])[0])
    assert [run.settings for run in found] == [{}, {}]
    assert problems == []


def test_settings_in_which_runs_of_one_mean_differ(tmp_path):
    def settings(seed, rest, *, task="toy_dot", method="dreamer", steps=10):
        identity = f"suite: toy\ntask: dot\nmethod: {method}\nseed: {seed}\nsteps: {steps}\n"
        directory = write_run(tmp_path / f"{len(list(tmp_path.iterdir()))}", config_yaml=identity + rest)
        content = {"task": task, "method": method, "seed": seed, "xs": [1], "ys": [2]}
        (directory / "scores.json").write_text(json.dumps(content))

    def mixed():
        entries = sorted(scores.find([tmp_path])[0], key=lambda entry: entry.path)
        found, problems = runs.read_settings(entries)
        assert problems == []
        return runs.mixed_settings(found)

    settings(0, "precision: auto\nmodel: {deter: 200, discount_head: false}\n")
    # Another seed, length, order of keys, task, method and machine, a run without settings: all that a mean may hide.
    machine = "env: {renderer: egl, retries: 3, start_timeout: 900}\nlogger: {also: wandb, project: mine}\n"
    settings(1, f"model: {{discount_head: false, deter: 200}}\nprecision: auto\n{machine}", steps=20)
    settings(0, "model: {deter: 9}\n", task="toy_other")
    settings(0, "model: {deter: 9}\n", method="random")
    write_run(tmp_path / "without")
    assert mixed() == {}
    settings(2, "precision: auto\nmodel: {deter: 8, discount_head: false}\n")
    settings(3, "model: {deter: 200, discount_head: true}\n")
    keys = {"precision": ["auto", None], "model.deter": [200, 8], "model.discount_head": [False, True]}
    assert mixed() == {("toy_dot", "dreamer"): keys}


def test_a_last_line_that_is_still_being_written_is_left_out(tmp_path):
    whole = lines({"step": 10, "a": 1.0})
    run, problems = read_one(write_run(tmp_path / "run", metrics_jsonl=whole + '{"step": 20, "a"', open_loop_jsonl=""))
    assert series(run, "a") == ([10], [1.0])
    (problem,) = problems
    assert problem.endswith(': line 2 is not {"step": frames, ...}: left out (it has no end)')


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("metrics.jsonl", 'x\n{"step": 1, "a": true}\n[1]\n{"a": 2}\n', "line 1 and 2 more is not"),
        ("metrics.jsonl", '{"step": 1}\n{"step": "2"}\n', "line 2 is not"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 1' + "0" * 400 + "}\n", "line 2 is not"),
        ("open_loop.jsonl", '{"step": 3, "image": [1]}\n', "image_repeat at step 3 is no list of numbers"),
        ("open_loop.jsonl", lines({**OPEN_LOOP, "reward": [1, "x"]}), "reward at step 20 is no list of numbers"),
        ("config.yaml", "a: [1\n", "2: expected ',' or ']', but got '<stream end>'"),
        ("config.yaml", "just words\n", "expected lines of `key: value`"),
        ("config.yaml", "", "expected keys and values"),
        ("config.yaml", "a: \x01\n", "not YAML: unacceptable character #x0001"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line_and_left_out(tmp_path, name, text, complaint):
    directory = write_run(tmp_path / "run")
    (directory / name).write_text(text)
    run, (problem,) = read_one(directory)
    assert problem.replace(f"{name}:2", f"{name}: 2").startswith(f"{directory / name}: {complaint}")
    assert "\n" not in problem
    assert (run.settings, run.open_loop) == ({}, [])
    assert run.frames == (name == "metrics.jsonl")


def test_values_of_settings_in_words():
    words = [None, True, 6e-4, "a\nb", "x" * 200, "x" * 201, list(range(999))]
    assert [runs.in_words(value) for value in words[:4]] == ["missing", "true", "0.0006", "a b"]
    assert runs.in_words(words[4]) == words[4]
    assert runs.in_words(words[5]) == "x" * 197 + "..."
    assert len(runs.in_words(words[6])) == 200


def test_a_directory_in_the_place_of_a_file(tmp_path):
    directory = write_run(tmp_path / "run")
    for name in ("metrics.jsonl", "config.yaml"):
        (directory / name).mkdir()
    _, problems = read_one(directory)
    assert [problem.split(":")[0] for problem in problems] == [
        str(directory / name) for name in ("config.yaml", "metrics.jsonl")
    ]


@pytest.mark.parametrize("content", ['{"format": 1', "[]", '{"changes": [{"key": "x"}]}', '{"changes": 3}'])
def test_a_record_that_is_wrong_is_left_out_and_told(tmp_path, content):
    run, problems = read_one(write_run(tmp_path / "run", run_json=content))
    assert run.changes == []
    assert len(problems) == 1
    assert "run.json" in problems[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"dreamer": "0.2.0", "commit": "0123456789abcdef", "clean": True}, "0.2.0, commit 0123456789"),
        ({"dreamer": "0.2.0", "commit": "0123456789abcdef", "clean": False}, "0.2.0, commit 0123456789, changed"),
        ({"dreamer": "0.2.0", "commit": "0.2.0", "clean": None}, "0.2.0"),
        ({"dreamer": "0.1.0"}, "0.1.0"),
        ({}, ""),
    ],
)
def test_the_software_of_a_start_in_words(line, words):
    assert runs.software_in_words(line) == words


def test_a_run_that_is_older_than_a_key_did_what_the_key_says():
    older, newer = {"model.deter": 200}, {"model.deter": 200, "planner.horizon": 12, "loop.overlap": True, "x": 1}
    assert runs.differences([older, newer]) == {"loop.overlap": [False, True], "x": [None, 1]}


def test_a_metric_in_the_place_of_returns(tmp_path):
    values = {"a": (3.5, None, 2.5), "b": (4.5, 1e300, 0.5), "c": ()}
    for name, of in values.items():
        steps = [{"step": 10 * (n + 1), "train/kl": value, "train/loss": 7} for n, value in enumerate(of)]
        write_run(tmp_path / name, metrics_jsonl=lines(*steps))
    entry = {"task": "toy_dot", "method": "dreamer", "xs": [10], "ys": [1]}
    (tmp_path / "many.json").write_text(json.dumps([{**entry, "seed": 8}, {**entry, "seed": 9}]))
    entries, _ = scores.find([tmp_path, tmp_path / "many.json"])
    found, problems = runs.with_metric(entries, "train/kl", [])
    assert [(run.path.parent.name, run.xs, run.ys) for run in found] == [
        ("a", [10, 30], [3.5, 2.5]),
        ("b", [10, 30], [4.5, 0.5]),
    ]
    assert problems == [
        f"{tmp_path / 'b' / 'metrics.jsonl'}: train/kl at step 20 is 1e+300: left out",
        f"{tmp_path / 'c' / 'metrics.jsonl'}: has no train/kl: left out",
        *[f"{tmp_path / 'many.json'}: scores alone, no metrics: left out"] * 2,
    ]
    with pytest.raises(ValueError, match=r'^unknown metric "train/kll": the nearest valid names are train/kl, train/l'):
        runs.with_metric(entries, "train/kll", [])
    only = [entry for entry in entries if entry.path.parent.name == "c"]
    with pytest.raises(ValueError, match=r"^no run has metrics: .*c.metrics.jsonl: has no train/kl$"):
        runs.with_metric(only, "train/kl", ["d: damaged: left out"])
    (tmp_path / "c" / "metrics.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"^no run has metrics: .*c.metrics.jsonl: line 1 is not .*it has no end"):
        runs.with_metric(only, "train/kl", [])
    with pytest.raises(ValueError, match=r"^no run has metrics: d: damaged$"):
        runs.with_metric([], "train/kl", ["d: damaged: left out"])

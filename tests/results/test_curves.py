import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from dreamer.results import curves
from dreamer.results.scores import Scores


def make_scores(xs, ys, **fields):
    return Scores(**{"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, **fields}, xs=xs, ys=ys)


def write_run(directory, **fields):
    directory.mkdir(parents=True)
    content = {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, "xs": [1], "ys": [2], **fields}
    (directory / "scores.json").write_text(json.dumps(content))
    return directory


def names(entries):
    return {(entry.task, entry.method) for entry in entries}


def test_windows_without_frames_cost_nothing():
    xs, ys = curves.align([make_scores([0, 10**15], [1.0, 2.0]), make_scores([1], [4.0])], window=2)
    np.testing.assert_allclose(xs, [1, 10**15 + 1])
    np.testing.assert_allclose(ys, [[1, 2], [4, np.nan]])


def test_windows_that_leave_more_points_than_can_be_seen(monkeypatch):
    monkeypatch.setattr(curves, "POINTS", 3)
    run = make_scores([0, 10, 20, 30], [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"^--bin 10 leaves 4 points of a curve, expected at most 3$"):
        curves.align([run], window=10)
    assert len(curves.align([run], window=15)[0]) == 3


def test_a_curve_of_a_million_points_becomes_a_hundred():
    points = np.arange(10**6)
    xs, ys = curves.align([make_scores((points * 5).tolist(), (points / 1e4).tolist())])
    assert xs.shape == (100,)
    np.testing.assert_allclose(ys[0], np.arange(0.5, 100), atol=1e-3)


def test_complaints_that_nobody_would_read_are_counted(capsys):
    curves.complain(f"file {index}\nx" for index in range(curves.COMPLAINTS))
    assert capsys.readouterr().err == "".join(f"file {index} x\n" for index in range(curves.COMPLAINTS))
    curves.complain(str(index) for index in range(curves.COMPLAINTS + 1234))
    assert capsys.readouterr().err.splitlines()[-1] == "and 1,234 more lines like these"


def test_more_tasks_than_can_be_shown():
    entries = [make_scores([1], [1], task=f"toy_{index}") for index in range(1001)]
    curves.refuse_many(entries, tasks=1001, methods=1, what="a figure")
    with pytest.raises(ValueError, match=r"^1,001 tasks are too many for a figure, which takes 9: .* --tasks 'toy_0'"):
        curves.refuse_many(entries, tasks=9, methods=1, what="a figure")


def test_tasks_and_methods_are_chosen_by_name_and_pattern(tmp_path):
    for index, (task, method) in enumerate(
        [("dmc_walker_walk", "dreamer"), ("dmc_walker_run", "dreamer"), ("toy_dot", "dreamer"), ("toy_dot", "random")]
    ):
        write_run(tmp_path / str(index), task=task, method=method)
    assert len(curves.collect([tmp_path])) == 4
    assert names(curves.collect([tmp_path], ["walker_*"])) == {
        ("dmc_walker_walk", "dreamer"),
        ("dmc_walker_run", "dreamer"),
    }
    both = curves.collect([tmp_path], ["dot", "dmc_walker_run"], ["r*", "dreamer"])
    assert names(both) == {("toy_dot", "dreamer"), ("toy_dot", "random"), ("dmc_walker_run", "dreamer")}
    with pytest.raises(ValueError, match=r"^no run of the task 'walkr': there are dmc_walker_run, dmc_walker_walk"):
        curves.collect([tmp_path], ["dot", "walkr"])
    with pytest.raises(ValueError, match=r"^nothing to show: no run of random on dmc_walker_run$"):
        curves.collect([tmp_path], ["walker_run"], ["random"])


def test_no_pattern_is_longer_than_it_takes_seconds_to_translate(monkeypatch, tmp_path):
    lengths = []
    monkeypatch.setattr(curves.fnmatch, "fnmatchcase", lambda name, pattern: lengths.append(len(pattern)))
    with pytest.raises(ValueError, match="^no run of the task 'xxx") as error:
        curves.collect([write_run(tmp_path / "run")], ["x" * 10**6])
    assert set(lengths) == {curves.LONGEST}
    assert len(str(error.value)) < 200


def test_dreamer_comes_first_and_random_actions_last():
    entries = [make_scores([1], [1], method=method) for method in ("random", "a3c", "planet", "dreamer")]
    assert curves.methods_of(entries) == ["dreamer", "a3c", "planet", "random"]


def test_runs_are_in_the_order_of_their_seeds():
    entries = [make_scores([1], [1], seed=seed) for seed in (10, 2, "mean", "10", 0)]
    assert [run.seed for run in curves.of(entries, "dmc_walker_walk", "dreamer")] == [0, 2, 10, "10", "mean"]


def test_given_windows_begin_at_multiples_of_their_width():
    xs, ys = curves.align([make_scores([5, 12, 18, 31], [1.0, 2.0, 4.0, 8.0]), make_scores([19], [9.0])], window=10)
    np.testing.assert_allclose(xs, [5, 15, 35])
    np.testing.assert_allclose(ys, [[1, 3, 8], [np.nan, 9, np.nan]])
    # A point on the border belongs to the window that begins there.
    xs, ys = curves.align([make_scores([10, 20], [1.0, 2.0])], window=10)
    np.testing.assert_allclose(xs, [15, 25])
    np.testing.assert_allclose(ys, [[1, 2]])


def test_the_last_frame_count_that_most_runs_reach():
    nan = np.nan
    frames, values = curves.last_common(
        np.array([1.0, 2, 3, 4]), np.array([[1, 2, 3, 4], [nan, 6, 7, nan], [8, 9, nan, nan]])
    )
    assert (frames, values.tolist()) == (2, [2, 6, 9])
    frames, values = curves.last_common(np.array([1.0, 5]), np.array([[1, nan], [nan, 7]]))
    assert (frames, values.tolist()) == (5, [7])


def test_titles_drop_the_suite():
    assert curves.title("dmc_walker_walk") == "Walker Walk"
    assert curves.title("my_own_task") == "My Own Task"
    assert curves.title("gym_my_dict:Forage-v0") == "my_dict:Forage-v0"  # an id of gymnasium as it is
    assert (curves.suite_of("atari_pong"), curves.suite_of("my_own_task")) == ("atari", "other")


def test_references_weigh_episodes_and_belong_to_a_runs_own_file(tmp_path):
    entries = []
    for name, (mean, episodes) in {"a": (10.0, 1), "b": (40.0, 2)}.items():
        run = write_run(tmp_path / name)
        (run / "random.json").write_text(json.dumps({"mean": mean, "std": 0, "episodes": episodes}))
        entries.append(make_scores([1], [1], path=run / "scores.json"))
    assert curves.random_returns(entries) == ({"dmc_walker_walk": pytest.approx(30.0)}, [])
    many = [entries[0], entries[0]._replace(task="dmc_cup_catch")]
    assert curves.random_returns(many) == ({}, [])
    for bad in ('{"mean": 1.0}', '{"mean": NaN, "episodes": 1}', '{"mean": 1, "episodes": 0}', "[]", "{"):
        (tmp_path / "b" / "random.json").write_text(bad)
        means, (problem,) = curves.random_returns(entries)
        assert means == {"dmc_walker_walk": pytest.approx(10.0)}
        assert problem.startswith(str(tmp_path / "b" / "random.json"))
        assert "\n" not in problem


def test_a_mean_over_different_settings_is_named_with_keys_and_values(tmp_path, capsys):
    entries = []
    for seed, text in enumerate(("a: 1\nb: true\n", "a: 2\n", "a: [\n", "a: 2\n")):
        run = write_run(tmp_path / str(seed), seed=seed)
        (run / "config.yaml").write_text(text)
        entries.append(make_scores([1], [1], seed=seed, path=run / "scores.json"))
    keys = {"a": [1, 2], "b": [True, None]}
    assert curves.mixed_settings(entries) == {("dmc_walker_walk", "dreamer"): keys}
    problem, warning = capsys.readouterr().err.splitlines()
    assert problem.startswith(f"{tmp_path / '2' / 'config.yaml'}:2: expected")
    assert warning == (
        "warning: dmc_walker_walk, dreamer: runs with different settings are averaged: a 1 or 2, b true or missing "
        "(--group-by KEY keeps them apart)"
    )
    assert curves.mixed_settings([entries[1], entries[3]]) == {}
    assert capsys.readouterr().err == ""


def test_methods_are_divided_by_their_settings_in_order_of_size(tmp_path, capsys):
    runs = {"a": "a: 10\nb:\n  c: x\n", "b": "a: 9\nb:\n  c: x\n", "c": "a: 1e-5\n", "d": None}
    for seed, (name, text) in enumerate(runs.items()):
        run = write_run(tmp_path / name, seed=seed)
        if text:
            (run / "config.yaml").write_text(text)
    write_run(tmp_path / "e", seed=0, method="planet")
    (tmp_path / "e" / "config.yaml").write_text("a: 9\n")
    entries = curves.collect([tmp_path], methods=["*"], group_by=["a", "b.c", "a"])
    assert {entry.path.parent.name: entry.method for entry in entries} == {
        "a": "dreamer, a 10, b.c x",
        "b": "dreamer, a 9, b.c x",
        "c": "dreamer, a 1e-05, b.c missing",
        "d": "dreamer",
        "e": "planet, a 9, b.c missing",
    }
    assert [(entry.seed, entry.ys) for entry in entries] == [(0, [2]), (1, [2]), (2, [2]), (3, [2]), (0, [2])]
    assert curves.methods_of(entries) == [
        *("dreamer", "dreamer, a 1e-05, b.c missing", "dreamer, a 9, b.c x", "dreamer, a 10, b.c x"),
        "planet, a 9, b.c missing",
    ]
    assert curves.label("planet, a 9, b.c missing") == "PlaNet, a 9, b.c missing"
    assert capsys.readouterr().err == "1 of 5 runs have no settings: not divided by a, b.c\n"
    assert curves.mixed_settings(entries) == {}
    with pytest.raises(ValueError, match=r"^no run has d in its config\.yaml$"):
        curves.collect([tmp_path], group_by=["a", "d"])


def test_runs_are_divided_by_the_folders_that_were_given(tmp_path, capsys, monkeypatch):
    """Where nothing but the code differs; a copy is one within its folder alone."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("base/0", "base/0 again", "mine/0", "mine/deep/1", "../out/2"):
        run = write_run(Path(name), seed=int(name.split("/")[-1][0]), xs=[1, 2], ys=[1, 2])
        (run / "config.yaml").write_text("a: 1\n")
    Path("many.json").write_text(json.dumps([json.loads((Path("mine/0") / "scores.json").read_text())]))
    given = [Path("base"), Path("./mine"), Path("many.json")]
    entries = curves.collect(given, group_by=["folder"])
    assert [(entry.method, str(entry.path)) for entry in entries] == [
        ("dreamer, base", "base/0/scores.json"),
        ("dreamer, mine", "mine/0/scores.json"),
        ("dreamer, mine", "mine/deep/1/scores.json"),
        ("dreamer, many.json", "many.json"),
    ]
    assert capsys.readouterr().err == "base/0 again/scores.json: base/0/scores.json once more: counted once\n"
    entries = curves.collect(given, group_by=["a", "folder"])
    assert [entry.method for entry in entries][2:] == ["dreamer, a 1, mine", "dreamer, many.json"]
    assert "1 of 5 runs have no settings: not divided by a\n" in capsys.readouterr().err


def test_folders_in_each_other_and_ways_back(tmp_path, capsys, monkeypatch):
    """A run belongs to the innermost, whatever their order; of one reached twice that is said."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for seed, name in enumerate(("a/0", "a/in/0", "../out/0")):
        write_run(Path(name), seed=seed)
    Path("link").symlink_to("a")
    for given in itertools.permutations([".", "a/in", "../out"]):
        entries = curves.collect(map(Path, given), group_by=["folder"])
        assert {entry.seed: entry.method for entry in entries} == {
            **{0: "dreamer, .", 1: "dreamer, a/in", 2: "dreamer, ../out"}
        }
        assert capsys.readouterr().err == ""
    curves.collect([Path("a"), Path("a/../a")], group_by=["folder"])
    assert capsys.readouterr().err == "a/../a: all of its runs are among those of other folders\n"
    curves.collect([Path("a"), Path("link")], group_by=["folder"])
    assert capsys.readouterr().err == "link: all of its runs are among those of other folders\n"


TWICE = {"xs": (10, 20, 30), "ys": (1, 2, 3)}
BEGUN = {"xs": (10, 20), "ys": (1, 2)}
DETER = "model:\n  deter: 8\n"


@pytest.mark.parametrize(
    ("one", "other", "copy"),
    [
        ((TWICE, DETER, ""), (TWICE, DETER, ""), True),
        ((TWICE, DETER + "steps: 30\n", ""), (TWICE, DETER + "steps: 20\n", ""), True),
        ((TWICE, DETER, ""), (TWICE, DETER + "env:\n  info: x\n", ""), True),  # the same seed trained again
        ((TWICE, DETER, "0.5"), (TWICE, DETER, "0.75"), True),
        ((TWICE, DETER, "0.5"), (BEGUN, DETER, "0.5"), True),  # as it was, by the times in its metrics
        ((TWICE, DETER, "0.5"), ({"xs": (), "ys": ()}, DETER, "0.5"), None),  # which are no scores
        ((TWICE, DETER, "0.5"), (BEGUN, DETER, "0.75"), False),
        ((TWICE, DETER, ""), (BEGUN, DETER, ""), False),
        ((TWICE, DETER, ""), (TWICE, "model:\n  deter: 9\n", ""), False),
        ((TWICE, DETER, ""), (TWICE | {"seed": 1}, DETER, ""), False),
        ((TWICE, DETER, ""), (TWICE | {"method": "planet"}, DETER, ""), False),
        ((TWICE, DETER, ""), (TWICE | {"ys": (1, 2, 3.5)}, DETER, ""), False),
        ((TWICE | {"ys": (0, 0, 0)}, DETER, ""), (TWICE | {"ys": (0, 0, 0)}, DETER, ""), False),  # rewards are rare
        ((TWICE, DETER, ""), (TWICE, None, ""), True),
    ],
)
@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_run_that_is_there_once_more_counts_once(tmp_path, capsys, one, other, copy, names):
    for name, (fields, settings, seconds) in zip(names, (one, other), strict=True):
        run = write_run(tmp_path / name, **fields)
        if settings:
            (run / "config.yaml").write_text(settings)
        if seconds:
            # The first line may be an evaluation of networks that are equal in all runs of a seed.
            (run / "metrics.jsonl").write_text(
                f'{{"step": 5}}\n{{"step": 10, "time/seconds": {seconds}}}\n{{"step": 20}}\n'
            )
    entries = curves.collect([tmp_path])
    err = capsys.readouterr().err
    assert len(entries) == (2 if copy is False else 1)
    assert max(len(entry.xs) for entry in entries) == 3
    assert err.count("once more: counted once") == (copy is True)


def test_runs_that_are_said_to_be_two_are_two(tmp_path):
    run = {"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, "xs": [1, 2], "ys": [1, 2]}
    for name in ("many.json", "again.json"):
        (tmp_path / name).write_text(json.dumps([run, run]))
    assert len(curves.collect([tmp_path / "many.json"])) == 2
    assert len(curves.collect([tmp_path / "many.json", tmp_path / "again.json"])) == 2


def test_how_many_files_are_opened_grows_with_the_runs_alone(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(curves.run_files, "beginning", lambda entry: opened.append(entry.path))
    for n in range(8):
        write_run(tmp_path / str(n), xs=[1, 2], ys=[1, n])
    assert len(curves.collect([tmp_path])) == len(opened) == 8


def test_what_is_once_more_is_told_by_what_is_drawn(tmp_path, capsys):
    """A copy may lack a metric, or have gone on without another evaluation."""
    for name, steps in (("a", 0), ("b", 1), ("c", 3), ("d", 2)):
        run = write_run(tmp_path / name, xs=[1, 2], ys=[1, 2])
        lines = [{"step": 10 * (n + 1), "train/kl": n, "time/seconds": 7.5} for n in range(steps)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (entry,) = curves.collect([tmp_path], metric="train/kl")
    assert (entry.path.parent.name, entry.ys) == ("c", [0, 1, 2])
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"{tmp_path / 'a' / 'metrics.jsonl'}: has no train/kl: left out",
        *[
            f"{tmp_path / name / 'scores.json'}: {tmp_path / 'c' / 'scores.json'} once more: counted once"
            for name in "bd"
        ],
    ]


def test_what_is_older_than_a_key_is_divided_by_what_it_did(tmp_path):
    for name, text in (("old", "model:\n  deter: 200\n"), ("new", "loop:\n  overlap: false\n")):
        (write_run(tmp_path / name) / "config.yaml").write_text(text)
    entries = curves.collect([tmp_path], group_by=["loop.overlap"])
    assert [entry.method for entry in entries] == ["dreamer, loop.overlap false"] * 2


def test_no_line_leads_from_a_runs_end_to_anothers_beginning():
    nan = np.nan
    ys = np.array([[1, nan, 3, nan, nan, nan], [nan, nan, nan, 4, 5, nan], [nan, nan, nan, nan, 7, 8]])
    xs, mean = curves.without_leaps(np.arange(6), curves.spread(ys)[0], ys)
    np.testing.assert_array_equal(xs, [0, 1, 2, nan, 3, 4, 5])
    np.testing.assert_array_equal(mean, [1, nan, 3, nan, 4, 6, 8])


def test_settings_in_words():
    keys = {"a": [1, 2], "b": [True, None], "c": ["x", 0.5, "y"]}
    assert curves.settings_in_words(keys, most=3) == "a 1 or 2, b true or missing, c x or 0.5 or y"
    assert curves.settings_in_words(keys, most=1) == "a 1 or 2, and 2 more"


def test_align_interpolates_between_points_but_not_beyond():
    xs, ys = curves.align([make_scores([30, 10], [3.0, 1.0]), make_scores([20, 40], [20.0, 40.0])])
    assert xs.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(ys, [[1, 2, 3, np.nan], [np.nan, 20, 30, 40]])


def test_align_takes_evaluations_of_several_runs_a_few_frames_apart_for_one():
    one, other = make_scores([14_260, 134_260], [3.0, 29.0]), make_scores([14_264, 74_264], [-14.0, 7.0])
    xs, ys = curves.align([one, other])
    np.testing.assert_array_equal(xs, [14_262, 74_264, 134_260])
    np.testing.assert_allclose(ys, [[3, 3 + 26 * (74_264 - 14_262) / (134_260 - 14_262), 29], [-14, 7, np.nan]])
    # Of one run they are different evaluations.
    xs, ys = curves.align([make_scores([10, 11, 9000], [1.0, 2.0, 3.0])])
    np.testing.assert_array_equal(xs, [10, 11, 9000])
    np.testing.assert_array_equal(ys, [[1, 2, 3]])


def test_align_averages_in_windows_when_there_are_many_points():
    # 0..9 in three windows with edges at 3 and 6: {0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}.
    full = make_scores(list(range(10)), [float(x * x) for x in range(10)])
    part = make_scores([1, 8, 9], [7.0, 1.0, 2.0])
    xs, ys = curves.align([full, part], bins=3)
    np.testing.assert_allclose(xs, [1.5, 4.5, 7.5])
    np.testing.assert_allclose(ys, [[5 / 3, 50 / 3, 230 / 4], [7, np.nan, 1.5]])


def test_spread_uses_the_runs_that_are_there():
    nan = np.nan
    mean, std = curves.spread(np.array([[1.0, 2.0, nan, nan], [3.0, 4.0, nan, nan], [8.0, nan, 5.0, nan]]))
    np.testing.assert_allclose(mean, [4, 3, 5, nan])
    np.testing.assert_allclose(std, [np.sqrt((9 + 1 + 16) / 2), np.sqrt(2), nan, nan])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (800, "800"), (5000, "5K"), (12_500, "12.5K"), (1e6, "1M"), (2.5e6, "2.5M"), (1e9, "1B")],
)
def test_human_numbers(number, text):
    assert curves.human(number) == text


def test_shared_is_from_where_the_last_run_begins_to_where_the_first_one_ends():
    nan = np.nan
    ys = np.array([[nan, 1, 2, 3, 4, 5], [0, 1, nan, 3, nan, nan]])
    assert curves.shared(ys).tolist() == [False, True, True, True, False, False]
    assert not curves.shared(np.array([[1, nan], [nan, 2]])).any()
    assert curves.shared(np.array([[1.0, 2.0]])).all()

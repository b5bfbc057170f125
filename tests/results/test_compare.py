import json

import numpy as np
import pytest

from dreamer.results import compare
from dreamer.results.published import Curve, Published, load
from dreamer.results.scores import Scores

CURVES = {
    "dmc_a": Curve(5, np.array([0.0, 100, 200]), np.array([0.0, 10, 30]), np.zeros(3)),
    "dmc_b": Curve(5, np.array([0.0, 100, 200]), np.array([0.0, 100, 100]), np.zeros(3)),
}
PUBLISHED = Published({}, {}, CURVES, {"curves": "A source"})
NOTE = (
    "published: Dreamer at the same number of frames, interpolated between the points of its curve; - below 100, the "
    "second of them. A source."
)


def make_scores(task, xs, ys, method="dreamer", seed=0):
    return Scores(task, method, seed, xs, ys)


def table():
    return compare.rows(
        [
            make_scores("dmc_a", [50, 150], [4.0, 8.0], seed=1),
            make_scores("dmc_a", [50, 150, 180], [6.0, 12.0, 99.0]),
            make_scores("dmc_b", [50, 100], [1.0, 50.0]),
            make_scores("dmc_a", [20], [7.0], method="random"),
            make_scores("toy_dot", [5, 1000], [1.0, 3.0]),
        ],
        PUBLISHED,
    )


def test_rows_compare_at_the_last_frame_count_of_all_runs():
    first, second, third, fourth = table()
    assert first == compare.Row("dmc_a", "dreamer", 150, [12.0, 8.0], 20.0, 100.0)
    assert (first.ours, first.std, first.ratio) == (10, pytest.approx(8**0.5), 0.5)
    # Between the first two published points a straight line is no figure to compare with.
    assert second == compare.Row("dmc_a", "random", 20, [7.0], None, 100.0)
    assert (second.std, second.ratio) == (None, None)
    assert third == compare.Row("dmc_b", "dreamer", 100, [50.0], 100.0, 100.0)
    assert fourth == compare.Row("toy_dot", "dreamer", 1000, [3.0], None)
    assert fourth.ratio is None


def test_a_window_averages_before_the_comparison():
    (row,) = compare.rows([make_scores("dmc_a", [110, 120, 190], [1.0, 3.0, 5.0])], PUBLISHED, window=100)
    assert row == compare.Row("dmc_a", "dreamer", 150, [3.0], 20.0, 100.0)


def test_totals_average_the_tasks_that_were_published():
    assert compare.totals(table()) == [("dreamer", ["dmc_a", "dmc_b"], 30.0, 60.0)]


def test_final_means_are_over_the_tasks_that_have_a_score():
    figures = load()
    means = compare.final_means(list(figures.final), figures)
    assert {key: (round(mean), count) for key, (mean, count) in means.items()} == {
        "dreamer": (823, 20),
        "planet": (333, 20),
        "d4pg": (786, 18),
        "a3c": (244, 18),
    }
    assert compare.final_means(["dmc_quadruped_run", "toy_dot"], figures).keys() == {"dreamer", "planet"}
    assert compare.final_means(["toy_dot"], figures) == {}


def test_text():
    assert compare.to_text(table(), PUBLISHED.sources["curves"]).splitlines() == [
        "task             method   runs  frames  ours  std  published  ratio",
        "dmc_a            dreamer     2     150  10.0  2.8       20.0   0.50",
        "dmc_a            random      1      20   7.0    -          -      -",
        "dmc_b            dreamer     1     100  50.0    -      100.0   0.50",
        "toy_dot          dreamer     1   1,000   3.0    -          -      -",
        "mean of 2 tasks  dreamer                30.0    -       60.0   0.50",
        "",
        NOTE,
    ]
    early = compare.to_text(table()[1:2], "A source").splitlines()
    assert early[1].split()[-2:] == ["-", "-"]
    assert early[-1] == NOTE
    alone = compare.to_text(table()[3:], "A source")
    assert "published:" not in alone
    assert alone.endswith("-")  # the row, and no empty line after it


def test_json_holds_every_run():
    first, *_, last = json.loads(compare.to_json(table()))
    assert first == {
        "task": "dmc_a",
        "method": "dreamer",
        "frames": 150,
        "ours": 10.0,
        "std": pytest.approx(8**0.5),
        "returns": [12.0, 8.0],
        "published": 20.0,
        "published_from": 100.0,
        "ratio": 0.5,
        "mixed_settings": {},
        "left_out": 0,
    }
    assert (last["published"], last["ratio"], last["std"]) == (None, None, None)


def test_runs_that_end_elsewhere_are_counted_and_told():
    entries = [make_scores("toy_dot", [5, 10], [1.0, 2.0], seed=n) for n in range(2)]
    (row,) = compare.rows([*entries, make_scores("toy_dot", [50, 60], [7.0, 9.0], seed=2)], PUBLISHED)
    assert (row.frames, row.returns, row.left_out) == (10, [2.0, 2.0], 1)
    lines = compare.to_text([row], "A source").splitlines()
    assert lines[1].split()[:5] == ["toy_dot", "dreamer", "2", "of", "3"]
    assert lines[-1] == (
        "2 of 3: the other runs were not evaluated around the frames at which most of them can be compared"
    )


def test_a_mean_over_different_settings_is_marked():
    entries = [make_scores("dmc_a", [100], [4.0], seed=seed) for seed in (0, 1)]
    entries += [make_scores("dmc_a", [100], [7.0], method="random")]
    mixed = compare.rows(entries, PUBLISHED, mixed={("dmc_a", "dreamer"): {"model.lr": [0.001, None]}})
    text = compare.to_text(mixed, "A source").splitlines()
    assert text[1].split()[:4] == ["dmc_a", "dreamer", "*", "2"]
    assert text[2].split()[:3] == ["dmc_a", "random", "1"]
    assert text[3:] == [
        "",
        "* a mean over runs with different settings",
        NOTE,
    ]
    assert [row["mixed_settings"] for row in json.loads(compare.to_json(mixed))] == [{"model.lr": [0.001, None]}, {}]


def test_a_published_return_of_zero_has_no_ratio():
    nothing = PUBLISHED._replace(curves={"dmc_a": CURVES["dmc_a"]._replace(mean=np.zeros(3))})
    (row,) = compare.rows([make_scores("dmc_a", [100], [3.0])], nothing)
    assert (row.published, row.ratio) == (0.0, None)

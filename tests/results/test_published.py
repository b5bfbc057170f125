import statistics

import numpy as np
import pytest

from dreamer.results import published
from dreamer.run.formats import FormatError


@pytest.fixture(scope="module")
def figures():
    return published.load()


@pytest.mark.parametrize(
    ("method", "average", "tasks", "frames"),
    [
        ("dreamer", 823.39, 20, 5e6),
        ("planet", 332.97, 20, 5e6),
        ("d4pg", 786.33, 18, 1e8),
        ("a3c", 243.70, 18, 1e8),
    ],
)
def test_averages_are_those_that_the_paper_states(figures, method, average, tasks, frames):
    scores = [scores[method] for scores in figures.final.values() if method in scores]
    assert len(scores) == tasks
    assert round(statistics.fmean(scores), 2) == average
    assert figures.methods[method].frames == frames


def test_every_task_of_the_paper_has_a_curve_and_final_scores(figures):
    assert len(figures.final) == 20
    assert figures.curves.keys() == figures.final.keys()
    for curve in figures.curves.values():
        assert curve.seeds == 5
        assert curve.xs.shape == curve.mean.shape == curve.std.shape == (50,)
        assert (np.diff(curve.xs) == 100_000).all()
        assert (curve.xs[0], curve.xs[-1]) == (5000, 4_905_000)
        assert ((curve.mean >= 0) & (curve.mean <= 1000) & (curve.std >= 0)).all()
    assert all("ICLR 2020" in figures.sources["final"] or source for source in figures.sources.values())


def test_numbers_that_were_copied_by_eye(figures):
    assert figures.scores("dmc_walker_walk")["dreamer"] == 961.67
    assert "d4pg" not in figures.scores("dmc_quadruped_run")
    assert figures.curve("dmc_acrobot_swingup").mean[:3].tolist() == [54.0, 37.1, 77.0]


@pytest.mark.parametrize("name", ["final.json", "curves.json"])
@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b"{}", b'{"tasks": 3, "methods": {"a": {}}}', b'{"tasks": {"a": {"xs": ["x"]}}}']
)
def test_damaged_files_are_named(tmp_path, name, content):
    for file in published.FOLDER.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    published.load(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=f"^{tmp_path}.*{name}"):
        published.load(tmp_path)


def test_a_curve_is_read_between_its_points_from_the_second_on_and_nowhere_else():
    curve = published.Curve(5, np.array([1000.0, 2000, 3000]), np.array([10.0, 20, 60]), np.zeros(3))
    assert curve.at(2000) == 20
    assert curve.at(2250) == pytest.approx(30)
    assert curve.at(3900) == 60
    assert curve.at(1999) is None
    assert curve.at(4001) is None


def test_the_next_point_is_near_where_it_lies_less_than_a_quarter_ahead():
    curve = published.Curve(5, np.array([5.0, 105.0, 205.0]), np.zeros(3), np.zeros(3))
    frames = [3.9, 4.1, 5, 84, 84.1, 105, 165, 205, 300]
    assert [curve.ahead_of(n) for n in frames] == [None, 0, None, None, 1, None, 2, None, None]


def test_the_suites_own_name_of_cup_catch(figures):
    assert figures.scores("dmc_ball_in_cup_catch") == figures.scores("dmc_cup_catch") != {}
    assert figures.curve("dmc_ball_in_cup_catch") is figures.curve("dmc_cup_catch") is not None
    assert figures.scores("toy_dot") == {}
    assert figures.curve("toy_dot") is None

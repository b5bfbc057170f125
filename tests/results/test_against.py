"""Final returns against a setting."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from dreamer import config
from dreamer.results import against, curves, runs

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def write_run(directory, *, ys, method="dreamer", seed=0, task="toy_dot", xs=(10, 20, 30), **keys):
    directory.mkdir(parents=True)
    content = {"task": task, "method": method, "seed": seed, "xs": list(xs), "ys": list(ys)}
    (directory / "scores.json").write_text(json.dumps(content))
    config.load(["toy"], {"seed": seed, **keys}).save(directory / "config.yaml")


def count(path, color):
    image = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(image - color).max(-1) <= 2).sum())


@pytest.fixture
def folder(tmp_path):
    """Horizons 5 and 45 of two methods; two seeds of one of them, one of which was stopped early."""
    at = {5: {"behavior.horizon": 5}, 45: {"behavior.horizon": 45}}
    write_run(tmp_path / "a", ys=(0, 4, 6), **at[45])
    write_run(tmp_path / "b", ys=(0, 2), xs=(10, 20), seed=1, **at[45])
    write_run(tmp_path / "c", ys=(0, 1, 8), **at[5])
    write_run(tmp_path / "d", ys=(1, 2, 3), method="planet", **at[5])
    return tmp_path


def test_points_are_means_where_all_runs_of_a_value_are(folder):
    found, problems = runs.read_settings(curves.collect([folder]))
    assert not problems
    points = against.finals(found, "behavior.horizon")
    assert {group: {value: sorted(ys) for value, ys in of.items()} for group, of in points.items()} == {
        ("toy_dot", "dreamer"): {5: [8.0], 45: [2.0, 4.0]},
        ("toy_dot", "planet"): {5: [3.0]},
    }
    assert list(points["toy_dot", "dreamer"]) == [5, 45]


def test_the_figure_has_a_line_per_method(folder, tmp_path, capsys):
    out = tmp_path / "figures" / "x.png"
    assert against.main_figure([folder], "behavior.horizon", out) == [out]
    assert count(out, BLUE) > 200
    assert count(out, VERMILION) > 20
    assert capsys.readouterr().err == "warning: runs end after different frames, 20 to 30\n"
    against.main_figure([folder], "model.deter", out, group_by=["behavior.horizon"])  # Dreamer's two, and PlaNet's
    assert count(out, (0, 158, 115)) > 20


def test_a_metric_against_a_key(folder, tmp_path, monkeypatch):
    for name, value in (("a", 7.5), ("c", 2.5)):
        (folder / name / "random.json").write_text('{"mean": 40.0, "std": 3.0, "episodes": 5}')
        (folder / name / "metrics.jsonl").write_text(json.dumps({"step": 30, "train/kl": value}) + "\n")
    drawn = []
    monkeypatch.setattr(against.style, "save", lambda figure, files, notes: drawn.append(figure))
    against.main_figure([folder], "behavior.horizon", tmp_path / "x.png", metric="train/kl")
    (figure,) = drawn
    assert figure.get_supylabel() == "Final train/kl"
    (panel,) = figure.axes
    assert panel.lines[0].get_xydata().tolist() == [[5, 2.5], [45, 7.5]]
    assert not any(text.get_text() == "random actions" for text in figure.legends[0].get_texts())


def test_bars_are_explained_where_there_are_some(folder, tmp_path, monkeypatch):
    notes = []
    monkeypatch.setattr(against.style, "save", lambda figure, files, of: notes.append(of))
    against.main_figure([folder], "behavior.horizon", tmp_path / "x.png")
    against.main_figure([folder / "a", folder / "c"], "behavior.horizon", tmp_path / "x.png")
    assert [of[-1:] for of in notes] == [["Bars: one standard deviation over the runs"], []]


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ({0.1: 2.0, 0.0001: 1.0}, "log", ["0.0001", "0.1"]),
        ({2: 1.0, 5: 2.0, 45: 3.0}, "log", ["2", "5", "45"]),
        ({5: 1.0, 45: 2.0}, "linear", ["5", "45"]),
        ({"pixels": 1.0, "none": 2.0}, "linear", ["none", "pixels"]),
        ({True: 1.0, False: 2.0}, "linear", ["false", "true"]),
    ],
)
def test_numbers_stand_at_their_place_and_names_in_a_row(values, scale, labels):
    points = {("toy_dot", "dreamer"): {value: np.array([y]) for value, y in values.items()}}
    (panel,) = against.draw(points, "key", {}).axes
    assert panel.get_xscale() == scale
    assert [text.get_text() for text in panel.get_xticklabels()] == labels
    assert not any(text.get_text() for text in panel.get_xticklabels(minor=True))


def test_runs_that_differ_in_more_than_the_key_are_named(folder, tmp_path):
    write_run(tmp_path / "e", ys=(1, 2, 3), seed=2, **{"behavior.horizon": 45, "model.deter": 50})
    found, _ = runs.read_settings(curves.collect([folder]))
    notes = against._notes(found, "behavior.horizon")
    assert notes == [
        "runs end after different frames, 20 to 30",
        "Dot, Dreamer, behavior.horizon 45: runs with different settings are averaged: model.deter 200 or 50",
    ]


def test_a_run_older_than_the_key_stands_at_what_it_did(tmp_path):
    for name, ys, keys in (("a", (1, 2, 3), {}), ("b", (4, 5, 6), {"loop.overlap": True}), ("c", (7, 8, 9), {})):
        write_run(tmp_path / name, ys=ys, **keys)
    path = tmp_path / "a" / "config.yaml"
    path.write_text(re.sub(r".*overlap:.*\n", "", path.read_text()))
    path = tmp_path / "c" / "config.yaml"
    path.write_text(re.sub(r"overlap:.*", "overlap: [1, 2]", path.read_text()))  # which nothing can be drawn at
    found, _ = runs.read_settings(curves.collect([tmp_path]))
    assert "loop.overlap" not in found[0].settings
    (points,) = against.finals(found, "loop.overlap").values()
    assert {value: list(ys) for value, ys in points.items()} == {False: [3.0], True: [6.0]}
    assert against._notes(found, "loop.overlap") == []


def test_what_cannot_be_drawn(folder, tmp_path):
    with pytest.raises(ValueError, match=r"x.jpg: a figure against a setting can be a .png, a .pdf, an .svg$"):
        against.main_figure([folder], "behavior.horizon", tmp_path / "x.jpg")
    for path in folder.glob("*/config.yaml"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no run has behavior.horizon in its config.yaml"):
        against.main_figure([folder], "behavior.horizon", tmp_path / "x.png")

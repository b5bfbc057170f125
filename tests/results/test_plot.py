import json

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from dreamer.results import plot
from dreamer.results.scores import Scores

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def write_run(directory, *, task="dmc_walker_walk", method="dreamer", seed=0, xs=(10, 20, 30), ys=(1, 5, 9)):
    directory.mkdir(parents=True)
    content = {"task": task, "method": method, "seed": seed, "xs": list(xs), "ys": list(ys)}
    (directory / "scores.json").write_text(json.dumps(content))
    return directory


def make_scores(xs, ys, **fields):
    return Scores(**{"task": "dmc_walker_walk", "method": "dreamer", "seed": 0, **fields}, xs=xs, ys=ys)


def count(image, color):
    return int((np.abs(image.astype(int) - color).max(-1) <= 2).sum())


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_png_of_two_methods_on_two_tasks(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"d{seed}", seed=seed, ys=(10 * seed, 300, 700 + 50 * seed))
    write_run(tmp_path / "p", method="planet", ys=(0, 100, 200))
    write_run(tmp_path / "c", task="dmc_cheetah_run", ys=(0, 200, 400))
    before = {key: matplotlib.rcParams[key] for key in plot.STYLE}
    assert plot.main_figure([tmp_path], tmp_path / "out" / "a.png") == [tmp_path / "out" / "a.png"]
    assert {key: matplotlib.rcParams[key] for key in plot.STYLE} == before
    image = read(tmp_path / "out" / "a.png")
    assert image.shape[1] == 900
    assert 300 < image.shape[0] < 600
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100
    assert count(image, 255) > 0.7 * image[..., 0].size
    # The left panel is Cheetah Run (by name), where PlaNet has no line; the legend is above the panels.
    left, right = image[80:, :450], image[80:, 450:]
    assert count(left, BLUE) > 200
    assert count(right, BLUE) > 200
    assert count(left, VERMILION) == 0
    assert count(right, VERMILION) > 200
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_directory_gets_png_and_pdf_with_embedded_text(tmp_path):
    run = write_run(tmp_path / "run")
    files = plot.main_figure([run], tmp_path / "figures")
    assert files == [tmp_path / "figures" / "curves.png", tmp_path / "figures" / "curves.pdf"]
    pdf = files[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in pdf  # conferences refuse it
    assert b"CreationDate" not in pdf
    plot.main_figure([run], tmp_path / "figures")
    assert files[1].read_bytes() == pdf


def test_single_evaluation_is_visible(tmp_path):
    run = write_run(tmp_path / "run", xs=[5000], ys=[0.0])
    plot.main_figure([run], tmp_path / "a.png")
    assert count(read(tmp_path / "a.png")[:, :800], BLUE) > 10


def test_random_actions_become_a_dashed_line(tmp_path):
    run = write_run(tmp_path / "run", ys=(0, 50, 100))
    plot.main_figure([run], tmp_path / "without.png")
    (run / "random.json").write_text('{"mean": 40.0, "std": 3.0, "episodes": 5}')
    plot.main_figure([run], tmp_path / "with.png")
    grey = (119, 119, 119)
    assert count(read(tmp_path / "without.png"), grey) < 50
    assert count(read(tmp_path / "with.png"), grey) > 300


def test_references_weigh_episodes_and_belong_to_a_runs_own_file(tmp_path, capsys):
    entries = []
    for name, (mean, episodes) in {"a": (10.0, 1), "b": (40.0, 2)}.items():
        run = write_run(tmp_path / name)
        (run / "random.json").write_text(json.dumps({"mean": mean, "std": 0, "episodes": episodes}))
        entries.append(make_scores([1], [1], path=run / "scores.json"))
    assert plot.read_references(entries) == ({"dmc_walker_walk": pytest.approx(30.0)}, [])
    many = [entries[0], entries[0]._replace(task="dmc_cup_catch")]
    assert plot.read_references(many) == ({}, [])
    for bad in ('{"mean": 1.0}', '{"mean": NaN, "episodes": 1}', '{"mean": 1, "episodes": 0}', "[]", "{"):
        (tmp_path / "b" / "random.json").write_text(bad)
        means, (problem,) = plot.read_references(entries)
        assert means == {"dmc_walker_walk": pytest.approx(10.0)}
        assert problem.startswith(str(tmp_path / "b" / "random.json"))
        assert "\n" not in problem


def test_bad_files_are_named_and_left_out(tmp_path, capsys):
    write_run(tmp_path / "runs" / "good")
    bad = write_run(tmp_path / "runs" / "bad") / "scores.json"
    bad.write_text("")
    plot.main_figure([tmp_path / "runs", tmp_path / "absent"], tmp_path / "a.png")
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == [str(bad), str(tmp_path / "absent")]
    assert printed.out == ""
    assert count(read(tmp_path / "a.png"), BLUE) > 200


@pytest.mark.parametrize("runs", [[], ["absent"], ["empty"], ["bad"]])
def test_nothing_to_draw(tmp_path, runs):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "scores.json").write_text("[")
    with pytest.raises(ValueError, match=r"^nothing to draw: .*$"):
        plot.main_figure([tmp_path / run for run in runs], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_other_suffix_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"can be a \.png, a \.pdf or a directory, not \.jpg"):
        plot.main_figure([run], tmp_path / "a.jpg")


def test_align_interpolates_between_points_but_not_beyond():
    xs, ys = plot.align([make_scores([30, 10], [3.0, 1.0]), make_scores([20, 40], [20.0, 40.0])])
    assert xs.tolist() == [10, 20, 30, 40]
    np.testing.assert_array_equal(ys, [[1, 2, 3, np.nan], [np.nan, 20, 30, 40]])


def test_align_averages_in_windows_when_there_are_many_points():
    # 0..9 in three windows with edges at 3 and 6: {0, 1, 2}, {3, 4, 5}, {6, 7, 8, 9}.
    full = make_scores(list(range(10)), [float(x * x) for x in range(10)])
    part = make_scores([1, 8, 9], [7.0, 1.0, 2.0])
    xs, ys = plot.align([full, part], bins=3)
    np.testing.assert_allclose(xs, [1.5, 4.5, 7.5])
    np.testing.assert_allclose(ys, [[5 / 3, 50 / 3, 230 / 4], [7, np.nan, 1.5]])


def test_spread_uses_the_runs_that_are_there():
    mean, std = plot.spread(np.array([[1.0, 2.0, np.nan], [3.0, 4.0, np.nan], [8.0, np.nan, 5.0]]))
    np.testing.assert_allclose(mean, [4, 3, 5])
    np.testing.assert_allclose(std, [np.sqrt((9 + 1 + 16) / 2), np.sqrt(2), np.nan])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (800, "800"), (5000, "5K"), (12_500, "12.5K"), (1e6, "1M"), (2.5e6, "2.5M"), (1e9, "1B")],
)
def test_human_numbers(number, text):
    assert plot.human(number) == text


def test_names_of_twenty_tasks_fit_their_panels():
    tasks = [f"dmc_cartpole_swingup_sparse_{index}" for index in range(20)]
    with matplotlib.rc_context(plot.STYLE):
        figure = plot.draw([make_scores([10, 20], [1, 2], task=task) for task in tasks], {})
        figure.draw_without_rendering()
    assert len(figure.axes) == 20
    for panel in figure.axes:
        (title,) = {text for text in panel.findobj(Text) if text.get_text() == panel.get_title("left")}
        assert title.get_window_extent().width <= 1.02 * panel.get_window_extent().width


def test_labels_of_equal_lines_are_moved_apart():
    entries = [make_scores([10, 20], [1, 500], method=method) for method in ("dreamer", "planet", "a", "b")]
    (panel,) = plot.draw(entries, {"dmc_walker_walk": 500.0}).axes
    heights = sorted(text.get_position()[1] for text in panel.texts)
    assert len(heights) == 5
    assert min(np.diff(heights)) >= 0.0649
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_returns_below_zero_are_inside_the_panel():
    (panel,) = plot.draw([make_scores([10, 20], [-20.0, 5.0], task="atari_pong")], {}).axes
    bottom, top = panel.get_ylim()
    assert bottom < -20
    assert top > 5
    (panel,) = plot.draw([make_scores([10, 20], [3.0, 5.0])], {}).axes
    assert panel.get_ylim()[0] == 0

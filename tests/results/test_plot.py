import json

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from dreamer import config
from dreamer.results import aggregate, plot, published, style
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
    before = {key: matplotlib.rcParams[key] for key in style.STYLE}
    assert plot.main_figure([tmp_path], tmp_path / "out" / "a.png") == [tmp_path / "out" / "a.png"]
    assert {key: matplotlib.rcParams[key] for key in style.STYLE} == before
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
    assert files == [tmp_path / "figures" / "dmc.png", tmp_path / "figures" / "dmc.pdf"]
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


def test_bad_files_are_named_and_left_out(tmp_path, capsys):
    write_run(tmp_path / "runs" / "good")
    bad = write_run(tmp_path / "runs" / "bad") / "scores.json"
    bad.write_text("")
    (tmp_path / "empty").mkdir()
    plot.main_figure([tmp_path / "runs", tmp_path / "empty"], tmp_path / "a.png")
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.err.splitlines()] == [str(bad), str(tmp_path / "empty")]
    assert printed.out == ""
    assert count(read(tmp_path / "a.png"), BLUE) > 200


def test_a_bad_file_that_was_asked_for_is_an_error(tmp_path, capsys):
    run = write_run(tmp_path / "good")
    for name, content in (("absent", None), ("bad.json", "[")):
        if content:
            (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=f"^{tmp_path / name}: "):
            plot.main_figure([run, tmp_path / name], tmp_path / "a.png")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("runs", [[], ["empty"], ["bad"], ["empty", "bad"]])
def test_nothing_to_draw(tmp_path, runs):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "scores.json").write_text("[")
    with pytest.raises(ValueError, match=r"^nothing to show: .*$") as error:
        plot.main_figure([tmp_path / run for run in runs], tmp_path / "a.png")
    assert ("(and 1 more such lines)" in str(error.value)) == (len(runs) == 2)
    assert not (tmp_path / "a.png").exists()


@pytest.mark.filterwarnings("error")
def test_names_are_drawn_as_they_are(tmp_path, capsys):
    """A dollar begins no formula, and letters that the font lacks are nobody's mistake."""
    for index, name in enumerate(("$\\frac{", "dmc_x^$_$", "\u6f22\u5b57 \U0001f600", "x" * 200)):
        write_run(tmp_path / "runs" / str(index), task=name, method=name)
    plot.main_figure([tmp_path / "runs"], tmp_path / "figures")
    plot.main_figure([tmp_path / "runs" / "0"], tmp_path / "one.pdf")
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")
def test_the_largest_numbers_that_are_read_can_be_drawn(tmp_path, capsys):
    for seed, ys in enumerate(([1e100, -1e100, 1e100], [-1e100, 1e100, 1e100])):
        write_run(tmp_path / "runs" / str(seed), seed=seed, xs=[0, 2**52, 2**53], ys=ys)
    plot.main_figure([tmp_path / "runs"], tmp_path / "a.png")
    assert capsys.readouterr() == ("", "")


def test_more_tasks_or_methods_than_a_figure_takes(tmp_path, monkeypatch):
    for index in range(3):
        write_run(tmp_path / "runs" / str(index), task=f"{'dmc' if index else 'toy'}_{index}", method=f"m{index % 2}")
    monkeypatch.setattr(plot, "TASKS", 2)
    with pytest.raises(
        ValueError, match="^3 tasks are too many for one figure, which takes 2: choose some with --tasks"
    ):
        plot.main_figure([tmp_path / "runs"], tmp_path / "a.png")
    assert plot.main_figure([tmp_path / "runs"], tmp_path / "figures")  # a figure for each suite
    monkeypatch.setattr(plot, "TASKS", 3)
    monkeypatch.setattr(plot, "METHODS", 1)
    with pytest.raises(ValueError, match="^2 methods are too many"):
        plot.main_figure([tmp_path / "runs"], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_other_suffix_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"can be a \.png, a \.pdf, an \.svg or a directory, not \.jpg"):
        plot.main_figure([run], tmp_path / "a.jpg")


def test_names_of_twenty_tasks_fit_their_panels():
    tasks = [f"dmc_cartpole_swingup_sparse_{index}" for index in range(20)]
    with matplotlib.rc_context(style.STYLE):
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
    assert heights[-1] == 1
    # A label that has room stays at the end of its line.
    (panel,) = plot.draw([*entries, make_scores([10, 20], [1, 50], method="low")], {}).axes
    (low,) = [text for text in panel.texts if text.get_text() == "low"]
    assert low.get_position()[1] == pytest.approx(50 / panel.get_ylim()[1])


def test_returns_below_zero_are_inside_the_panel():
    (panel,) = plot.draw([make_scores([10, 20], [-20.0, 5.0], task="atari_pong")], {}).axes
    bottom, top = panel.get_ylim()
    assert bottom < -20
    assert top > 5
    (panel,) = plot.draw([make_scores([10, 20], [3.0, 5.0])], {}).axes
    assert panel.get_ylim()[0] == 0


def test_a_figure_per_suite_and_one_of_all_tasks(tmp_path, capsys):
    for task in ("dmc_walker_walk", "dmc_cheetah_run", "toy_dot"):
        for seed in (0, 1):
            write_run(tmp_path / task / str(seed), task=task, seed=seed, ys=(1, 5, 9 + seed))
    files = plot.main_figure([tmp_path], tmp_path / "figures")
    names = [f"{name}{suffix}" for name in ("dmc", "toy", "aggregate") for suffix in (".png", ".pdf")]
    assert files == [tmp_path / "figures" / name for name in names]
    assert count(read(tmp_path / "figures" / "aggregate.png"), BLUE) > 200
    assert capsys.readouterr().err == ""
    # One file gets all panels, and neither a single task nor a single suite without a scale has an aggregate.
    assert plot.main_figure([tmp_path], tmp_path / "all.pdf") == [tmp_path / "all.pdf"]
    assert len(plot.main_figure([tmp_path], tmp_path / "one", tasks=["walker_walk"])) == 2


def test_a_mean_over_different_settings_is_named_on_stderr_and_with_its_figures(tmp_path, monkeypatch, capsys):
    for task in ("dmc_walker_walk", "dmc_cheetah_run", "toy_dot"):
        for seed in (0, 1):
            run = write_run(tmp_path / task / str(seed), task=task, seed=seed)
            (run / "config.yaml").write_text(f"seed: {seed}\nsteps: {seed}\nmodel:\n  deter: 200\n")
    saved = {}
    monkeypatch.setattr(style, "save", lambda figure, files, notes: saved.update({files[0].stem: notes}))
    monkeypatch.setattr(aggregate, "SAMPLES", 20)
    plot.main_figure([tmp_path], tmp_path / "figures")
    bands = ["Bands: one standard deviation over the runs"]
    assert saved == {"dmc": bands, "toy": bands, "aggregate": []}
    assert capsys.readouterr().err == ""
    (tmp_path / "dmc_walker_walk" / "1" / "config.yaml").write_text("seed: 1\nmodel:\n  deter: 50\n")
    plot.main_figure([tmp_path], tmp_path / "figures")
    notes = ["Walker Walk: runs of Dreamer with different settings are averaged: model.deter 200 or 50"]
    assert saved == {"dmc": [*notes, *bands], "toy": bands, "aggregate": notes}
    assert capsys.readouterr().err.splitlines() == [
        "warning: dmc_walker_walk, dreamer: runs with different settings are averaged: model.deter 200 or 50 "
        "(--group-by KEY keeps them apart)"
    ]
    plot.main_figure([tmp_path], tmp_path / "figures", group_by=["model.deter"])
    assert saved["dmc"] == bands  # of the cheetahs
    assert capsys.readouterr().err == (
        "no aggregate: it needs two tasks that all of dreamer, model.deter 50; dreamer, model.deter 200 have\n"
    )


def test_two_settings_are_two_lines(tmp_path):
    for name, deter, ys in (("a", 50, (0, 1, 2)), ("b", 200, (0, 4, 8))):
        (write_run(tmp_path / name, ys=ys) / "config.yaml").write_text(f"model:\n  deter: {deter}\n")
    plot.main_figure([tmp_path], tmp_path / "one.png")
    assert count(read(tmp_path / "one.png"), VERMILION) == 0
    plot.main_figure([tmp_path], tmp_path / "two.png", group_by=["model.deter"])
    assert min(count(read(tmp_path / "two.png"), color) for color in (BLUE, VERMILION)) > 200


def test_a_metric_is_drawn_in_its_own_range_and_without_what_is_about_returns(tmp_path, monkeypatch):
    for task, base in (("dmc_walker_walk", 11_300.0), ("dmc_cheetah_run", 3.0)):
        run = write_run(tmp_path / task, task=task)
        (run / "random.json").write_text('{"mean": 40.0, "std": 3.0, "episodes": 5}')
        lines = [{"step": 10 * n, "train/x": base + n} for n in (1, 2, 3)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    drawn = []
    monkeypatch.setattr(plot.style, "save", lambda figure, files, notes: drawn.append((figure, files)))
    files = plot.main_figure([tmp_path], tmp_path / "figures", metric="train/x")
    assert [path.name for path in files] == ["dmc.png", "dmc.pdf"]  # and no aggregate
    ((figure, _),) = drawn
    assert figure.get_supylabel() == "train/x"
    cheetah, walker = figure.axes
    assert [line.get_ydata().tolist() for line in walker.lines] == [[11_301, 11_302, 11_303]] * 2
    assert 11_300 < walker.get_ylim()[0] < 11_301  # one of the two lines is its points
    assert walker.get_ylim()[1] < 11_304
    assert cheetah.get_ylim() == (3.9, 6.1)
    (panel,) = plot.draw([make_scores([10, 20], [1.0, 3.0])], {}, metric="train/x").axes
    assert panel.get_ylabel() == "train/x"
    assert panel.get_ylim()[0] == 0  # which is near
    for value in (0.0, 0.003, 11_300.0, 1e16, -1e90):
        (panel,) = plot.draw([make_scores([10, 20], [value, value])], {}, metric="train/x").axes
        assert panel.get_ylim()[0] < panel.get_ylim()[1]
        assert value <= 0 or panel.get_ylim()[0] > 0  # a number that is never negative has no negative axis


@pytest.mark.parametrize(
    ("sources", "unit"),
    [(["none"], "Environment frames"), (["a", "b"], "Updates"), (["none", "a"], "Frames, or updates")],
)
def test_metrics_of_runs_that_play_no_episodes(tmp_path, monkeypatch, capsys, sources, unit):
    for seed, source in enumerate(sources):
        (tmp_path / str(seed)).mkdir()
        config.load(["toy"], {"learn.source": source, "seed": seed}).save(tmp_path / str(seed) / "config.yaml")
        (tmp_path / str(seed) / "metrics.jsonl").write_text(f'{{"step": 10, "train/x": {seed + 1}}}\n')
    drawn = []
    monkeypatch.setattr(plot.style, "save", lambda figure, files, notes: drawn.append(figure))
    plot.main_figure([tmp_path], tmp_path / "a.png", metric="train/x")
    (panel,) = drawn[0].axes
    assert panel.get_xlabel() == unit
    assert panel.lines[0].get_ydata().tolist() == [sum(range(1, len(sources) + 1)) / len(sources)]
    assert "copy" not in capsys.readouterr().err


def test_runs_that_do_not_meet_are_not_joined(tmp_path):
    entries = [make_scores([10, 20], [1, 2]), make_scores([80, 90], [50, 60], seed=1)]
    (panel,) = plot.draw(entries, {}).axes
    (thin,) = [line for line in panel.lines if line.get_label() == plot._THIN]
    np.testing.assert_array_equal(thin.get_xdata(), [10, 20, np.nan, 80, 90])


def test_a_figure_that_can_be_edited(tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("a.svg", "b.svg"):
        plot.main_figure([run], tmp_path / name)
    svg = (tmp_path / "a.svg").read_text()
    assert ">Walker Walk</text>" in svg
    assert "<dc:date>" not in svg
    assert (tmp_path / "b.svg").read_text() == svg


def test_notes_lie_below_the_figure_which_stays_as_it_was(tmp_path):
    entries = [make_scores([10, 20], [1, 2], task=task) for task in ("dmc_walker_walk", "dmc_cheetah_run")]
    with matplotlib.rc_context(style.STYLE):
        for name, notes in (("without", []), ("with", ["Two words."])):
            style.save(plot.draw(entries, {}), [tmp_path / f"{name}.png"], notes)
    without, noted = read(tmp_path / "without.png"), read(tmp_path / "with.png")
    assert noted.shape[1] == 900
    assert 30 < len(noted) - len(without) < 60
    np.testing.assert_array_equal(noted[: len(without)], without)
    note = (noted[len(without) :] < 100).all(-1)
    assert note.sum() > 50
    assert not note[[0, -1]].any()


def test_long_notes_stay_inside_the_figure(tmp_path):
    keys = {f"behavior.number_{index}": [0.001, 0.0006] for index in range(5)}
    mixed = {(f"dmc_cartpole_swingup_sparse_{task}", "dreamer"): keys for task in range(20)}
    (note,) = plot._mixed_notes(mixed)
    assert note.startswith("Cartpole Swingup Sparse 0, Cartpole Swingup Sparse 1, ")
    assert note.endswith("behavior.number_2 0.001 or 0.0006, and 2 more")
    with matplotlib.rc_context(style.STYLE):
        style.save(plot.draw([make_scores([10, 20], [1, 2])], {}), [tmp_path / "a.png"], [note] * 3)
    dark = (read(tmp_path / "a.png") < 100).all(-1)
    assert not dark[-3:].any()
    assert not dark[:, -3:].any()


def test_only_the_tasks_and_methods_that_are_asked_for(tmp_path, monkeypatch):
    for method in ("dreamer", "planet"):
        write_run(tmp_path / method, method=method)
    drawn, draw = [], plot.draw
    monkeypatch.setattr(plot, "draw", lambda entries, *rest, **options: drawn.extend(entries) or draw(entries, *rest))
    plot.main_figure([tmp_path], tmp_path / "a.png", tasks=["walker_*"], methods=["planet"])
    assert [entry.method for entry in drawn] == ["planet"]
    with pytest.raises(ValueError, match=r"^no run of the method 'plan': there are dreamer, planet$"):
        plot.main_figure([tmp_path], tmp_path / "b.png", methods=["plan"])
    assert not (tmp_path / "b.png").exists()


def test_where_some_runs_have_ended_the_mean_of_the_others_is_thin_and_said_to_be(tmp_path, monkeypatch):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", seed=1, xs=(10, 20), ys=(3, 7))
    drawn = []
    monkeypatch.setattr(plot.style, "save", lambda figure, files, notes: drawn.append((figure.axes[0], notes)))
    plot.main_figure([tmp_path], tmp_path / "x.png")
    plot.main_figure([tmp_path / "a"], tmp_path / "x.png")
    (panel, notes), (_, alone) = drawn
    bands = "Bands: one standard deviation over the runs"
    thin, thick = sorted((line for line in panel.lines if line.get_linestyle() != "None"), key=lambda x: x.get_lw())
    np.testing.assert_array_equal(thin.get_ydata(), [2, 6, 9])
    np.testing.assert_array_equal(thick.get_ydata(), [2, 6, np.nan])
    assert thin.get_linewidth() < thick.get_linewidth() / 2
    assert (notes, alone) == ([bands, "Thin lines: means of fewer than all runs"], [])
    assert panel.get_ylim()[0] == 0
    (band,) = panel.collections
    assert band.get_paths()[0].vertices[:, 0].max() == 20


@pytest.mark.parametrize(("last", "points"), [(30_000, 1), (130_000, 2), (330_000, 4), (430_000, 5)])
def test_few_published_points_have_bars_and_neither_line_nor_band(last, points):
    entries = [make_scores([5000, last], [10.0, 70.0], task="dmc_cheetah_run")]
    figure = plot.draw(entries, {}, published=published.load())
    (panel,) = figure.axes
    (theirs,) = [line for line in panel.lines if line.get_label() == "Dreamer, published"]
    assert len(theirs.get_xdata()) == points
    few = points < 5
    assert theirs.get_linestyle() == ("None" if few else "-")
    assert theirs.get_marker() == "o"
    bands = [
        note for note in plot._legend_notes(figure) if note != "Bars: one standard deviation over the published runs"
    ]
    assert bands == ["Bands: one standard deviation over the runs"] * (not few)
    if few:
        (bars,) = panel.containers
        assert bars.lines[0].get_xdata().tolist()[:points] == list(range(5000, last, 100_000))
        assert len(plot._legend_notes(figure)) == 1


def test_a_line_that_ends_early_is_named_with_its_end():
    entries = [make_scores([4000, 12_000], [1.0, 9.0]), make_scores([4000, 8000], [1.0, 5.0], method="planet")]
    (panel,) = plot.draw(entries, {}).axes
    assert {text.get_text() for text in panel.texts} == {"Dreamer", "PlaNet, to 8K"}


def test_published_curve_and_scores_lie_beside_the_runs():
    entries = [make_scores([5000, 900_000], [10.0, 700.0], task="dmc_cheetah_run")]
    (panel,) = plot.draw(entries, {"dmc_cheetah_run": 5.0}, published=published.load()).axes
    lines = {line.get_label(): line for line in panel.lines}
    theirs = lines["Dreamer, published"]
    # Its own points inside the panel, which are shown, and nothing between them and the right end.
    assert theirs.get_xdata().tolist() == list(range(5000, 905_001, 100_000))
    assert theirs.get_ydata().tolist() == published.load().curve("dmc_cheetah_run").mean[:10].tolist()
    assert theirs.get_marker() == "o"
    assert 905_000 < panel.get_xlim()[1] < 1_000_000
    assert {lines[f"{name} frames"].get_ydata()[0] for name in ("PlaNet, 5M", "D4PG, 100M", "A3C, 100M")} == {
        496.12,
        523.8,
        213.9,
    }
    texts = {text.get_text() for text in panel.texts}
    assert texts == {"Dreamer", "random actions", *(text for text in lines if not text.startswith("_"))}
    # Below the second point there is the first one alone, and no line towards the second.
    early = [make_scores([4000, 20_000], [1, 2], task="dmc_cheetah_run")]
    (panel,) = plot.draw(early, {}, published=published.load()).axes
    (theirs,) = [line for line in panel.lines if line.get_label() == "Dreamer, published"]
    assert theirs.get_xdata().tolist() == [5000]
    assert "Dreamer, published, to 5K" in {text.get_text() for text in panel.texts}
    assert panel.get_xlim()[1] < 25_000
    # Unless the runs nearly reach it: it is shown alone, with its deviation.
    early = [make_scores([5000, 85_000], [1, 2], task="dmc_cheetah_run")]
    (panel,) = plot.draw(early, {}, published=published.load()).axes
    (theirs,) = [line for line in panel.lines if line.get_label() == "Dreamer, published"]
    assert theirs.get_xdata().tolist() == [5000]
    curve = published.load().curve("dmc_cheetah_run")
    (bars,) = panel.containers
    assert bars.lines[0].get_xydata().tolist() == [[5000, curve.mean[0]], [105_000, curve.mean[1]]]
    _, deviation = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(deviation[:, 1], [curve.mean[1] - curve.std[1], curve.mean[1] + curve.std[1]])
    assert 105_000 < panel.get_xlim()[1] < 110_000
    assert "Dreamer, published" in {text.get_text() for text in panel.texts}
    # Runs that end before the published ones begin have nothing to be compared with but the final scores.
    (panel,) = plot.draw([make_scores([1, 4000], [1, 2], task="dmc_cheetah_run")], {}, published=published.load()).axes
    assert "Dreamer, published" not in {line.get_label() for line in panel.lines}
    # Nothing is drawn for a task of which nothing was published.
    (panel,) = plot.draw([make_scores([1, 2], [1, 2], task="toy_dot")], {}, published=published.load()).axes
    assert len(panel.texts) == 1


def test_a_legend_of_long_names_stays_inside_the_figure():
    entries = [
        make_scores([10, 20], [1, 2], task=f"dmc_task_{task}", method=f"a method of a rather long name {index}")
        for task in range(2)
        for index in range(5)
    ]
    with matplotlib.rc_context(style.STYLE):
        figure = plot.draw(entries, {})
        figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width

import matplotlib
import numpy as np
import pytest
from rliable import library, metrics

from dreamer.results import aggregate, published, style
from dreamer.results.scores import Scores

TASKS = ("dmc_cheetah_run", "dmc_walker_walk", "dmc_quadruped_run")


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    monkeypatch.setattr(aggregate, "SAMPLES", 200)


def make_runs(seeds=3, tasks=TASKS, method="dreamer"):
    """Runs whose return at 100 frames is 50 (task + 1)^2 + 10 seed, and twice that at 200."""
    return [
        Scores(task, method, seed, [100, 200], [(50 * (index + 1) ** 2 + 10 * seed) * k for k in (1, 2)])
        for index, task in enumerate(tasks)
        for seed in range(seeds)
    ]


def test_statistics_by_hand():
    summary, notes = aggregate.summarise(make_runs())
    assert notes == []
    assert summary.tasks == sorted(TASKS)
    of = summary.methods["dreamer"]
    assert (of.runs, of.frames) == (3, 200)
    # Means of the tasks: 120, 420, 920. All runs: 100, 120, 140, 400, ..., 940; a quarter of nine is two at each end.
    assert of.final["Mean"].value == pytest.approx(1460 / 3)
    assert of.final["Median"].value == pytest.approx(420)
    assert of.final["IQM"].value == pytest.approx(np.mean([140, 400, 420, 440, 900]))
    assert (of.xs[0], of.xs[-1], len(of.xs)) == (100, 200, aggregate.POINTS)
    assert of.curve.value[[0, -1]] == pytest.approx([230, 460])
    shares = dict(zip(aggregate.THRESHOLDS, of.profile.value, strict=True))
    assert [shares[at] for at in (0, 100, 110, 940)] == pytest.approx([1, 8 / 9, 8 / 9, 0])


def test_intervals_hold_their_value_and_are_the_same_every_time():
    summaries = []
    for seed in (123, 124):  # The generator of whoever calls decides nothing, and is left as it was.
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        summaries.append(aggregate.summarise(make_runs())[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    first, second = summaries
    for estimate, again in zip(
        (*first.methods["dreamer"].final.values(), first.methods["dreamer"].curve),
        (*second.methods["dreamer"].final.values(), second.methods["dreamer"].curve),
        strict=True,
    ):
        assert (estimate.low <= estimate.value).all()
        assert (estimate.value <= estimate.high).all()
        assert np.mean(estimate.high - estimate.low) > 5
        np.testing.assert_array_equal(estimate.low, again.low)
        np.testing.assert_array_equal(estimate.high, again.high)


def test_curves_and_profiles_are_rliables():
    matrix = np.random.default_rng(0).uniform(0, 1000, (4, 5, 3))
    of = aggregate._estimate(matrix, np.array([1.0, 2, 3]))
    np.testing.assert_allclose(of.curve.value, [metrics.aggregate_iqm(matrix[..., index]) for index in range(3)])
    profile = library.score_distributions(matrix[..., -1], aggregate.THRESHOLDS)
    np.testing.assert_allclose(of.profile.value, profile)


def test_one_run_a_task_has_no_intervals():
    summary, _ = aggregate.summarise(make_runs(seeds=1))
    of = summary.methods["dreamer"]
    assert {estimate.low for estimate in (*of.final.values(), of.curve, of.profile)} == {None}
    assert of.final["Mean"].value == pytest.approx(1400 / 3)


def test_what_is_left_out_is_said():
    entries = make_runs() + make_runs(tasks=TASKS[:2], method="planet")
    entries = [entry for entry in entries if (entry.task, entry.method, entry.seed) != (TASKS[0], "planet", 2)]
    entries += make_runs(tasks=("toy_dot",))
    summary, notes = aggregate.summarise(entries)
    assert summary.tasks == sorted(TASKS[:2])
    assert (summary.methods["dreamer"].runs, summary.methods["planet"].runs) == (3, 2)
    assert notes == [
        "aggregate: not every method has dmc_quadruped_run: left out",
        "aggregate: planet has 2 to 3 runs a task: the first 2 of each count",
    ]
    entries = make_runs(tasks=TASKS[:1]) + make_runs(tasks=TASKS[1:2], method="planet")
    assert aggregate.summarise(entries) == (
        None,
        ["no aggregate: it needs two tasks that all of dreamer; planet have"],
    )
    assert aggregate.summarise(make_runs(tasks=TASKS[:1])) == (None, [])
    assert aggregate.summarise(make_runs(tasks=("toy_a", "toy_b"))) == (None, [])


def test_runs_that_never_meet_are_left_out():
    late = [entry._replace(method="late", xs=[300, 400]) for entry in make_runs(tasks=TASKS[:1])]
    late += make_runs(tasks=TASKS[1:], method="late")
    summary, notes = aggregate.summarise(make_runs() + late)
    assert list(summary.methods) == ["dreamer"]
    assert notes == ["aggregate: the runs of late have no frame count in common: left out"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_figure_names_frames_and_published_tasks(seeds):
    summary, _ = aggregate.summarise(make_runs(seeds=seeds))
    with matplotlib.rc_context(style.STYLE):
        figure = aggregate.draw(summary, published.load())
        figure.draw_without_rendering()
    mean, median, iqm, *_ = [panel for part in figure.subfigs for panel in part.axes]
    labels = [label.get_text() for label in mean.get_yticklabels()]
    assert labels == [
        "Dreamer (200)",
        "Dreamer, published (5M)",
        "PlaNet, published (5M)",
        "D4PG, published (100M, 2 tasks)",
        "A3C, published (100M, 2 tasks)",
    ]
    # Diamonds of the published mean and median; the IQM of runs that nobody published is not drawn.
    theirs = [line.get_xdata()[0] for line in mean.lines]
    assert theirs[0] == pytest.approx((894.56 + 961.67 + 888.39) / 3)
    assert len(median.lines) == 4
    assert len(iqm.lines) == 0
    assert len(mean.patches) == (seeds > 1)
    assert ("bootstrap" in figure.get_suptitle()) == (seeds > 1)

"""The benchmark of a start."""

import pytest

from benchmarks import start


@pytest.fixture
def left_as_it_is(monkeypatch):
    """What the benchmark replaces is put back after the test."""
    from dreamer import start as of_run
    from dreamer.cli import tensorflow

    monkeypatch.setattr(of_run, "_uncollected", of_run._uncollected)
    monkeypatch.setattr(tensorflow, "gc", tensorflow.gc)
    return of_run, tensorflow


def test_both_ways_take_turns_after_one_that_is_not_counted(children_in_here, eager, left_as_it_is, capsys):
    of_run, tensorflow = left_as_it_is
    ours = of_run._uncollected, tensorflow.gc
    start.main(["--configs", "debug", "toy", "--set", "replay.batch=2", "--actions", "2", "--rounds", "2"])
    ways = [words[words.index("--measure") + 1] for _, words in children_in_here]
    assert ways == ["as it comes", "as it comes", "ours", "as it comes", "ours"]
    assert {words[words.index("--actions") + 1] for _, words in children_in_here} == {"2"}
    assert all("replay.batch=2" in words for _, words in children_in_here)
    assert (of_run._uncollected, tensorflow.gc) != ours
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("until the first update, as it comes / ours: ")


def test_the_ratio_is_that_of_the_first_updates():
    seen = {"as it comes": {"loaded": 6.0, "first": 12.0}, "ours": {"loaded": 4.0, "first": 8.0}}
    table = start.in_words(seen).splitlines()
    assert table[1].split()[-2:] == ["6.00", "4.00"]
    assert table[2].split()[-2:] == ["12.00", "8.00"]
    assert table[-1].endswith(": 1.50x")

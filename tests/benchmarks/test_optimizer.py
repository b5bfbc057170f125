"""The benchmark of Adam."""

import numpy as np

from benchmarks import optimizer


def test_both_take_a_step(capsys):
    optimizer.main(["--configs", "debug", "toy", "--actions", "2", "--repeats", "1", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith(" variables") for line in lines)
    assert lines[-1].startswith("Adam, Keras / ours: first step ")
    assert [int(optimizer.make(kind, [(2, 3), (3,)])()) for kind in optimizer.KINDS] == [1, 1]


def test_kinds_take_turns_and_medians_are_kept(monkeypatch):
    made, seconds = [], iter([0.0, 3.0, 0.0, 1.0, 0.0, 5.0, 0.0, 2.0, 0.0, 4.0, 0.0, 9.0])
    monkeypatch.setattr(optimizer, "make", lambda kind, shapes: made.append((kind, shapes)) or (lambda: np.zeros(1)))
    monkeypatch.setattr(optimizer.time, "perf_counter", lambda: next(seconds))
    steps = iter([0.4, 0.1, 0.2, 0.3, 0.6, 0.2])
    monkeypatch.setattr(optimizer.common, "median_seconds", lambda step, repeats: next(steps))
    seen = optimizer.measure([(2,)], repeats=4, rounds=3)
    assert made == [("Keras", [()]), *[(kind, [(2,)]) for kind in ("Keras", "ours")] * 3]
    assert seen == {"Keras": {"first": 4.0, "step": 0.4}, "ours": {"first": 2.0, "step": 0.2}}
    assert optimizer.in_words(seen).splitlines()[-1] == "Adam, Keras / ours: first step 2.00x, a step 2.00x"

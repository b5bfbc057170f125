import pytest

from dreamer.near import nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("taks", ["task", "tasks"], ["task", "tasks"]),  # a swap, and a letter that is missing
        ("sede", ["seed", "steps"], ["seed"]),
        ("step", ["steps"], ["steps"]),
        ("dcm", ["dmc"], ["dmc"]),
        ("size", ["suite"], []),
        ("grayscale", ["mean_scale", "kl_scale"], []),
        ("lr", ["xl"], []),
        ("walker_wlak", ["walker_walk", "walker_run"], ["walker_walk"]),
        ("walker_wk", ["walker_walk", "walker_run"], ["walker_walk"]),
        ("count", ["count", "cuont"], ["count"]),
        ("", ["seed"], []),
        ("seed", [], []),
        ("x" * 10**6, ["seed"], []),
    ],
)
def test_what_a_slip_of_the_hand_explains(name, known, expected):
    assert nearest(name, known) == expected

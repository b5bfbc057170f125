"""Figures of predicted numbers."""

import numpy as np
from PIL import Image

from dreamer.results import vectors


def test_a_vector_of_many_numbers_leaves_the_figure_its_size(tmp_path):
    sizes = {"a": 10, "camera": 60_000, "z": 1}
    values = {name: np.zeros((1, 7, size), np.float32) for name, size in sizes.items()}
    values["reward"] = np.zeros((1, 7), np.float32)
    vectors.figure(tmp_path / "many.png", values, values, names=["from step 0"], title="dot", context=5)
    width, height = Image.open(tmp_path / "many.png").size
    assert height < 4 * width

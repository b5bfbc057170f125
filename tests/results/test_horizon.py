import numpy as np
import pytest

from dreamer.results import horizon


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ([1, 1, 1, 1], "better than repeating the last image at all 4 imagined steps"),
        ([3, 2, 2, 9], "not better than repeating the last image at any of 4 imagined steps"),
        ([3, 2, 1, 0], "better than repeating the last image from imagined step 3 of 4 on"),
        ([1, 1, 1, 3], "better than repeating the last image up to imagined step 3 of 4"),
        ([1, 3, 1, 3], "better than repeating the last image at 2 of 4 imagined steps"),
        ([np.nan, 1, 1, 1], "better than repeating the last image from imagined step 2 of 4 on"),
        ([None, 2, 2, 2], "not better than repeating the last image at any of 4 imagined steps"),
        ([3, 1, 1], "better than repeating the last image from imagined step 2 of 3 on"),
        ([1, 1, 1, 1, 1], "better than repeating the last image at all 4 imagined steps"),
    ],
)
def test_where_the_model_is_better(model, words):
    assert horizon.in_words(model, [2, 2, 2, 2], "image") == words


def test_what_is_repeated_is_named():
    assert "the last reward" in horizon.in_words([1], [2], "reward")

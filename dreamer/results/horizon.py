"""How far ahead a world model predicts better than repeating what was last observed, in words."""

import numpy as np


def in_words(model: np.ndarray, repeat: np.ndarray, what: str) -> str:
    """Where the model's error is the smaller one: "better than repeating the last image from imagined step 3 of 45 on".

    model, repeat: errors against the horizon [imagined steps], the first of them one step after the last observation;
    a step at which either is not finite is not won, and what only one of them has is left out. what: "image" or
    "reward".
    """
    both = min(len(model), len(repeat))
    wins = np.asarray(model, float)[:both] < np.asarray(repeat, float)[:both]
    steps, won = len(wins), int(wins.sum())
    if won == 0:
        return f"not better than repeating the last {what} at any of {steps} imagined steps"
    if won == steps:
        where = f"at all {steps} imagined steps"
    elif wins[-won:].all():
        where = f"from imagined step {steps - won + 1} of {steps} on"
    elif wins[:won].all():
        where = f"up to imagined step {won} of {steps}"
    else:
        where = f"at {won} of {steps} imagined steps"
    return f"better than repeating the last {what} {where}"

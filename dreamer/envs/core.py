"""What an environment is: spaces, reset, step, close, and the errors it raises.

A step is a dict of NumPy values: every observation of `observation_spaces`, and beside them

    key           dtype        meaning
    reward        np.float32   received on arriving at this observation; 0 at reset
    is_first      np.bool_     this observation begins an episode
    is_last       np.bool_     this observation ends an episode: the next call is reset()
    is_terminal   np.bool_     the task itself ended here, so nothing follows (discount 0); a time limit is no terminal
"""

import difflib
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from dreamer.types import ActionSpace, Space

_NEAR = 0.6  # of the letters that two names have in common, in their order
_SHOWN = 5  # names where none is near
FLAGS = ("is_first", "is_last", "is_terminal")


class EnvError(RuntimeError):
    """An environment broke its contract, was used against it, or failed inside."""


class EnvRefused(EnvError):
    """An environment cannot be made from what was asked for; the message is one line that says what would do."""


class PrintedError(EnvError):
    """An EnvError whose cause a native library has printed: a worker shows the end of the output beside it."""


class Env(Protocol):
    """The interface of every environment.

    observation_spaces: "image", (n, n, 3) uint8, unless the environment was told to render nothing or cannot; every
        other observation is a vector, (size,) float32.
    action_space: continuous actions lie in [-1, 1], discrete ones are one-hot.
    action_repeat: frames of the environment for which one action is held.
    whole_games: False where an episode ends before what evaluation scores does, so that returns do not compare: after
        the loss of a life in Atari. May be left out, for True.
    goes_on: True where the next reset goes on with the world as it is instead of beginning it anew, so that what
        follows depends on earlier episodes too: Atari after the loss of a life. May be left out, for False.
    infos: names of further numbers in a step, () float32, which begin with types.INFO: for the log alone, and NaN where
        the environment does not tell them. May be left out, for ().
    note: one line that says what of the world is seen, where that is not always the same. May be left out, for "".
    """

    observation_spaces: dict[str, Space]
    action_space: ActionSpace
    action_repeat: int

    def reset(self, seed: int | None = None) -> dict:
        """Begin an episode and return its first step.

        With a seed, the episode depends on nothing but the seed and the actions; None draws the next episode from the
        environment's own generator, which the last seed set. Atari, where a game goes on after the loss of a life, and
        DeepMind Lab say what they do instead.
        """

    def step(self, action: np.ndarray) -> dict:
        """Hold the action, [A] float32, for `action_repeat` frames and return the step that it led to."""

    def close(self) -> None:
        """Free everything the environment holds; closing twice is allowed."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return one line saying that a name is unknown and which valid ones are nearest, if any is near at all."""
    known = {valid_name.lower(): valid_name for valid_name in reversed(list(valid))}
    inside = [other for other in known if len(other) > 2 and other in name.lower()]
    if near := difflib.get_close_matches(name.lower(), known, n=3, cutoff=_NEAR) or inside:
        names = "the nearest valid name is" if len(near) == 1 else "the nearest valid names are"
        return f'unknown {kind} "{name}": {names} {", ".join(known[other] for other in near)}'
    shown = list(known.values())[::-1][:_SHOWN]
    return f'unknown {kind} "{name}": valid names are {", ".join(shown)}{" ..." * (len(known) > _SHOWN)}'

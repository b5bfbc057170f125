"""Dreamer: behaviours learned by latent imagination (Hafner et al., ICLR 2020), in TensorFlow 2.

Functions of dreamer/library.py stand here; importing the package loads none of them, nor TensorFlow.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"
DISTRIBUTION = "dreamer-tf2"  # what pip calls it: `dreamer` is taken

if TYPE_CHECKING:
    from dreamer.library import environment, episodes, export, load, metrics, scores, train

__all__ = ["environment", "episodes", "export", "load", "metrics", "scores", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dreamer import library

    return getattr(library, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""Every seed of a run follows from its key `seed`, and no two purposes ever share one.

A seed has 31 bits, the most that all simulators take: the upper three name the purpose, so that purposes are disjoint
whatever the others are, and the lower 28 are a hash of the run's seed and of what is counted within the purpose.
"""

import numpy as np

# What a seed is for. The order is part of every run: a new purpose goes to the end, and there is room for eight.
PURPOSES = ("collect", "evaluate", "replay", "agent", "prefill", "inspect_episode", "inspect_agent")
_HASH_BITS = 28


def derive(seed: int, purpose: str, first: int = 0, second: int = 0) -> int:
    """The seed in 0..2**31 - 1 of a purpose; first and second count within it (frames, a number of an episode).

    Raises ValueError for a purpose that is not in PURPOSES.
    """
    # Words of a fixed number: SeedSequence would hash (1, 2) and (1, 2, 0) to the same, 2**32 + 5 to that of (5, 1).
    words = [number >> shift & 0xFFFFFFFF for number in (seed, first, second) for shift in (0, 32)]
    hashed = int(np.random.SeedSequence(words).generate_state(1)[0]) >> (32 - _HASH_BITS)
    return PURPOSES.index(purpose) << _HASH_BITS | hashed

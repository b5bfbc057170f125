"""The small tuples that travel between the parts, and the legend of every shape in this code base.

    B  sequences in a batch        A  action dimensions (continuous) or choices (discrete, one-hot)
    T  steps in a sequence         S  size of the stochastic state z
    H  imagination horizon         D  size of the deterministic state h
    N  B * T start states          F  size of the feature [z, h]: S + D

Time runs the way the paper's Section 2 writes it: the action, reward and discount stored at step t belong to
the observation o_t that they LED TO.

    step t        0       1       2      ...     L-1
    image        o_0     o_1     o_2     ...   o_{L-1}
    action        0      a_1     a_2     ...   a_{L-1}      a_t was chosen after seeing o_{t-1}
    reward        0      r_1     r_2     ...   r_{L-1}      r_t was received on arriving at o_t
    discount      1       1       1      ...   0 or 1       0 only if o_t is terminal; a time limit keeps 1
"""

from typing import Any, NamedTuple


class State(NamedTuple):
    """RSSM state s_t of the posterior or the prior; every field is float32.

    mean, std: [..., S], parameters of the diagonal Gaussian; stoch: [..., S], its sample z_t; deter: [..., D], h_t.
    """

    mean: Any
    std: Any
    stoch: Any
    deter: Any


class Batch(NamedTuple):
    """Windows of experience, time-aligned as in the legend above.

    inputs: what the agent sees, by name: "image" [B, T, n, n, 3] uint8, n = 64 in the paper, and vectors [B, T, size]
    float32; either may be missing. action: [B, T, A] float32; reward, discount: [B, T] float32;
    is_first: [B, T] bool, True where a piece of an episode begins, so that the state before it is the zero state
    (always at t = 0, and inside the window where a short episode is followed by another).
    """

    inputs: dict[str, Any]
    action: Any
    reward: Any
    discount: Any
    is_first: Any

    @property
    def image(self) -> Any:
        """The images, None where the agent sees none."""
        return self.inputs.get(IMAGE)


class ActionSpace(NamedTuple):
    """size: number of dimensions in [-1, 1] (continuous), or number of choices, passed one-hot (discrete).

    groups: where an action is several choices at once, how many each has, passed one-hot one after the other; their sum
    is the size. () for one choice, and for continuous actions.
    """

    size: int
    discrete: bool
    groups: tuple[int, ...] = ()

    @property
    def told(self) -> str:
        """What an action is, in words."""
        if self.groups:
            return f"one-hot in each of {len(self.groups)} groups, of {', '.join(map(str, self.groups))} numbers"
        return "one-hot" if self.discrete else "each number in [-1, 1]"


class Space(NamedTuple):
    """One observation of an environment: its shape and the name of its NumPy dtype."""

    shape: tuple
    dtype: str


INFO = "info."  # begins the name of a number that an environment tells beside what it observes, for the log alone
IMAGE = "image"  # the observation of an environment that is one; all others are vectors
PIXELS = {IMAGE: Space((64, 64, 3), "uint8")}  # what the agent of the paper sees

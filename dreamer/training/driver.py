"""Running an agent in an environment, and putting what happens into episodes.

agent step      reset          1                2
agent sees               o_0              o_1
agent acts               a_1 ----.        a_2 ----.
environment     o_0               o_1              o_2
stored          (o_0, 0, 0)      (o_1, a_1, r_1)  (o_2, a_2, r_2)
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from dreamer.envs import Env, EnvError
from dreamer.envs.worker import WorkerDied
from dreamer.types import INFO

Episode = dict[str, np.ndarray]  # arrays [L, ...] by name
STATISTICS = ("last", "mean", "max")  # of a number of `info` over an episode


class Agent(Protocol):
    """What a driver asks of an agent; Streams ask for initial(rows) and act_rows where it has a memory, see agents."""

    def initial(self) -> Any:
        """Carry before the first step of an episode stream."""

    def act(self, observation: Mapping[str, Any], carry: Any, explore: bool) -> tuple[np.ndarray, Any]:
        """Action [A] for one observation, and the new carry."""


class Driver:
    """One stream of episodes of one agent in one environment.

    explore is handed to the agent; seed_of(n) is the seed of the n-th episode that this driver begins. action: chosen
    and not taken yet, because the environment failed before; None where one is to be chosen.
    """

    def __init__(self, env: Env, agent: Agent, *, explore: bool, seed_of: Callable[[int], int]):
        self.env, self.agent, self.explore, self._seed_of = env, agent, explore, seed_of
        self._begun = 0
        self._steps: list[dict[str, Any]] = []
        self._carry: Any = None
        self.action: Any = None
        # (seed, actions) of the episode in progress and those before it since the environment last began anew
        self._past: list[tuple[int, list[np.ndarray]]] = []

    @property
    def steps(self) -> int:
        """Agent steps of the episode in progress, the reset not counted."""
        return max(0, len(self._steps) - 1)

    def step(self) -> Episode | None:
        """One agent step, after a reset where an episode begins. Returns the episode it finished, or None.

        Where the environment raises, the next call goes on with the action that was chosen then.
        """
        if not self._steps:
            seed = self.seed()
            self.begin(seed, self.env.reset(seed=seed))
            self._carry = self.agent.initial()
        if self.action is None:
            self.action, self._carry = self.agent.act(self._steps[-1], self._carry, self.explore)
        return self.take(self.env.step(self.action))

    # What a step consists of, for Streams.

    @property
    def observation(self) -> Mapping[str, Any] | None:
        """The newest step of the episode in progress; None between two episodes."""
        return self._steps[-1] if self._steps else None

    def seed(self) -> int:
        """The seed of the episode that is to begin."""
        return self._seed_of(self._begun)

    def begin(self, seed: int, step: dict) -> None:
        """Begin the episode of a seed with its first step."""
        self._begun += 1
        self._past.append((seed, []))
        self._steps = [{**step, "action": np.zeros(self.env.action_space.size, np.float32)}]

    def take(self, step: dict) -> Episode | None:
        """Take in the step that the chosen action led to. Returns the episode it finished, or None."""
        self._steps.append({**step, "action": self.action})
        self._past[-1][1].append(self.action)
        self.action = None
        return self._finish() if self._steps[-1]["is_last"] else None

    def cut(self) -> Episode | None:
        """End the episode in progress here, as a time limit would, and return it; None if there is no step to keep."""
        self.action = None
        if len(self._steps) < 2:
            self._end()
            return None
        self._steps[-1] = {**self._steps[-1], "is_last": np.bool_(True)}
        return self._finish()

    def use(self, agent: Agent) -> None:
        """Let `agent` act from the next episode on; what the environment has lived through stays known."""
        assert not self._steps, "an episode is in progress"
        self.agent = agent

    def drop(self, env: Env) -> None:
        """Forget the episode in progress and go on in `env`, which takes the place of one that failed."""
        self.env, self._steps, self.action, self._past = env, [], None, []

    def copy(self) -> "Driver":
        """A driver whose `state` stays what it is now, however this one goes on."""
        copied = copy.copy(self)
        copied._steps, copied._past = list(self._steps), [(seed, list(actions)) for seed, actions in self._past]
        return copied

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as a dict of arrays by name."""
        past = self._past
        arrays = {
            "begun": np.int64(self._begun),
            "seeds": np.array([seed for seed, _ in past], np.int64),
            "lengths": np.array([len(actions) for _, actions in past], np.int64),
            "actions": np.array([action for _, actions in past for action in actions], np.float32),
        }
        if self._steps:
            arrays |= {f"step/{key}": value for key, value in _stack(self._steps).items()}
            for number, value in enumerate(tf.nest.flatten(self._carry)):
                if value is not None:
                    arrays[f"carry/{number}"] = np.asarray(value)
        if self.action is not None:
            arrays["action"] = self.action
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Go on from `state`: the environment lives through the same seeds and actions again.

        Returns whether it did: every observation of the episode in progress must be equal to the stored one. Where the
        environment does not repeat itself, only that episode's steps are taken over, for `cut`. Raises WorkerDied where
        its process fails meanwhile, which says nothing about that.
        """
        self._begun = int(arrays["begun"])
        stored = {key.removeprefix("step/"): value for key, value in arrays.items() if key.startswith("step/")}
        length = len(stored["reward"]) if stored else 0
        self._steps = [{key: value[n] for key, value in stored.items()} for n in range(length)]
        past = np.split(arrays["actions"], np.cumsum(arrays["lengths"])[:-1]) if len(arrays["lengths"]) else []
        self._past = [(int(seed), list(actions)) for seed, actions in zip(arrays["seeds"], past, strict=True)]
        if self._steps:
            structure = self.agent.initial()
            carry = [arrays.get(f"carry/{number}") for number in range(len(tf.nest.flatten(structure)))]
            self._carry = tf.nest.pack_sequence_as(structure, [c if c is None else tf.constant(c) for c in carry])
            self.action = arrays.get("action")
        try:
            return self._live_through_it_again()
        except WorkerDied:
            raise
        except EnvError:  # steps after what is the end of an episode now, for instance
            return False

    def _live_through_it_again(self) -> bool:
        for at, (seed, actions) in enumerate(self._past, 1):
            known = self._steps if at == len(self._past) else []
            if known and len(known) != len(actions) + 1:
                return False
            for number in range(len(actions) + 1):
                now = self.env.step(actions[number - 1]) if number else self.env.reset(seed=seed)
                # The first step may tell what the thousands after it would take minutes for. An older release may have
                # kept less of a step.
                both = now.keys() & known[number].keys() if known else ()
                if not all(np.array_equal(now[key], known[number][key]) for key in both if not _is_info(key, now)):
                    return False
        return bool(self._past) or not self._steps

    def _end(self) -> list[dict[str, Any]]:
        """The steps of the episode, which is over."""
        steps, self._steps = self._steps, []
        if not getattr(self.env, "goes_on", False):
            self._past = []
        return steps

    def _finish(self) -> Episode:
        steps = self._end()
        episode = _stack(steps)
        episode["discount"] = 1.0 - episode["is_terminal"].astype(np.float32)
        return episode


def episode_return(episode: Mapping[str, np.ndarray]) -> float:
    """Sum of rewards of an episode."""
    return float(episode["reward"].sum(dtype=np.float64))


def episode_infos(episode: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Of each number of `info` that an episode has: its last value, mean and maximum over the steps that told it.

    {"info.success_last": .., "info.success_mean": .., "info.success_max": ..}; nothing of one that no step told.
    """
    found: dict[str, float] = {}
    for name in filter(lambda key: key.startswith(INFO) and episode[key].ndim == 1, episode):  # not a vector
        told = episode[name][np.isfinite(episode[name])].astype(np.float64)
        if len(told):
            values = (told[-1], told.mean(), told.max())
            found |= {f"{name}_{kind}": float(value) for kind, value in zip(STATISTICS, values, strict=True)}
    return found


def _is_info(name: str, step: Mapping[str, Any]) -> bool:
    """Whether a part of a step is for the log alone: nothing follows from it, and a time in it never comes again."""
    return name.startswith(INFO) and np.ndim(step[name]) == 0


def mean_infos(infos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each over the episodes that have it. infos: of `episode_infos`."""
    names = dict.fromkeys(name for found in infos for name in found)
    return {name: float(np.mean([found[name] for found in infos if name in found])) for name in names}


def _stack(steps: list[dict[str, Any]]) -> Episode:
    # What only some have: a resume may change which numbers of `info` are kept in the midst of an episode.
    keys = [key for key in steps[0] if all(key in step for step in steps)]
    return {key: np.stack([step[key] for step in steps]) for key in keys}

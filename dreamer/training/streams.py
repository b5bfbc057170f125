"""Several environments that one agent acts in, step by step together.

main     | one action for each row | send all | receive all | one action for each row ...
worker 0 |                         | ==== step             |
worker 1 |                         | ========== step       |
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dreamer.envs import EnvError
from dreamer.training.driver import Agent, Driver, Episode


class Streams:
    """Streams of episodes, one of each driver in `drivers`, which have one agent and explore alike.

    One stream is its driver and no more. Several take their steps together: those in processes of their own are at work
    at the same time, and the agent acts in all by one call, act_rows; one that lacks it has no memory, and acts in one
    after the other. What comes out depends on no timing.

    failed: {number of a stream: its EnvError} in the last step, in the order of the streams.
    """

    def __init__(self, drivers: Sequence[Driver]):
        self._drivers = list(drivers)
        self._carry: Any = None  # of all rows; a single driver has its own
        self.failed: dict[int, EnvError] = {}

    @property
    def steps(self) -> int:
        """Agent steps of all episodes in progress."""
        return sum(driver.steps for driver in self._drivers)

    @property
    def playing(self) -> int:
        """Episodes in progress."""
        return sum(driver.observation is not None for driver in self._drivers)

    def steps_of(self, number: int) -> int:
        """Agent steps of the episode in progress of one stream."""
        return self._drivers[number].steps

    def step(self, may_begin: Callable[[int], bool] = lambda playing: True) -> dict[int, Episode]:
        """One agent step of each stream, after a reset where an episode begins. Returns those that it finished.

        may_begin(number of episodes in progress): whether another one may begin; else its stream stands still.
        An environment that fails keeps no other one from its step, see `failed`; the next call completes the step where
        it failed, as if it had not.
        """
        self.failed = {}
        if len(self._drivers) == 1:
            try:
                episode = self._drivers[0].step()
            except EnvError as error:
                self.failed[0] = error
                return {}
            return {0: episode} if episode else {}
        if all(driver.action is None for driver in self._drivers):
            self._begin(may_begin)
            if self.failed:
                return {}
            self._act()
        actions = {n: driver.action for n, driver in enumerate(self._drivers) if driver.action is not None}
        taken = {n: self._drivers[n].take(step) for n, step in self._ask("step", actions).items()}
        return {n: episode for n, episode in taken.items() if episode}

    def cut(self, numbers: Sequence[int] | None = None) -> list[Episode]:
        """End the episodes in progress, as Driver.cut does, and return them. numbers: of the streams; None for all."""
        chosen = range(len(self._drivers)) if numbers is None else numbers
        return [episode for n in chosen if (episode := self._drivers[n].cut())]

    def use(self, agent: Agent) -> None:
        """Let `agent` act from the next episodes on."""
        self._carry = None
        for driver in self._drivers:
            driver.use(agent)

    def drop(self, number: int, driver_env: Any) -> None:
        """Forget the episode in progress of one stream and go on in `driver_env`."""
        self._drivers[number].drop(driver_env)

    def copy(self) -> "Streams":
        """Streams of which `state` stays what it is now, however these go on."""
        copied = copy.copy(self)
        copied._drivers = [driver.copy() for driver in self._drivers]
        return copied

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as a dict of arrays by name."""
        if len(self._drivers) == 1:
            return self._drivers[0].state()
        arrays = {
            f"{n}/{name}": value for n, driver in enumerate(self._drivers) for name, value in driver.state().items()
        }
        carry = tf.nest.flatten(self._carry) if self._carry is not None else []
        return arrays | {f"carry/{number}": np.asarray(value) for number, value in enumerate(carry)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> list[int]:
        """Go on from `state`, see Driver.restore. Returns the streams whose environment did not repeat itself."""
        if len(self._drivers) == 1:
            return [] if self._drivers[0].restore(arrays) else [0]
        if "carry/0" in arrays:
            agent: Any = self._drivers[0].agent
            structure = agent.initial(len(self._drivers))
            carry = [tf.constant(arrays[f"carry/{number}"]) for number in range(len(tf.nest.flatten(structure)))]
            self._carry = tf.nest.pack_sequence_as(structure, carry)
        sections = [
            {name.removeprefix(f"{n}/"): value for name, value in arrays.items() if name.startswith(f"{n}/")}
            for n in range(len(self._drivers))
        ]
        return [n for n, driver in enumerate(self._drivers) if not driver.restore(sections[n])]

    def _begin(self, may_begin: Callable[[int], bool]) -> None:
        seeds: dict[int, int] = {}
        playing = self.playing
        for n, driver in enumerate(self._drivers):
            if driver.observation is None and may_begin(playing + len(seeds)):
                seeds[n] = driver.seed()
        for n, step in self._ask("reset", seeds).items():
            self._drivers[n].begin(seeds[n], step)

    def _act(self) -> None:
        """Choose an action in every stream that has an episode in progress."""
        agent: Any = self._drivers[0].agent
        explore = self._drivers[0].explore
        seen = [driver.observation for driver in self._drivers]
        if hasattr(agent, "act_rows"):
            if self._carry is None:
                self._carry = agent.initial(len(seen))
            # What an agent sees of a stream that stands still is nothing.
            inputs = {
                name: np.stack([np.zeros(space.shape, space.dtype) if one is None else one[name] for one in seen])
                for name, space in agent.inputs.items()
            }
            is_first = np.array([True if one is None else one["is_first"] for one in seen], bool)
            actions, self._carry = agent.act_rows(inputs, is_first, self._carry, explore)
        else:
            actions = [None if one is None else agent.act(one, None, explore)[0] for one in seen]
        for driver, action in zip(self._drivers, actions, strict=True):
            if driver.observation is not None:
                driver.action = action

    def _ask(self, method: str, arguments: Mapping[int, Any]) -> dict[int, dict]:
        """The steps that environments answer with, asked for by Checked.send; those that fail are noted in `failed`."""
        answers = {}
        envs: list[Any] = [driver.env for driver in self._drivers]
        for n, argument in arguments.items():
            try:
                envs[n].send(method, argument)
            except EnvError as error:
                self.failed[n] = error
        for n in [n for n in arguments if n not in self.failed]:
            try:
                answers[n] = envs[n].receive()
            except EnvError as error:
                self.failed[n] = error
        self.failed = dict(sorted(self.failed.items()))
        return answers

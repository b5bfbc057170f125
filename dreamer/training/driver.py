"""Running an agent in an environment, and putting what happens into episodes.

agent step      reset          1                2
agent sees               o_0              o_1
agent acts               a_1 ----.        a_2 ----.
environment     o_0               o_1              o_2
stored          (o_0, 0, 0)      (o_1, a_1, r_1)  (o_2, a_2, r_2)
"""

import numpy as np


class Driver:
    """One stream of episodes of one agent in one environment.

    explore is handed to the agent; seed_of(n) is the seed of the n-th episode that this driver begins.
    """

    def __init__(self, env, agent, *, explore, seed_of):
        self._env, self._agent, self._explore, self._seed_of = env, agent, explore, seed_of
        self._begun = 0
        self._steps, self._carry = [], None

    @property
    def steps(self):
        """Agent steps of the episode in progress, the reset not counted."""
        return max(0, len(self._steps) - 1)

    def step(self):
        """One agent step, after a reset where an episode begins. Returns the episode it finished, or None."""
        if not self._steps:
            observation = self._env.reset(seed=self._seed_of(self._begun))
            self._begun += 1
            self._carry = self._agent.initial()
            self._steps = [{**observation, "action": np.zeros(self._env.action_space.size, np.float32)}]
        action, self._carry = self._agent.act(self._steps[-1], self._carry, self._explore)
        self._steps.append({**self._env.step(action), "action": action})
        return self._finish() if self._steps[-1]["is_last"] else None

    def cut(self):
        """End the episode in progress here, as a time limit would, and return it; None if there is no step to keep."""
        if len(self._steps) < 2:
            return None
        self._steps[-1] = {**self._steps[-1], "is_last": np.bool_(True)}
        return self._finish()

    def _finish(self):
        steps, self._steps = self._steps, []
        episode = {key: np.stack([step[key] for step in steps]) for key in steps[0]}
        episode["discount"] = 1.0 - episode["is_terminal"].astype(np.float32)
        return episode


def episode_return(episode):
    """Sum of rewards of an episode."""
    return float(episode["reward"].sum(dtype=np.float64))

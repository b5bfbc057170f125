"""Agents. Each one has the same small interface, which the training loop and the driver rely on:

initial()                                 carry before the first step of an episode stream
act(observation, carry, explore) -> action [A] float32 NumPy, carry
train(batch) -> dict of scalar tensors    one update from a Batch                     (agents that learn)
open_loop(batch, context) -> images [B, T, 64, 64, 3] in [0, 1] or None, rewards [B, T]   (agents with a world model)
checkpoint() -> dict of trackables        everything that resuming needs, by name

An agent is a module with a function build(config, action_space, *, seed), which raises RunError where the agent cannot
act so; its name in METHODS makes it a value of the key `method`.
"""

METHODS = ("dreamer", "planet", "random")


class RunError(ValueError):
    """A run that cannot do what it is asked for; the message is one line."""

"""PlaNet (Hafner et al., ICML 2019) on Dreamer's world model: no actor and no value, a plan for every step instead."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dreamer import keys
from dreamer.agents import PLANNER, RunError
from dreamer.agents.acting import Belief, Carry, Draws, Inputs, act_once, exploration_noise, rows_of
from dreamer.agents.build import shared
from dreamer.behavior.actor_critic import Value
from dreamer.behavior.planner import plan, predicted_return
from dreamer.nets.layers import seed_stream
from dreamer.nets.optimizer import Optimizer, only_variables
from dreamer.types import PIXELS, ActionSpace, Batch, Space, State
from dreamer.world_model.rssm import feature
from dreamer.world_model.world_model import WorldModel, probe_seed_stream


class PlaNet:
    """Plans continuous actions by the rewards that the world model predicts.

    inputs: Space of everything that it sees, by name. model, planner, optimizer, explore are the keyword arguments of
    configs/defaults.yaml's sections of the same names; gamma is for a discount head, and for plans that a value judges.
    value: the section of that name where planner.value is true: a value network that nothing here trains, for the
    weights of a Dreamer. loss_scale is for float16; xla compiles the training step.
    """

    def __init__(
        self,
        action_space: ActionSpace,
        inputs: Mapping[str, Space] = PIXELS,
        *,
        model: keys.Model,
        planner: keys.Planner,
        optimizer: keys.Optimizer,
        explore: keys.Explore,
        gamma: float,
        seed: int,
        value: keys.Value | None = None,
        loss_scale: bool = False,
        xla: bool = False,
    ):
        model = dict(model)
        model.pop("inputs", None)  # Names, of which `inputs` has the Spaces.
        lr = model.pop("lr")
        self.action_space, self.inputs = action_space, dict(inputs)
        self._planner, self._noise = dict(planner), explore["noise"]
        seeds = seed_stream(seed)
        self.world_model = WorldModel(
            action_space.size, inputs, gamma=gamma, seeds=seeds, probe_seeds=probe_seed_stream(seed), **model
        )
        settings = {"lr": lr, "loss_scale": loss_scale, **optimizer}
        self.optimizers = {"model": Optimizer(self.world_model.model_variables, name="model", **settings)}
        if self.world_model.probes:
            self.optimizers["probe"] = Optimizer(self.world_model.probe_variables, name="probe", **settings)
        self.updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="updates")
        self.random = tf.random.Generator.from_seed(next(seeds), alg="philox")
        self.value: Value | None = None
        if value is not None:
            sizes = {"layers": value["layers"], "units": value["units"]}
            self.value = Value(model["stoch"] + model["deter"], seeds=seeds, **sizes)
        self._belief = Belief(self.world_model, action_space.size, self.random)
        compiled = tf.function(self.train, jit_compile=True if xla else None, autograph=False)
        self.train = compiled  # type: ignore[method-assign]  # the same method, compiled

    def checkpoint(self) -> dict[str, Any]:
        """World model, optimiser, update counter and random generator, by name; the value network, if there is one."""
        value = {"value_optimizer": only_variables(self.value.trainable_variables)} if self.value else {}
        return {
            "world_model": self.world_model,
            **{f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()},
            **value,
            "updates": self.updates,
            "random": self.random,
        }

    def train(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One update of the world model from a Batch. Returns scalar metrics."""
        with tf.GradientTape() as tape:
            loss, posterior, metrics = self.world_model.loss(batch, self._belief.noise(batch.reward.shape))
            scaled = self.optimizers["model"].scale(loss)
        steps = {"model": self.optimizers["model"].step(tape, scaled)}
        if probe := self.optimizers.get("probe"):
            with tf.GradientTape() as tape:
                metrics["probe_loss"] = self.world_model.probe_loss(posterior, batch.image)
                scaled = probe.scale(metrics["probe_loss"])
            steps["probe"] = probe.step(tape, scaled)
        self.updates.assign_add(1)
        return metrics | {f"{name}_{key}": number for name, step in steps.items() for key, number in step.items()}

    def initial(self, rows: int = 1) -> Carry:
        """Carry before the first step, for `rows` environments."""
        return self._belief.initial(rows)

    def act(self, observation: Mapping[str, Any], carry: Carry, explore: bool) -> tuple[np.ndarray, Carry]:
        """One action [A] for one observation: planned, and noisy when exploring."""
        return act_once(self.act_rows, self.inputs, observation, carry, explore)

    def act_rows(self, inputs: Inputs, is_first: np.ndarray, carry: Carry, explore: bool) -> tuple[np.ndarray, Carry]:
        """Actions [B, A] for B environments at once."""
        action, carry = (self.explore if explore else self.evaluate)(inputs, is_first, carry)
        return action.numpy(), carry

    @tf.function(autograph=False)
    def evaluate(self, inputs: Inputs, is_first: tf.Tensor, carry: Carry) -> tuple[tf.Tensor, Carry]:
        """Planned actions, see `policy`."""
        return self.policy(inputs, is_first, carry, self.random, explore=False)

    @tf.function(autograph=False)
    def explore(self, inputs: Inputs, is_first: tf.Tensor, carry: Carry) -> tuple[tf.Tensor, Carry]:
        """Planned actions with Normal noise, see `policy`."""
        return self.policy(inputs, is_first, carry, self.random, explore=True)

    def policy(
        self, inputs: Inputs, is_first: tf.Tensor, carry: Carry, random: tf.random.Generator | Draws, *, explore: bool
    ) -> tuple[tf.Tensor, Carry]:
        """Actions [B, A] and the new carry. inputs: [B, ...] by name, is_first: [B]; carry: (State, last action).

        random: a tf.random.Generator, or Draws, on which all that is random here depends. explore: adds Normal noise.
        """
        state = self._belief.filter(inputs, is_first, carry, random)
        action = self._plan(state, random)
        if explore:
            action = exploration_noise(action, self._noise, random.normal(tf.shape(action)))
        return action, (state, action)

    def open_loop(self, batch: Batch, context: int) -> dict[str, tf.Tensor]:
        """What is predicted once the first `context` steps have been seen, by name; see WorldModel.open_loop."""
        return self._belief.open_loop(batch, context)

    def _plan(self, state: State, random: tf.random.Generator | Draws) -> tf.Tensor:
        """The first action of a plan from every state. state: [B, ...] -> [B, A]."""
        horizon, candidates = self._planner["horizon"], self._planner["candidates"]
        rows, seeded = rows_of(state.deter), isinstance(random, Draws)
        start = tf.nest.map_structure(lambda x: tf.repeat(x, candidates, 0), state)

        def of(head: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[State], tf.Tensor]:
            return lambda state: head(feature(state))

        step, reward = self.world_model.rssm.img_step, self.world_model.reward
        judged = {"discount": of(self.world_model.discount), "value": of(self.value)} if self.value else {}

        def evaluate(actions: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            actions = tf.reshape(actions, [-1, horizon, self.action_space.size])
            shape = [rows * candidates, horizon, state.stoch.shape[-1]]
            noise = tf.random.stateless_normal(shape, seed) if seeded else random.normal(shape)
            returns = predicted_return(step, of(reward), start, actions, noise, **judged)
            return tf.reshape(returns, [rows, candidates])

        iterations = self._planner["iterations"]
        noise = random.normal([iterations, rows, candidates, horizon, self.action_space.size])
        # A generator remembers from turn to turn of the planner's loop what Draws would draw again.
        seeds = tf.transpose(random.make_seeds(iterations)) if seeded else tf.zeros([iterations, 2], tf.int64)
        return plan(evaluate, noise, seeds, self._planner["best"])[:, 0]


def build(config: keys.Keys, action_space: ActionSpace, inputs: Mapping[str, Space], *, seed: int) -> PlaNet:
    """The PlaNet of a config. Raises RunError for discrete actions, and for more elites than candidates."""
    if action_space.discrete:
        raise RunError(f"{PLANNER} plans continuous actions, and those of {config.task} are discrete")
    if config.planner.best > config.planner.candidates:
        raise RunError(
            f"--planner.best: expected at most the {config.planner.candidates} of planner.candidates, "
            f"got {config.planner.best}"
        )
    value = config.value if config.planner.value else None
    settings: dict[str, Any] = {"gamma": config.behavior.discount, "value": value, **shared(config, seed)}
    return PlaNet(action_space, inputs, planner=config.planner, **settings)

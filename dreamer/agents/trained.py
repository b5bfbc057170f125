"""A trained agent for other programs than this one: NumPy arrays go in, NumPy arrays come out.

Shapes are those of types.py. Time runs as it does there: the action beside an image is the one that led to it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dreamer import keys
from dreamer.agents import RunError, variant
from dreamer.agents.acting import Draws
from dreamer.agents.dreamer import Dreamer
from dreamer.agents.planet import PlaNet
from dreamer.types import IMAGE, ActionSpace, Batch, Space, State

Observed = np.ndarray | Mapping[str, np.ndarray]  # images, or all that an agent sees, by name


class Carry(NamedTuple):
    """What an agent remembers from one step to the next: the posterior [B, ...] and the action taken in it, [B, A]."""

    state: State
    action: np.ndarray


class Prediction(NamedTuple):
    """What a world model expects. states: State [B, H, ...]; images: [B, H, n, n, 3] float32 in [0, 1], None without
    a decoder; rewards, discounts: [B, H] float32, rewards being tanh(r) where replay.tanh_rewards is true; vectors:
    [B, H, size] float32 of each vector among the agent's inputs, by name."""

    states: State
    images: np.ndarray | None
    rewards: np.ndarray
    discounts: np.ndarray
    vectors: dict[str, np.ndarray] = {}


class TrainedAgent:
    """The agent of a run, with the weights of one of its committed states.

    config: every key of the run; action_space: size, and whether it is discrete; inputs: Space of everything that it
    sees, by name; frames, updates: how far it was
    trained; best: whether it is the best one by evaluation of those kept, and not the newest; networks: the Keras
    layers by name, for what is not here. Bad arguments raise ValueError, in one line.

    Images are uint8, [n, n, 3], one or [B, ...] of them, n being 64 unless env.size says otherwise. Where an agent sees
    vectors too, or nothing but them, a dict of all its inputs takes the place of the images: float32 [size] by name.
    Actions are float32: continuous ones lie in [-1, 1], discrete ones are one-hot (`action.argmax()` is the choice), or
    several one-hot groups, one after the other, of the sizes action_space.groups.
    """

    def __init__(self, agent: Dreamer | PlaNet, config: keys.Keys, *, frames: int, best: bool):
        self._agent, self._world_model = agent, agent.world_model
        self.config, self.frames, self.best = config, frames, best
        self.action_space: ActionSpace = agent.action_space
        self.inputs: dict[str, Space] = agent.inputs
        self.updates = int(agent.updates)
        self.networks = networks = {
            name: network
            for name in ("world_model", "actor", "value")
            if (network := getattr(agent, name, None)) is not None
        }

        functions: dict[str, Callable] = {"reward": agent.world_model.reward, "discount": agent.world_model.discount}
        functions["embed"] = lambda inputs: tf.cast(agent.world_model.embed(inputs), tf.float32)
        functions["predicted"] = agent.world_model.predicted
        functions["value"] = lambda features: networks["value"](features)
        self._compiled = {
            name: tf.function(function, reduce_retracing=True, autograph=False) for name, function in functions.items()
        }

    def __repr__(self) -> str:
        return (
            f"<{variant(self.config)} of {self.config.suite}_{self.config.task} after {self.frames:,} frames, "
            f"{self.updates:,} updates>"
        )

    def act(
        self,
        images: Observed,
        carry: Carry | None = None,
        *,
        is_first: bool | np.ndarray = False,
        explore: bool = False,
        seed: int | None = None,
    ) -> tuple[np.ndarray, Carry]:
        """Actions for one image [n, n, 3] -> [A], or for B of them -> [B, A], and the carry for the next step.

        carry: None where episodes begin. is_first: where one begins in the midst of others, a bool or [B]. explore:
        with the noise of training, in the place of the mode. The draws go on from call to call, as in `dreamer eval`;
        with a seed they follow from it alone.
        """
        inputs, leading = self._seen(images, (0, 1))
        single = not leading
        inputs = {name: value[None] for name, value in inputs.items()} if single else inputs
        rows = 1 if single else leading[0]
        if carry is None:
            carry = self._agent.initial(rows)
            is_first = True
        else:
            carry = self._tensors(carry, rows)
        first = np.broadcast_to(np.asarray(is_first, bool), [rows])
        if seed is None:
            action, (state, _) = self._agent.act_rows(inputs, first, carry, explore)
        else:
            drawn, state = self._seeded(inputs, first, carry, tf.constant(seed, tf.int64), explore)
            action = drawn.numpy()
        return (action[0] if single else action), Carry(_arrays(state), action)

    def policy(
        self,
        inputs: Mapping[str, tf.Tensor],
        is_first: tf.Tensor,
        carry: tuple[State, tf.Tensor],
        random: tf.random.Generator | Draws,
        *,
        explore: bool,
    ) -> tuple[tf.Tensor, tuple[State, tf.Tensor]]:
        """The agent's own policy, tensors in and tensors out; see Dreamer.policy and PlaNet.policy."""
        return self._agent.policy(inputs, is_first, carry, random, explore=explore)

    @property
    def variables(self) -> list[tf.Variable]:
        """All that its functions read: the weights of the networks, and the counter of updates."""
        return [*(w.value for network in self.networks.values() for w in network.variables), self._agent.updates]

    def session(self, *, explore: bool = False) -> "Session":
        """Something to call once per step, which keeps the carry."""
        return Session(self, explore)

    def embed(self, images: Observed) -> np.ndarray:
        """What the encoder makes of images [..., n, n, 3]: [..., E] float32."""
        inputs, _ = self._seen(images, range(9))
        return self._compiled["embed"]({name: tf.constant(value) for name, value in inputs.items()}).numpy()

    def observe(
        self,
        images: Observed,
        actions: np.ndarray,
        is_first: np.ndarray | None = None,
        *,
        seed: int = 0,
    ) -> State:
        """Posterior states of sequences: images [B, T, n, n, 3], actions [B, T, A] -> State of [B, T, ...].

        is_first: [B, T], where an episode begins; by default at the first step only. Samples follow from the seed.
        """
        inputs, (rows, steps) = self._seen(images, (2,))
        actions = self._actions(actions, (rows, steps), "actions")
        if is_first is None:
            is_first = np.arange(steps)[None].repeat(rows, 0) == 0
        return _arrays(self._observe(inputs, actions, np.asarray(is_first, bool), tf.constant(seed, tf.int64)))

    def imagine(self, state: State, actions: np.ndarray, *, seed: int = 0) -> Prediction:
        """What follows from states [B, ...] by actions [B, H, A], without an image being seen: a Prediction of H steps.

        `carry.state` of `act` is such a state, and so is a step of `observe`. Samples follow from the seed.
        """
        _check_state(state)
        if np.ndim(state.deter) != 2:
            raise ValueError(f"state: expected one for each row, deter [B, D], got deter {list(np.shape(state.deter))}")
        rows = len(np.asarray(state.deter))
        actions = self._actions(actions, (rows, None), "actions")
        state = State(*(tf.constant(field, tf.float32) for field in state))
        states = _arrays(self._imagine(state, actions, tf.constant(seed, tf.int64)))
        seen = self._predicted(states)
        image = seen.pop(IMAGE, None)
        return Prediction(states, image, self.reward(states), self.discount(states), seen)

    def predict(
        self,
        images: Observed,
        actions: np.ndarray,
        future: np.ndarray,
        *,
        seed: int = 0,
    ) -> Prediction:
        """Open-loop prediction: C steps are seen, images [B, C, n, n, 3] and actions [B, C, A] that led to them; H
        more are imagined by the actions `future` [B, H, A].
        """
        states = self.observe(images, actions, seed=seed)
        return self.imagine(State(*(field[:, -1] for field in states)), future, seed=seed + 1)

    def decode(self, state: State) -> np.ndarray | None:
        """Images of states [..., S] and [..., D]: [..., n, n, 3] float32 in [0, 1]; None without a decoder."""
        return self._predicted(state).get(IMAGE)

    def _predicted(self, state: State) -> dict[str, np.ndarray]:
        """The inputs that states predict, by name."""
        return {name: value.numpy() for name, value in self._compiled["predicted"](_features(state)).items()}

    def reward(self, state: State) -> np.ndarray:
        """Rewards expected on arriving in states: [...]."""
        return self._compiled["reward"](_features(state)).numpy()

    def discount(self, state: State) -> np.ndarray:
        """Discounts after states, [...]: behavior.discount, or what the discount head predicts."""
        return self._compiled["discount"](_features(state)).numpy()

    def value(self, state: State) -> np.ndarray:
        """Values of states, [...]. Raises RunError, a ValueError, for PlaNet, which has no value network."""
        if "value" not in self.networks:
            raise RunError(f"{self!r} has no value network: PlaNet plans by predicted rewards")
        return self._compiled["value"](_features(state)).numpy()

    @tf.function(reduce_retracing=True, autograph=False)
    def _seeded(
        self,
        inputs: dict[str, np.ndarray],
        is_first: tf.Tensor,
        carry: tuple[State, tf.Tensor],
        seed: tf.Tensor,
        explore: bool,
    ) -> tuple[tf.Tensor, State]:
        action, (state, _) = self.policy(inputs, is_first, carry, Draws(seed), explore=explore)
        return action, state

    @tf.function(reduce_retracing=True, autograph=False)
    def _observe(
        self, inputs: dict[str, np.ndarray], actions: np.ndarray, is_first: tf.Tensor, seed: tf.Tensor
    ) -> State:
        shape = tf.unstack(tf.shape(actions))[:2]
        noise = Draws(seed).normal([*shape, self._world_model.rssm.stoch])
        batch = Batch(inputs, actions, reward=None, discount=None, is_first=is_first)
        return self._world_model.observe(batch, noise)[0]

    @tf.function(reduce_retracing=True, autograph=False)
    def _imagine(self, state: State, actions: np.ndarray, seed: tf.Tensor) -> State:
        shape = tf.unstack(tf.shape(actions))[:2]
        noise = Draws(seed).normal([*shape, self._world_model.rssm.stoch])
        return self._world_model.rssm.imagine(state, actions, noise)

    def _seen(self, images: Observed, leading: Sequence[int]) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
        """Checked inputs, by name, and the shape that they have in common before their own.

        leading: how many dimensions that may be.
        """
        if not isinstance(images, Mapping):
            if len(self.inputs) > 1:
                raise ValueError(f"images: this agent sees {', '.join(self.inputs)}: expected a dict of them")
            images = dict.fromkeys(self.inputs, images)
        if missing := sorted(set(self.inputs) - set(images)):
            raise ValueError(f"images: {', '.join(missing)} missing, this agent sees {', '.join(self.inputs)}")
        checked = {name: _checked(images[name], space, leading, name) for name, space in self.inputs.items()}
        shapes = {value.shape[: value.ndim - len(self.inputs[name].shape)] for name, value in checked.items()}
        if len(shapes) > 1:
            raise ValueError(f"images: expected as many of each, got {' and '.join(map(str, map(list, shapes)))}")
        return checked, shapes.pop()

    def _tensors(self, carry: Carry, rows: int) -> tuple[State, tf.Tensor]:
        if not isinstance(carry, Carry):
            raise ValueError(f"carry: expected what act has returned, or None, got {type(carry).__name__}")
        state, action = carry
        found = {len(np.asarray(field)) for field in (*state, action)}
        if found != {rows}:
            raise ValueError(f"images: {rows} of them, but the carry is of {', '.join(map(str, sorted(found)))}")
        state = State(*(tf.constant(field, tf.float32) for field in state))
        return state, tf.constant(action, tf.float32)

    def _actions(self, actions: np.ndarray, leading: tuple[int | None, ...], name: str) -> np.ndarray:
        actions = np.asarray(actions, np.float32)
        expected = (*leading, self.action_space.size)
        if actions.ndim != 3 or any(want not in (None, got) for want, got in zip(expected, actions.shape, strict=True)):
            wanted = ", ".join("any" if size is None else str(size) for size in expected)
            raise ValueError(f"{name}: expected the shape [{wanted}], got {list(actions.shape)}")
        return actions


class Session:
    """An agent in the midst of episodes, of one environment or of several at once: it remembers, and is called.

    `policy = agent.session(); action = policy(image, is_first=True)`, and so on without is_first. carry: see Carry,
    None before the first step.
    """

    def __init__(self, agent: TrainedAgent, explore: bool = False):
        self._agent, self._explore = agent, explore
        self.carry: Carry | None = None

    def __call__(self, images: Observed, is_first: bool | np.ndarray = False) -> np.ndarray:
        """The next action [A] for an image [n, n, 3], or [B, A] for [B, ...]; is_first: a bool or [B]."""
        action, self.carry = self._agent.act(images, self.carry, is_first=is_first, explore=self._explore)
        return action

    def reset(self) -> None:
        """Forget everything: the next image begins an episode, in as many environments as there are images."""
        self.carry = None


def _checked(value: np.ndarray, space: Space, leading: Sequence[int], name: str) -> np.ndarray:
    """One input, of the space's shape behind so many leading dimensions; numbers become float32, images stay uint8."""
    value, name = np.asarray(value), "images" if name == IMAGE else name
    if name != "images" and value.dtype.kind in "fiub":
        value = value.astype(np.float32)
    own = value.shape[value.ndim - len(space.shape) :]
    if value.dtype != space.dtype or own != space.shape or value.ndim - len(space.shape) not in leading:
        size = ", ".join(map(str, space.shape))
        shapes: dict[Any, str] = {(0, 1): f"[{size}] or [B, {size}]", (2,): f"[B, T, {size}]"}
        wanted = shapes.get(tuple(leading), f"[..., {size}]")
        raise ValueError(f"{name}: expected {space.dtype} of the shape {wanted}, got {value.dtype} {list(value.shape)}")
    if not value.size:
        raise ValueError(f"{name}: expected at least one, got none, {list(value.shape)}")
    if name != "images" and not np.isfinite(value).all():  # which would stay in the state for ever
        raise ValueError(f"{name}: has values that are not finite")
    return value


def _check_state(state: State) -> None:
    if not isinstance(state, State):
        raise ValueError(f"state: expected a State, such as carry.state of a Carry, got {type(state).__name__}")


def _features(state: State) -> tf.Tensor:
    _check_state(state)
    return tf.constant(np.concatenate([state.stoch, state.deter], -1), tf.float32)


def _arrays(state: State) -> State:
    return State(*(field.numpy() for field in state))

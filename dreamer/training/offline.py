"""Training from stored episodes alone, with no environment: `dreamer learn`.

    updates   0              train_updates    2 train_updates ...                        config.steps
              | train_updates | train_updates | ... | held-out episodes predicted | ...  | ... predicted |
    stage     train           train                   evaluate                             finished

It is the loop of a run in which nothing is collected. What counts frames there, counts updates here: lines of metrics,
states and videos. The episodes belong to someone else, who may go on collecting: those that were there at the first
start are learned from, and nothing of theirs is written.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.agents import RunError, inputs_of
from dreamer.replay.episodes import (
    FIELDS,
    FLAGS,
    DamagedEpisodeError,
    EpisodeStore,
    ReplayError,
    StoredEpisode,
    load,
    stored_paths,
)
from dreamer.training.evaluation import CONTEXT, HORIZON, SEQUENCES, Evaluator, cut_windows, evenly_spaced, repeated
from dreamer.training.loop import COMMIT_SECONDS, Run
from dreamer.training.progress import Progress, counted
from dreamer.types import IMAGE, ActionSpace, Batch, Space

PREDICTED = 24  # windows of held-out episodes at most; an evaluation then takes seconds
EXAMINED = 200  # episodes whose actions tell what kind they are of


class Offline(Run):
    """A run that learns from the episodes in config.learn.source."""

    unit, option = "update", "--updates"

    @property
    def frames(self) -> int:
        """Updates: of a run that collects nothing they are how far it is."""
        return self._updates

    def open(self) -> None:
        """Look at the episodes, start everything, and go back to the committed state."""
        config, state = self._config, self._state
        self._learns, self._of_this_round, self._envs = True, False, []
        source = Path(config.learn.source)
        inputs = inputs_of(config, observed(source))
        if IMAGE in inputs and inputs[IMAGE].shape[0] != config.env.size:
            raise RunError(f"{source} has images of {inputs[IMAGE].shape[0]} pixels: --env.size says so")
        self._store = _opened(source, config.env.action_repeat, inputs, state.stored_frames, state.oldest)
        found = [len(self._store), self._store.steps]
        if state.source and found != state.source:
            raise ReplayError(
                f"{source} has {found[0]:,} episodes with {found[1]:,} steps of those that {self._logdir} "
                f"learns from, {state.source[0]:,} with {state.source[1]:,}: put its files back"
            )
        state.source = found
        space = action_space(self._store)
        held_out = held_out_of(self._store.episodes(), config.learn.hold_out)
        self._held_out = self._windows_of(held_out)
        self._store.leave_out(held_out)
        self._build_agent(space, inputs)
        self._acting = self._agent
        self._recorder.claim()
        self._windows = self._make_windows()
        self._resources.callback(self._windows.close)
        if self._recorder.draws:
            self._windows.restore(self._recorder.draws)
        actions = counted(space.size, "number")
        kind = f"{space.size} actions to choose from" if space.discrete else f"actions of {actions}"
        episodes, steps = counted(len(self._store), "episode"), counted(self._store.steps, "step")
        note = (
            f"Learning from {episodes} of {source}, {steps} of {', '.join(inputs)} with {kind}; {len(held_out):,} held "
            "out."
        )
        if not config.model.discount_head and end_in_terminals(self._store):
            self._recorder.notes.append(
                "Some episodes end in a terminal, and nothing learns when: --model.discount_head true would."
            )
        if self._held_out is None:
            self._recorder.notes.append(
                f"No held-out episode has more than {CONTEXT} steps: there will be no open-loop errors."
            )
        self._open_logs([note])
        self._evaluator = Evaluator(
            [],
            self._logdir,
            self._logger,
            episodes=0,
            seed_of=lambda at, n: 0,
            task=config.task,
            tanh_rewards=config.replay.tanh_rewards,
        )
        if state.stage in ("prefill", "finished"):  # new, or with fewer updates than now
            self._next_round()
        state.target = min(state.target, max(config.steps, self._updates))
        self._committed_at = self.frames, time.monotonic()

    def _make_progress(self) -> Progress:
        return Progress(
            self._config.steps,
            total_updates=self._config.steps,
            eval_every=self._eval_every,
            start=self._state.frames,
            label=self._config.task,
            measure="image error" if self._predicts_images else "reward error",
            unit="update",
        )

    @property
    def _predicts_images(self) -> bool:
        model = self._config.model
        return IMAGE in self._store.inputs and (model.observation == "pixels" or model.probe_decoder)

    @property
    def _eval_every(self) -> int:
        """Updates between two evaluations: as many as a run makes that collects loop.eval_every frames."""
        return self._rounds(self._config.loop.eval_every) * self._config.loop.train_updates

    def _rounds(self, frames: int) -> int:
        return max(1, round(frames / self._config.loop.train_every))

    def _next_round(self) -> None:
        """The next round ends at a multiple of train_updates, or where the run ends."""
        size = self._config.loop.train_updates
        self._state.target = min((self.frames // size + 1) * size, self._config.steps)
        self._state.stage = "train"

    def _updates_due(self) -> int:
        return self._state.target

    def _say_updates(self, updates: int) -> None:
        self._progress.update(updates, updates)

    def _evaluate(self) -> None:
        at_end = self.frames >= self._config.steps
        due = at_end or self.frames % self._eval_every == 0
        if due and self._held_out is not None:
            with self._stopwatch.part("evaluation"):
                batch, starts = self._held_out
                errors = self._evaluator.predict(self._agent, batch, self.frames, starts=starts, unit="update")
                self._logger.scalars(self.frames, errors)
            name = "image" if self._predicts_images else "reward"
            self._progress.evaluated(float(errors[f"eval/open_loop_{name}_error"]))
        if at_end:
            self._state.stage = "finished"
        else:
            self._next_round()
        updates, moment = self._committed_at
        save_every = self._rounds(self._config.loop.save_every) * self._config.loop.train_updates
        if due or self.frames >= updates + save_every or time.monotonic() > moment + COMMIT_SECONDS:
            self._commit()

    def _episodes_in_progress(self) -> dict[str, Any]:
        return {}

    def _windows_of(self, episodes: list[StoredEpisode]) -> tuple[Batch, list[int]] | None:
        """Windows of held-out episodes, at least SEQUENCES and at most PREDICTED, and their first steps.

        None where no episode is long enough.
        """
        whole: list[dict[str, np.ndarray]] = []
        for stored in episodes:
            if stored.length > CONTEXT and len(whole) < PREDICTED:
                try:
                    whole.append(load(Path(self._config.learn.source) / stored.name))
                except DamagedEpisodeError as error:
                    self._recorder.notes.append(f"Not predicted: {error}")
        if not whole:
            return None
        length = min(CONTEXT + HORIZON, *(len(episode["reward"]) for episode in whole))
        chosen = repeated(whole, max(SEQUENCES, len(whole)))
        starts = evenly_spaced(chosen, length)
        tanh_rewards = self._config.replay.tanh_rewards
        return cut_windows(chosen, starts, length, inputs=self._store.inputs, tanh_rewards=tanh_rewards), starts


def held_out_of(episodes: tuple[StoredEpisode, ...], every: int) -> list[StoredEpisode]:
    """Every so many-th episode, and the last one where there are fewer. Raises RunError where none would be left."""
    if len(episodes) < 2:
        raise RunError(f"there is {len(episodes)} episode to learn from: at least 2 are needed, one of them held out")
    return list(episodes[every - 1 :: every]) or [episodes[-1]]


def action_space(store: EpisodeStore) -> ActionSpace:
    """What the actions of stored episodes are, by EXAMINED of them, evenly spaced.

    They are choices where every action, but that of the reset, is one 1 among zeros; else numbers in [-1, 1]. Raises
    RunError where they are neither.
    """
    width = store.action_size
    if width is None:
        raise RunError("every episode is damaged")
    one_hot, several, largest = width > 1, True, 0.0
    for stored in _examined(store):
        actions = np.empty((stored.length - 1, width), np.float32)
        try:
            store.read_rows(stored, 1, {"action": actions})
        except DamagedEpisodeError as error:
            store.set_aside(stored, error)
            continue
        flags = ((actions == 0) | (actions == 1)).all()
        one_hot &= bool(flags and (actions.sum(1) == 1).all())
        several &= bool(flags and actions.sum(1).min() == actions.sum(1).max() > 1)
        largest = max(largest, float(np.abs(actions).max()))
    if largest > 1 + 1e-6:
        raise RunError(f"actions reach {largest:.4g}: expected numbers in -1..1, or choices as one-hot vectors")
    if several:
        raise RunError("actions look like several choices at once: how they are grouped, stored episodes do not tell")
    return ActionSpace(width, discrete=one_hot)


def end_in_terminals(store: EpisodeStore) -> bool:
    """Whether any of the episodes that `action_space` looks at ends because its task ended."""
    discount = np.empty(1, np.float32)
    for stored in _examined(store):
        try:
            store.read_rows(stored, stored.length - 1, {"discount": discount})
        except DamagedEpisodeError as error:
            store.set_aside(stored, error)
            continue
        if discount[0] == 0:
            return True
    return False


def _examined(store: EpisodeStore) -> list[StoredEpisode]:
    episodes = store.episodes()
    places = np.linspace(0, len(episodes) - 1, min(len(episodes), EXAMINED)).astype(int)
    return [episodes[place] for place in places]


def observed(folder: Path) -> dict[str, Space]:
    """What the episodes of a folder hold beside actions and rewards, by one of them: Spaces by name."""
    if not folder.is_dir():
        raise ReplayError(f"{folder} is gone, which has the episodes that this run learns from: put it back")
    for path in stored_paths(folder):
        try:
            episode = load(path)
        except DamagedEpisodeError:
            continue
        arrays = {name: array for name, array in episode.items() if name not in (*FIELDS, *FLAGS)}
        return {
            name: Space(array.shape[1:], "uint8" if name == IMAGE else "float32")
            for name, array in arrays.items()
            if array.ndim == (4 if name == IMAGE else 2)
        }
    raise RunError(f"{folder} has no episode that can be read")


def _opened(folder: Path, action_repeat: int, inputs: Mapping[str, Space], frames: int, oldest: int) -> EpisodeStore:
    """The episodes of a folder; frames, oldest: only those of an earlier start, see State, where frames is not 0."""
    store = EpisodeStore(folder, action_repeat=action_repeat, inputs=inputs, read_only=True)
    if frames:
        store.see_only(frames, oldest)
    return store

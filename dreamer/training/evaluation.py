"""Evaluation: episodes of mode actions, their returns, a video, and the world model's open-loop prediction of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamer.envs import Env
from dreamer.results import vectors, video
from dreamer.training.driver import Driver, Episode, episode_infos, episode_return, mean_infos
from dreamer.training.streams import Streams
from dreamer.types import IMAGE, Batch

if TYPE_CHECKING:
    from dreamer.training.logger import Logger

CONTEXT, HORIZON, SEQUENCES = 5, 45, 6  # observed steps, imagined steps and sequences of the open-loop prediction
_LONG = 1500  # steps of an episode from which on its video is half as large, for the time that encoding takes
_SHOWN = (0, 2, 5)  # the sequences that its GIF has room for
Arrays = dict[str, np.ndarray]
_TENSORBOARD_FRAMES = 125  # of a video in an event file, which a long run writes hundreds of


def cut_windows(
    episodes: Sequence[Mapping[str, np.ndarray]],
    starts: Sequence[int] | np.ndarray,
    length: int,
    *,
    inputs: Iterable[str] = (IMAGE,),
    tanh_rewards: bool = False,
) -> Batch:
    """The steps start, start + 1, ... of each episode: Batch of arrays [B, length, ...].

    inputs: names of what the agent sees. tanh_rewards: with tanh(r) for a reward r, as the replay hands them to an
    agent that learns so.
    """
    pairs = list(zip(episodes, starts, strict=True))

    def cut(name: str) -> np.ndarray:
        return np.stack([episode[name][at : at + length] for episode, at in pairs])

    reward = np.tanh(cut("reward")) if tanh_rewards else cut("reward")
    is_first = np.arange(length)[None].repeat(len(pairs), 0) == 0
    return Batch({name: cut(name) for name in inputs}, cut("action"), reward, cut("discount"), is_first)


def windows_of(
    played: Sequence[Mapping[str, np.ndarray]],
    *,
    sequences: int = SEQUENCES,
    length: int = CONTEXT + HORIZON,
) -> tuple[list[Mapping[str, np.ndarray]], list[int], list[str]]:
    """Which windows of the episodes that were played to predict: the episode of each, its first step, and its name.

    Evenly spaced ones of the first episode; where that is so short that some would be the same, and there are others,
    each the beginning of an episode, of the first ones that are long enough.
    """
    steps = len(played[0]["reward"])
    whole = [n for n, episode in enumerate(played) if len(episode["reward"]) >= min(steps, length)][:sequences]
    if steps - length >= (sequences - 1 if len(whole) > 1 else 1):
        starts = evenly_spaced([played[0]] * sequences, length)
        return [played[0]] * sequences, starts, [f"from step {start}" for start in starts]
    chosen = repeated(whole, sequences)
    return [played[number] for number in chosen], [0] * sequences, [f"episode {number + 1}" for number in chosen]


def repeated(items: Sequence[Any], count: int) -> list[Any]:
    """The items `count` times in all, at least once each, in order: a few that lie apart, as _SHOWN, differ."""
    return [items[n * len(items) // count] for n in range(count)]


def evenly_spaced(episodes: Sequence[Mapping[str, np.ndarray]], length: int) -> list[int]:
    """First steps of a window of each episode: from the start of the first to the end of the last one."""
    places = np.linspace(0, 1, len(episodes))
    return [round(place * (len(episode["reward"]) - length)) for place, episode in zip(places, episodes, strict=True)]


def open_loop(agent: Any, batch: Batch) -> tuple[Arrays, Arrays]:
    """What was, and what the agent's world model predicts after CONTEXT steps: arrays [B, T, ...] by name.

    "reward", and of the inputs those that it predicts; images are float32 in [0, 1].
    """
    model = {name: value.numpy() for name, value in agent.open_loop(batch, CONTEXT).items()}
    truth = {"reward": batch.reward, **batch.inputs}
    truth |= {IMAGE: batch.image.astype(np.float32) / 255} if IMAGE in model else {}
    return {name: truth[name] for name in model}, model


def _curve(name: str) -> str:
    """The key of a prediction's error in a line of open_loop.jsonl, which has keys of its own."""
    return f"observation.{name}" if name in ("step", "context") or name.endswith("_repeat") else name


def errors_against_horizon(
    truth: np.ndarray, model: np.ndarray, context: int = CONTEXT
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors of each imagined step, of the model and of repeating the last observation: 2 arrays [T - context].

    truth, model: [B, T, ...], T > context. Errors are averaged over B and summed over the rest (all pixels and channels
    of an image in [0, 1], as in the image likelihood).
    """
    imagined = truth[:, context:]

    def error(prediction: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # Vectors may be of any size, and are predicted as symlog of it.
            squares = np.square(prediction - imagined)
            return squares.reshape(*squares.shape[:2], -1).sum(2).mean(0)

    return error(model[:, context:]), error(truth[:, context - 1 : context])


class Evaluator:
    """Evaluates an agent in environments that nobody else uses meanwhile and writes what came out below `logdir`.

    envs: as many episodes are played at once.

    videos/ gets the first episode (MP4) and the open-loop prediction of it (GIF), both named after the frames; where
    the agent sees no images, no episode, and curves of its vectors for a prediction (PNG). open_loop.jsonl has the
    prediction's error against the horizon; the logger gets all of it for TensorBoard. seed_of(frames, n) seeds the n-th
    episode. tanh_rewards: the agent predicts tanh(r) for a reward r; returns are sums of r all the same.
    """

    def __init__(
        self,
        envs: Sequence[Env],
        logdir: Path,
        logger: "Logger",
        *,
        episodes: int,
        seed_of: Callable[[int, int], int],
        task: str,
        tanh_rewards: bool = False,
    ):
        self._envs, self._logdir, self._logger = list(envs), logdir, logger
        self._episodes, self._seed_of, self._tanh_rewards = episodes, seed_of, tanh_rewards
        self._task = task

    def rebuild(self, new: Callable[[], Env]) -> None:
        """Evaluate in environments that `new` makes from now on; those before are closed."""
        for env in self._envs:
            env.close()
        self.use([new() for _ in self._envs])

    def use(self, envs: Sequence[Env]) -> None:
        """Evaluate in other environments from now on."""
        self._envs = list(envs)

    def run(self, agent: Any, frames: int, stopped: Callable[[], object] = lambda: False) -> float | None:
        """Evaluate now and return the mean return; None, and nothing written, if `stopped` came true meanwhile.

        Raises EnvError where an environment fails.
        """
        begun: list[int] = []  # by which stream, in the order of episodes

        def stream(number: int, env: Env) -> Driver:
            def seed_of(n: int) -> int:
                begun.append(number)
                return self._seed_of(frames, len(begun) - 1)

            return Driver(env, agent, explore=False, seed_of=seed_of)

        streams = Streams([stream(number, env) for number, env in enumerate(self._envs)])
        played: dict[int, Episode] = {}
        while len(played) < self._episodes:
            if stopped():
                return None
            for number, episode in streams.step(lambda playing: len(begun) < self._episodes).items():
                # The last that its stream has begun.
                at = max(n for n, by in enumerate(begun) if by == number)
                if IMAGE in episode and at:  # No more than may be shown: a whole game of Atari can fill 330 MB.
                    episode[IMAGE] = episode[IMAGE][: (CONTEXT + HORIZON) * (at < SEQUENCES)].copy()
                played[at] = episode
            for error in streams.failed.values():
                raise error
        episodes = [played[n] for n in range(self._episodes)]
        returns = [episode_return(episode) for episode in episodes]
        metrics: dict[str, Any] = {
            "eval/return": np.mean(returns),
            "eval/length": np.mean([len(e["reward"]) - 1 for e in episodes]),
        }
        if len(returns) > 1:
            metrics["eval/return_std"] = np.std(returns)
        infos = mean_infos([episode_infos(episode) for episode in episodes])
        metrics |= {f"eval/{name}": value for name, value in infos.items()}
        if IMAGE in episodes[0]:
            self._save_video(episodes[0], frames)
        if hasattr(agent, "open_loop") and len(episodes[0]["reward"]) > CONTEXT:
            metrics |= self._save_open_loop(agent, episodes, frames)
        self._logger.scalars(frames, metrics)
        return float(np.mean(returns))

    def _save_video(self, episode: Mapping[str, np.ndarray], frames: int) -> None:
        images, fps = episode["image"], video.episode_fps(len(episode["image"]))
        path = self._logdir / "videos" / f"{frames:010d}-episode.mp4"
        side = 512 if len(images) < _LONG else 256
        video.save_mp4(path, video.episode(images, episode["reward"], side), fps)
        stride = -(-len(images) // _TENSORBOARD_FRAMES)
        self._logger.gif("eval/episode", images[::stride], frames, fps=fps / stride)

    def _save_open_loop(self, agent: Any, played: Sequence[Episode], frames: int) -> dict[str, float]:
        chosen, starts, names = windows_of(played[:SEQUENCES])
        length = min(CONTEXT + HORIZON, len(played[0]["reward"]))
        batch = cut_windows(chosen, starts, length, inputs=agent.inputs, tanh_rewards=self._tanh_rewards)
        return self.predict(agent, batch, frames, starts=starts, names=names)

    def predict(
        self,
        agent: Any,
        batch: Batch,
        frames: int,
        *,
        starts: Sequence[int],
        names: Sequence[str] | None = None,
        unit: str = "frame",
    ) -> dict[str, float]:
        """Write down the open-loop prediction of windows; returns the errors as metrics.

        batch: at least SEQUENCES windows of more than CONTEXT steps; starts: first step of each in its episode; names:
        what stands above each, "from step N" if not given; frames: after so many, or so many of another unit, the agent
        predicts so.
        """
        names = [f"from step {start}" for start in starts] if names is None else names
        truth, model = open_loop(agent, batch)
        errors = {name: errors_against_horizon(truth[name], predicted) for name, predicted in model.items()}
        title = f"{self._task} after {frames:,} {unit}s"
        shown = list(_SHOWN)
        shown_starts, shown_names = [starts[n] for n in shown], [names[n] for n in shown]
        if IMAGE in model:
            grid = video.open_loop_grid(truth[IMAGE], model[IMAGE], CONTEXT)
            self._logger.gif("eval/open_loop", grid, frames, fps=10)
            pages = video.dream(
                *(values[name][shown] for name in (IMAGE, "reward") for values in (truth, model)),
                starts=shown_starts,
                names=shown_names,
                title=title,
                context=CONTEXT,
            )
            video.save(self._logdir / "videos" / f"{frames:010d}-open-loop.gif", pages, fps=10)
        else:
            vectors.figure(
                self._logdir / "videos" / f"{frames:010d}-open-loop.png",
                {name: truth[name][shown] for name in model},
                {name: values[shown] for name, values in model.items()},
                names=shown_names,
                title=title,
                context=CONTEXT,
            )
        curves = {_curve(name): error for name, (error, _) in errors.items()}
        curves |= {f"{_curve(name)}_repeat": repeat for name, (_, repeat) in errors.items()}
        self._logger.open_loop(frames, context=CONTEXT, **curves)
        metrics = {f"eval/open_loop_{name}_error": error.mean() for name, (error, _) in errors.items()}
        return metrics | {f"eval/repeat_frame_{name}_error": repeat.mean() for name, (_, repeat) in errors.items()}

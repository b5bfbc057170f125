"""Atari games through gymnasium and ale-py, which brings the ROMs.

Both are imported by the constructor, not by this module: listing games must not load them.
"""

from typing import Any, cast

import numpy as np
from PIL import Image

from dreamer.envs.core import unknown
from dreamer.types import ActionSpace, Space

# The 57 games of the release, by the names that it uses; ALE's id is the same name in CamelCase.
TASKS = (
    "alien",
    "amidar",
    "assault",
    "asterix",
    "asteroids",
    "atlantis",
    "bank_heist",
    "battle_zone",
    "beam_rider",
    "berzerk",
    "bowling",
    "boxing",
    "breakout",
    "centipede",
    "chopper_command",
    "crazy_climber",
    "defender",
    "demon_attack",
    "double_dunk",
    "enduro",
    "fishing_derby",
    "freeway",
    "frostbite",
    "gopher",
    "gravitar",
    "hero",
    "ice_hockey",
    "jamesbond",
    "kangaroo",
    "krull",
    "kung_fu_master",
    "montezuma_revenge",
    "ms_pacman",
    "name_this_game",
    "phoenix",
    "pitfall",
    "pong",
    "private_eye",
    "qbert",
    "riverraid",
    "road_runner",
    "robotank",
    "seaquest",
    "skiing",
    "solaris",
    "space_invaders",
    "star_gunner",
    "surround",
    "tennis",
    "time_pilot",
    "tutankham",
    "up_n_down",
    "venture",
    "video_pinball",
    "wizard_of_wor",
    "yars_revenge",
    "zaxxon",
)


class Atari:
    """One game as an Env: the screen in RGB at 64x64, one-hot actions.

    task: a name of TASKS; underscores and capitals make no difference, so "mspacman" and "MsPacman" are "ms_pacman".
    action_repeat: frames for which an action is held; rewards add up. An image is the larger value of the last two
        screens at each pixel, because many games draw an object in every other frame only.
    time_limit: frames of a game; reaching it is the last step, but no terminal.
    sticky: probability with which a frame repeats the action of the frame before (Machado et al., arXiv 1709.06009).
    noops: a game begins with 1 to this many frames without action (Mnih et al., 2015); 0 for none.
    full_actions: all 18 actions of the console rather than those that make a difference in the game.
    life_loss: while training, losing a life is a terminal, and the next reset goes on with the game (both releases
        begin a new one, and TF2 ends test episodes at a life too).
    training: False plays whole games, whatever life_loss says.
    size: side of the image in pixels.

    Rewards are those of the game, whole numbers. A seed decides a game, so that an episode that goes on with one after
    the loss of a life does not take it. A new environment begins with seed 0.
    Raises ValueError for an unknown game. Source: Bellemare et al., "The Arcade Learning Environment", JAIR 2013.
    """

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 4,
        time_limit: int = 108_000,
        sticky: float = 0.25,
        noops: int = 30,
        full_actions: bool = False,
        life_loss: bool = True,
        training: bool = False,
        size: int = 64,
    ):
        import ale_py
        import gymnasium

        if not is_game(task):
            raise ValueError(unknown("game", task, TASKS))
        # It announces itself on the standard error whenever a game is loaded.
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        gymnasium.register_envs(ale_py)
        made = gymnasium.make(
            game_id(task),
            frameskip=1,
            repeat_action_probability=sticky,
            full_action_space=full_actions,
            max_num_frames_per_episode=0,  # No limit: frames are counted here.
            disable_env_checker=True,
        )
        self._env = cast(Any, made)  # ALE has more than the class that is declared
        self.action_repeat, self._time_limit, self._noops, self._size = action_repeat, time_limit, noops, size
        self._ends_with_life = life_loss and training
        self._env.reset(seed=0)  # Amidar counts its lives from the first frame on
        self._env.step(0)
        self.whole_games = not (self._ends_with_life and self._env.unwrapped.ale.lives())
        self.action_space = ActionSpace(size=int(self._env.action_space.n), discrete=True)
        self.observation_spaces = {"image": Space((size, size, 3), "uint8")}
        self._random: np.random.Generator | None = None
        self._screens: tuple[np.ndarray, np.ndarray]  # the last two
        self._frame = self._lives = 0
        self._game_goes_on = False  # after an episode that ended with a life

    @property
    def goes_on(self) -> bool:
        """See Env: whether the last episode ended with a life and not with the game."""
        return self._game_goes_on

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset; a seed lies in 0..2**32 - 1. After the loss of a life the same screen begins an episode."""
        if not self._game_goes_on:
            self._begin_game(seed)
        self._game_goes_on = False
        return self._observe(reward=0.0, first=True, last=False, terminal=False)

    def step(self, action: np.ndarray) -> dict:
        """See Env.step; an episode that ends within the action repeat ends it early."""
        choice = int(np.argmax(action))
        total = 0.0
        for _ in range(self.action_repeat):
            reward, game_over, life_lost = self._advance(choice)
            total += reward
            self._frame += 1
            terminal = game_over or (life_lost and self._ends_with_life)
            last = terminal or self._frame >= self._time_limit
            if last:
                break
        self._game_goes_on = last and not game_over and self._frame < self._time_limit
        return self._observe(reward=total, first=False, last=last, terminal=terminal)

    def close(self) -> None:
        """See Env.close."""
        self._env.close()

    def _begin_game(self, seed: int | None) -> None:
        if self._random is None or seed is not None:
            seed = 0 if seed is None else seed
            self._random = np.random.default_rng(seed)
        self._start(seed)
        for _ in range(self._random.integers(1, self._noops + 1) if self._noops else 0):
            if self._advance(0)[1]:
                self._start(None)
        self._frame = 0

    def _start(self, seed: int | None) -> None:
        screen, info = self._env.reset(seed=seed)
        self._screens, self._lives = (screen, screen), info["lives"]

    def _advance(self, choice: int) -> tuple[float, bool, bool]:
        """One frame. Returns its reward, whether the game is over, and whether a life was lost."""
        screen, reward, game_over, _, info = self._env.step(choice)
        self._screens = self._screens[1], screen
        # Some games go on at a count of 0: the last life is not always the last one counted.
        life_lost = info["lives"] < self._lives
        self._lives = info["lives"]
        return reward, game_over, life_lost

    def _observe(self, *, reward: float, first: bool, last: bool, terminal: bool) -> dict:
        screen = Image.fromarray(np.maximum(*self._screens))
        return {
            "image": np.array(screen.resize((self._size, self._size), Image.Resampling.BILINEAR)),
            "reward": np.float32(reward),
            "is_first": np.bool_(first),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(terminal),
        }


def is_game(task: str) -> bool:
    """Whether a name is one of TASKS, apart from underscores and capitals."""
    return _plain(task) in _BY_PLAIN_NAME


def name(task: str) -> str:
    """The name in TASKS of a game: "ms_pacman" for "mspacman" or "MsPacman"."""
    return _BY_PLAIN_NAME[_plain(task)]


def game_id(task: str) -> str:
    """gymnasium's id of a game: "ms_pacman" and "mspacman" are "ALE/MsPacman-v5"."""
    return f"ALE/{name(task).title().replace('_', '')}-v5"


def _plain(task: str) -> str:
    return task.replace("_", "").lower()


_BY_PLAIN_NAME = {_plain(task): task for task in TASKS}

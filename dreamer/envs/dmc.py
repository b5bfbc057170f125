"""Tasks of the DeepMind Control Suite, seen through a camera.

dm_control is imported by the constructor, not by this module: the import chooses an OpenGL platform for the whole
process, and listing tasks must not.
"""

from typing import Any

import numpy as np

from dreamer.envs.core import unknown
from dreamer.types import ActionSpace, Space

# The 20 tasks of the paper, by the names that it uses.
TASKS = (
    "acrobot_swingup",
    "cartpole_balance",
    "cartpole_balance_sparse",
    "cartpole_swingup",
    "cartpole_swingup_sparse",
    "cheetah_run",
    "cup_catch",
    "finger_spin",
    "finger_turn_easy",
    "finger_turn_hard",
    "hopper_hop",
    "hopper_stand",
    "pendulum_swingup",
    "quadruped_run",
    "quadruped_walk",
    "reacher_easy",
    "reacher_hard",
    "walker_run",
    "walker_stand",
    "walker_walk",
)

# The rest of the suite as of dm_control 1.0.50, and the suite's own name of cup_catch.
OTHER_TASKS = (
    "acrobot_swingup_sparse",
    "ball_in_cup_catch",
    "cartpole_three_poles",
    "cartpole_two_poles",
    "dog_fetch",
    "dog_run",
    "dog_stand",
    "dog_trot",
    "dog_walk",
    "fish_swim",
    "fish_upright",
    "humanoid_CMU_run",
    "humanoid_CMU_stand",
    "humanoid_CMU_walk",
    "humanoid_run",
    "humanoid_run_pure_state",
    "humanoid_stand",
    "humanoid_walk",
    "lqr_lqr_2_1",
    "lqr_lqr_6_2",
    "manipulator_bring_ball",
    "manipulator_bring_peg",
    "manipulator_insert_ball",
    "manipulator_insert_peg",
    "point_mass_easy",
    "point_mass_hard",
    "quadruped_escape",
    "quadruped_fetch",
    "stacker_stack_2",
    "stacker_stack_4",
    "swimmer_swimmer15",
    "swimmer_swimmer6",
)

# Names of the paper that differ from those of the suite.
ALIASES = {"cup_catch": "ball_in_cup_catch"}


class DMC:
    """One task of the suite as an Env: 64x64 images, and the task's own observations beside them.

    task: domain_task, for example "walker_walk"; "cup_catch" is the paper's name of "ball_in_cup_catch".
    action_repeat: control steps for which an action is held; rewards add up, only the frame that is kept is rendered.
    time_limit: control steps in an episode; reaching it is the last step, but no terminal.
    camera: index of the camera; -1 takes 2 for the quadruped, whose other cameras lose it, else 0.
    size: side of the image in pixels. images: False renders nothing, and needs no OpenGL.
    shadow_map: side of the shadow map in pixels; 0 keeps the model's own (2048). In software a large part of the
        rendering time goes into it; a smaller one changes the edges of the shadows.

    Actions in [-1, 1] are scaled to the bounds of the task. reset(None) continues the task's generator, which the last
    seed set; a new environment begins with seed 0. Rendering is bit-exact across processes on one machine.
    Raises ValueError for an unknown task or camera. Source: Tassa et al., "DeepMind Control Suite", arXiv 1801.00690.
    """

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = 2,
        time_limit: int = 1000,
        camera: int = -1,
        size: int = 64,
        shadow_map: int = 0,
        images: bool = True,
    ):
        import mujoco
        from dm_control import suite
        from dm_control.mujoco import Camera

        if action_repeat < 1 or time_limit < 1:
            raise ValueError(f"action_repeat {action_repeat} and time_limit {time_limit}: both must be at least 1")
        names = {f"{domain}_{name}": (domain, name) for domain, name in suite.ALL_TASKS}
        suite_name = ALIASES.get(task, task)
        if suite_name not in names:
            raise ValueError(unknown("task", task, [*TASKS, *names]))
        domain, name = names[suite_name]
        # The suite counts its time limit in seconds; it is switched off here and control steps are counted instead.
        self._env = suite.load(domain, name, task_kwargs={"random": 0, "time_limit": float("inf")})
        physics = self._env.physics
        if camera == -1:
            camera = 2 if domain == "quadruped" else 0
        if not 0 <= camera < physics.model.ncam:
            raise ValueError(f"{task} has no camera {camera}: its cameras are 0 to {physics.model.ncam - 1}")
        # The rendering context reads both sizes once, when it is made: before the first frame, and before the first
        # reset, where some tasks make it. A framebuffer no larger than the image saves clearing 640x480 pixels a frame.
        physics.model.vis.global_.offwidth = physics.model.vis.global_.offheight = size
        if shadow_map:
            physics.model.vis.quality.shadowsize = shadow_map
        # No task of the suite rebuilds its physics, so one camera serves all episodes.
        self._camera = Camera(physics, height=size, width=size, camera_id=camera) if images else None
        self._low, self._high = _bounds(self._env.action_spec(), unlimited=mujoco.mjMAXVAL)
        self._time_limit = time_limit
        self._frame = 0
        self.action_repeat = action_repeat
        self.action_space = ActionSpace(size=len(self._low), discrete=False)
        spec = self._env.observation_spec()
        spaces = {key: Space((int(np.prod(of.shape)),), "float32") for key, of in spec.items()}
        if "image" in spaces:
            raise ValueError(f'{task} has an observation of its own named "image", which is the name of the frame')
        image = {"image": Space((size, size, 3), "uint8")} if images else {}
        self.observation_spaces = {**image, **spaces}

    def reset(self, seed: int | None = None) -> dict:
        """See Env.reset; a seed lies in 0..2**32 - 1."""
        if seed is not None:
            self._env.task.random.seed(seed)
        self._frame = 0
        timestep = self._env.reset()
        return self._observe(timestep.observation, reward=0.0, first=True, last=False, terminal=False)

    def step(self, action: np.ndarray) -> dict:
        """See Env.step; an episode that ends within the action repeat ends it early."""
        control = self._low + (action.astype(np.float64) + 1) / 2 * (self._high - self._low)
        reward, terminal, last = 0.0, False, False
        for _ in range(self.action_repeat):
            timestep = self._env.step(control)
            self._frame += 1
            reward += timestep.reward
            terminal = timestep.last() and timestep.discount == 0
            last = timestep.last() or self._frame >= self._time_limit
            if last:
                break
        return self._observe(timestep.observation, reward=reward, first=False, last=last, terminal=terminal)

    def close(self) -> None:
        """Free the physics and its rendering context."""
        self._camera = None
        self._env.physics.free()

    def _observe(self, observation: dict, *, reward: float, first: bool, last: bool, terminal: bool) -> dict:
        # The camera renders into the same buffer every time.
        image = {"image": self._camera.render().copy()} if self._camera else {}
        return {
            **image,
            **{key: np.array(value, np.float32).reshape(-1) for key, value in observation.items()},
            "reward": np.float32(reward),
            "is_first": np.bool_(first),
            "is_last": np.bool_(last),
            "is_terminal": np.bool_(terminal),
        }


def _bounds(spec: Any, unlimited: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest control, [A] float64 each; controls without limits keep the range [-1, 1]."""
    free = (spec.minimum <= -unlimited) | (spec.maximum >= unlimited)
    return np.where(free, -1.0, spec.minimum), np.where(free, 1.0, spec.maximum)

import numpy as np
import pytest

from dreamer.envs import dmc

# Plays each task twice from seed 1 with an episode of seed 2 in between, and hashes all that comes back.
EVERY_TASK = """
import hashlib, sys
import numpy as np
from dreamer.envs.dmc import DMC, TASKS
from dreamer.envs.wrappers import Checked

def play(env, seed):
    generator = np.random.default_rng(0)
    actions = generator.uniform(-1, 1, (2, env.action_space.size)).astype(np.float32)
    return [env.reset(seed)] + [env.step(action) for action in actions]

def digest(steps):
    parts = [np.asarray(step[key]).tobytes() for step in steps for key in sorted(step)]
    return hashlib.sha256(b"".join(parts)).hexdigest()

result = {}
for task in TASKS[::ORDER]:
    env = Checked(DMC(task, shadow_map=256))
    first, other, again = play(env, 1), play(env, 2), play(env, 1)
    result[task] = {
        "digests": [digest(first), digest(other), digest(again)],
        "contrast": [int(np.ptp(step["image"])) for step in first],
        "moves": bool((first[0]["image"] != first[-1]["image"]).any()),
        "flags": [[bool(step[key]) for key in ("is_first", "is_last", "is_terminal")] for step in first],
        "rewards": [float(step["reward"]) for step in first],
        "spaces": {key: [list(space.shape), space.dtype] for key, space in env.observation_spaces.items()},
        "actions": [env.action_space.size, env.action_space.discrete],
    }
    env.close()
assert "tensorflow" not in sys.modules
"""

# Sizes of actions and of the first proprioceptive observations, as the suite's paper and source give them.
ACTIONS = {"acrobot": 1, "cartpole": 1, "cheetah": 6, "cup": 2, "finger": 2, "hopper": 4, "pendulum": 1}
ACTIONS |= {"quadruped": 12, "reacher": 2, "walker": 6}


@pytest.fixture(scope="module")
def every_task(render_child):
    return render_child(EVERY_TASK.replace("ORDER", "1"))


@pytest.mark.parametrize("task", dmc.TASKS)
def test_task_resets_steps_and_renders(every_task, task):
    seen = every_task[task]
    assert seen["spaces"]["image"] == [[64, 64, 3], "uint8"]
    proprioceptive = {key: space for key, space in seen["spaces"].items() if key != "image"}
    assert proprioceptive
    assert all(len(shape) >= 1 and dtype == "float32" for shape, dtype in proprioceptive.values())
    assert seen["actions"] == [ACTIONS[task.split("_")[0]], False]
    assert min(seen["contrast"]) > 50
    assert seen["moves"]
    assert seen["flags"] == [[True, False, False]] + [[False, False, False]] * 2
    assert seen["rewards"][0] == 0
    assert all(0 <= reward <= 2 for reward in seen["rewards"])


def test_the_seed_alone_decides_an_episode(every_task, render_child):
    for task, seen in every_task.items():
        first, other, again = seen["digests"]
        assert first == again, f"{task}: the episode before changed this one"
        assert first != other, f"{task}: two seeds gave the same episode"
    elsewhere = render_child(EVERY_TASK.replace("ORDER", "-1"))
    assert {task: seen["digests"] for task, seen in elsewhere.items()} == {
        task: seen["digests"] for task, seen in every_task.items()
    }


def test_lists_are_those_of_the_suite(render_child):
    suite = render_child("""
        from dm_control import suite
        result = ["_".join(names) for names in suite.ALL_TASKS]
    """)
    assert len(dmc.TASKS) == len(set(dmc.TASKS)) == 20
    assert {dmc.ALIASES.get(task, task) for task in dmc.TASKS} | set(dmc.OTHER_TASKS) == set(suite)


def test_no_seed_continues_the_generator(render_child):
    result = render_child("""
        from dreamer.envs.dmc import DMC
        def positions(env, seeds):
            return [env.reset(seed)["position"].tolist() for seed in seeds]
        env, fresh = DMC("reacher_easy"), DMC("reacher_easy")
        result = [positions(env, [None, 5, None, 5, None, 0]), positions(fresh, [None, 5, None])]
    """)
    (unseeded, five, after, five_again, after_again, zero), fresh = result
    assert [five, after] == [five_again, after_again]
    assert after != five
    assert [unseeded, five, after] == fresh
    assert zero == unseeded


def test_repeat_adds_rewards_and_renders_once(render_child):
    result = render_child("""
        import numpy as np
        from dm_control import suite
        from dreamer.envs.dmc import DMC
        plain = suite.load("walker", "walk", task_kwargs={"random": np.random.RandomState(7)})
        actions = np.random.default_rng(3).uniform(-1, 1, (4, 6)).astype(np.float32)
        images = [plain.reset() and plain.physics.render(64, 64, camera_id=0)]
        rewards, heights = [], []
        for action in actions:
            for _ in range(3):
                timestep = plain.step(action)
                rewards.append(timestep.reward)
            heights.append(timestep.observation["height"])
            images.append(plain.physics.render(64, 64, camera_id=0))
        env = DMC("walker_walk", action_repeat=3)
        frames = 0
        render = env._camera.render
        def count():
            global frames
            frames += 1
            return render()
        env._camera.render = count
        steps = [env.reset(7)] + [env.step(action) for action in actions]
        result = dict(
            plain=rewards, rewards=[float(step["reward"]) for step in steps], frames=frames,
            heights=[heights, [float(step["height"][0]) for step in steps[1:]]],
            same=[bool((step["image"] == image).all()) for step, image in zip(steps, images)],
        )
    """)
    # Rendering into a small framebuffer with a camera that is kept gives the suite's own pixels.
    assert result["same"] == [True] * 5
    assert result["frames"] == 5
    np.testing.assert_allclose(result["rewards"][1:], np.reshape(result["plain"], (4, 3)).sum(1), rtol=1e-6)
    np.testing.assert_allclose(result["heights"][1], result["heights"][0], rtol=1e-6)


def test_time_limit_ends_but_does_not_terminate(render_child):
    result = render_child("""
        import numpy as np
        from dreamer.envs.dmc import DMC
        def episode(task, **kwargs):
            env = DMC(task, shadow_map=256, **kwargs)
            episodes = []
            for seed in (0, 1):
                env.reset(seed)
                flags = []
                while not (flags and flags[-1][0]):
                    step = env.step(np.zeros(env.action_space.size, np.float32))
                    flags.append([bool(step["is_last"]), bool(step["is_terminal"]), float(step["reward"])])
                episodes.append(flags)
            return episodes
        result = [
            episode("cartpole_balance", time_limit=5),
            episode("cartpole_balance", action_repeat=250),
            episode("cartpole_balance", action_repeat=400, time_limit=1300),
        ]
    """)
    for episodes, length in zip(result, (3, 4, 4), strict=True):
        for episode in episodes:
            assert [last for last, _, _ in episode] == [False] * (length - 1) + [True]
            assert not any(terminal for _, terminal, _ in episode)
    # The fifth frame is the only one of the third step, and balancing pays just under 1 a frame.
    for (_, _, two), (_, _, pair), (_, _, one) in result[0]:
        assert 1.5 < two < 2
        assert 1.5 < pair < 2
        assert 0.75 < one < 1


def test_the_task_itself_can_terminate(render_child):
    result = render_child("""
        import numpy as np
        from dreamer.envs.dmc import DMC
        env = DMC("lqr_lqr_2_1", action_repeat=4)
        env.reset(0)
        steps = [env.step(np.zeros(1, np.float32))]
        # LQR ends when its state comes to rest at the origin.
        with env._env.physics.reset_context():
            env._env.physics.data.qpos[:] = 0
            env._env.physics.data.qvel[:] = 0
        steps.append(env.step(np.zeros(1, np.float32)))
        result = [[bool(step["is_last"]), bool(step["is_terminal"])] for step in steps] + [env._frame]
    """)
    assert result == [[False, False], [True, True], 5]


def test_actions_are_scaled_to_the_bounds_of_the_task(render_child):
    result = render_child("""
        import numpy as np
        from dreamer.envs.dmc import DMC
        def controls(task, *levels):
            env = DMC(task, shadow_map=256)
            env.reset(0)
            for level in levels:
                env.step(np.full(env.action_space.size, level, np.float32))
                yield env._env.physics.control().tolist()
        result = [list(controls("quadruped_walk", -1, 0, 1)), list(controls("lqr_lqr_6_2", -1, 0.5))]
    """)
    # Each leg of the quadruped: yaw in [-1, 1], lift in [-1, 1.1], extend in [-0.8, 0.8].
    np.testing.assert_allclose(result[0], [[-1, -1, -0.8] * 4, [0, 0.05, 0] * 4, [1, 1.1, 0.8] * 4], atol=1e-12)
    np.testing.assert_allclose(result[1], [[-1, -1], [0.5, 0.5]])


def test_camera_and_shadow_map(render_child):
    result = render_child("""
        import numpy as np
        from dreamer.envs.dmc import DMC
        def look(task, **kwargs):
            env = DMC(task, **kwargs)
            image = env.reset(0)["image"].astype(int)
            return image, env._env.physics.contexts.mujoco.ptr.shadowSize
        own, own_size = look("walker_walk")
        small, small_size = look("walker_walk", shadow_map=256)
        side, _ = look("walker_walk", camera=1)
        walker, _ = look("walker_walk", camera=0)
        quadruped = [look("quadruped_walk", camera=camera, shadow_map=256)[0] for camera in (-1, 2, 0)]
        # This task makes its rendering context in the first reset.
        escape = look("quadruped_escape", shadow_map=256)[1]
        result = dict(
            sizes=[own_size, small_size, escape], shadows=np.abs(own - small).mean(),
            same=[bool((a == b).all()) for a, b in (
                (own, walker), (own, side), (quadruped[0], quadruped[1]), (quadruped[0], quadruped[2]))],
        )
    """)
    assert result["sizes"] == [2048, 256, 256]
    assert 0 < result["shadows"] < 1
    assert result["same"] == [True, False, True, False]


def test_images_of_past_steps_stay(render_child):
    same, contiguous = render_child("""
        import numpy as np
        from dreamer.envs.dmc import DMC
        env = DMC("cheetah_run", shadow_map=256)
        first = env.reset(0)["image"]
        kept = first.copy()
        env.step(np.ones(6, np.float32))
        result = [bool((first == kept).all()), first.flags.c_contiguous]
    """)
    assert same
    assert contiguous


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'walker_wlak'", 'unknown task "walker_wlak": the nearest valid names are walker_walk, '),
        ("'walker_walk', camera=2", "walker_walk has no camera 2: its cameras are 0 to 1"),
        ("'walker_walk', action_repeat=0", "action_repeat 0 and time_limit 1000: both must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(render_child, arguments, message):
    result = render_child(f"""
        from dreamer.envs.dmc import DMC
        try:
            DMC({arguments})
        except ValueError as error:
            result = str(error)
    """)
    assert message in result
    assert "\n" not in result

"""Observations of gymnasium's environments: images of every common form, and the numbers beside them."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dreamer.envs import EnvError, EnvRefused
from dreamer.envs.gymnasium import Gymnasium
from dreamer.envs.wrappers import Checked

COLOURS = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
GREY = np.ascontiguousarray(COLOURS[..., 0])
OTHER = 255 - COLOURS


class Shown(gymnasium.Env):
    """What it is given is its observation; `seen` may be changed."""

    metadata = {"render_modes": ["rgb_array"]}
    action_space = spaces.Discrete(2)

    def __init__(self, space, seen, render_mode=None):
        self.observation_space, self.seen, self.render_mode, self.rendered = space, seen, render_mode, 0

    def reset(self, seed=None, options=None):
        return self.seen, {}

    def step(self, action):
        return self.seen, 0.0, False, False, {}

    def render(self):
        self.rendered += 1
        return np.full((20, 24, 3), 77, np.uint8)


@pytest.fixture
def show(monkeypatch):
    """Builds the environment that shows an observation of a space; images stay as large as they are."""

    def make(space, seen, **options):
        monkeypatch.setattr("dreamer.envs.gymnasium.find", lambda task: lambda **kwargs: Shown(space, seen, **kwargs))
        return Gymnasium("Shown", size=20, **options)

    return make


def box(array, low=0, high=255):
    return spaces.Box(low, high, array.shape, array.dtype.type)


def seen_of(env):
    return env.reset(0)["image"]


def expected(image, show):
    """What the same image is as an ordinary one."""
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    return seen_of(show(box(image), image))


FIRST = np.moveaxis(COLOURS, -1, 0)
ALPHA = np.concatenate([COLOURS, np.full((20, 24, 1), 9, np.uint8)], -1)
GREYS = np.stack([GREY // 5, GREY // 4, GREY // 3, GREY])


@pytest.mark.parametrize(
    ("seen", "bounds", "image", "told"),
    [
        (FIRST, (0, 255), COLOURS, "colours, channels first"),
        (GREY[None], (0, 255), GREY, "grey, channels first"),
        (COLOURS / np.float32(255), (0, 1), COLOURS, "colours, 0 to 1 made 0 to 255"),
        (FIRST / np.float64(255), (0, 1), COLOURS, "colours, channels first, 0 to 1 made 0 to 255"),
        (COLOURS.astype(np.float32), (0, 255), COLOURS, "colours, 0 to 255 made 0 to 255"),
        (COLOURS.astype(np.int64), (0, 255), COLOURS, "colours"),
        (COLOURS / np.float32(127.5) - 1, (-1, 1), COLOURS, "colours, -1 to 1 made"),
        (GREY / np.float32(255), (0, 1), GREY, "grey"),
        (GREYS, (0, 255), GREY, "grey, channels first, the newest of 4 frames"),
        (GREYS[:2] / np.float32(255), (0, 1), GREY // 4, "the newest of 2 frames"),
        (np.stack([GREY // 2, GREY], -1), (0, 255), GREY, "grey, the newest of 2 frames"),
        (np.concatenate([OTHER, COLOURS], -1), (0, 255), COLOURS, "colours, the newest of 2 frames"),
        (np.concatenate([255 - FIRST, 255 - FIRST, FIRST]), (0, 255), COLOURS, "the newest of 3 frames"),
        (np.stack([OTHER, OTHER, COLOURS]), (0, 255), COLOURS, "colours, the newest of 3 frames"),
        (np.stack([255 - FIRST, FIRST]), (0, 255), COLOURS, "colours, channels first, the newest of 2 frames"),
        (np.stack([GREY // 2, GREY])[..., None], (0, 255), GREY, "grey, the newest of 2 frames"),
        (np.stack([ALPHA, ALPHA]), (0, 255), COLOURS, "without their opacity, the newest of 2 frames"),
    ],
)
def test_images_of_every_common_form_are_converted(seen, bounds, image, told, show):
    env = show(box(seen, *bounds), seen)
    np.testing.assert_array_equal(seen_of(env), expected(image, show))
    assert env._env.rendered == 0
    assert told in env.note
    assert list(env.observation_spaces) == ["image"]


def test_four_channels_are_told_or_have_the_shape_that_everybody_stacks(show):
    with pytest.raises(EnvRefused, match="four channels.*--env.image observation:grey where.*, or observation:rgba"):
        show(box(ALPHA), ALPHA)
    np.testing.assert_array_equal(seen_of(show(box(ALPHA), ALPHA, image="observation:rgba")), expected(COLOURS, show))
    greys = np.moveaxis(GREYS, 0, -1)
    np.testing.assert_array_equal(seen_of(show(box(greys), greys, image="observation:grey")), expected(GREY, show))
    stack = np.random.default_rng(0).integers(0, 255, (84, 84, 4)).astype(np.uint8)
    for frames in (stack, np.ascontiguousarray(np.moveaxis(stack, -1, 0))):
        env = show(box(frames), frames)
        np.testing.assert_array_equal(seen_of(env), expected(stack[..., 3], show))
        assert "the newest of 4 frames" in env.note


def test_what_the_channels_are_can_be_said(show):
    three = np.stack([GREY // 2, GREY // 3, GREY], -1)
    np.testing.assert_array_equal(seen_of(show(box(three), three, image="observation:grey")), expected(GREY, show))
    with pytest.raises(EnvRefused, match=r"--env.image observation:rgb: .* has 4 channels, no multiple of 3"):
        show(box(ALPHA), ALPHA, image="observation:rgb")
    with pytest.raises(EnvRefused, match="observation:bgr: expected NAME:grey, NAME:rgb, NAME:rgba; there"):
        show(box(ALPHA), ALPHA, image="observation:bgr")


NUMBERS = spaces.Dict(
    {
        "arm": spaces.Dict({"joints": spaces.Box(-1, 1, (2, 3)), "gear": spaces.Discrete(3, start=1)}),
        "lights": spaces.MultiBinary(3),
        "dials": spaces.MultiDiscrete([2, 3]),
        "pair": spaces.Tuple([spaces.Box(0, 9, ()), spaces.Box(0, 9, (1,), np.int64)]),
        "action": spaces.Box(-1, 1, (2,), np.float64),
        "words": spaces.Text(5),
    }
)
VALUES = {
    "arm": {"joints": np.arange(6, dtype=np.float32).reshape(2, 3) / 6, "gear": 3},
    "lights": np.array([1, 0, 1], np.int8),
    "dials": np.array([1, 2]),
    "pair": (np.float32(4), np.array([7])),
    "action": np.array([0.25, 0.5]),
    "words": "abc",
}


def test_numbers_beside_the_image_become_vectors(show):
    space = spaces.Dict({"pixels": box(COLOURS), **NUMBERS.spaces})
    env = Checked(show(space, {"pixels": COLOURS, **VALUES}))
    step = env.reset(0)
    wanted = {
        "arm.joints": np.arange(6) / 6,
        "arm.gear": [0, 0, 1],
        "lights": [1, 0, 1],
        "dials": [0, 1, 0, 0, 1],
        "pair.0": [4],
        "pair.1": [7],
        "observation.action": [0.25, 0.5],  # the stored action has its own
    }
    assert set(env.observation_spaces) == {"image", *wanted}
    for name, vector in wanted.items():
        np.testing.assert_array_equal(step[name], np.array(vector, np.float32))
        assert step[name].dtype == np.float32
    np.testing.assert_array_equal(step["image"], expected(COLOURS, show))
    assert env.note == (
        'Shown: the image is "pixels" (20, 24, 3) uint8, colours; numbers beside it: "observation.action" [2], '
        '"arm.gear" [3], "arm.joints" [6], "dials" [5], "lights" [3], "pair.0" [1], "pair.1" [1]; '
        'left out: "words" Text.'
    )


def test_without_images_nothing_is_rendered_and_the_numbers_remain(show):
    space = spaces.Dict({"pixels": box(COLOURS), **NUMBERS.spaces})
    env = show(space, {"pixels": COLOURS, **VALUES}, images=False)
    assert "image" not in env.observation_spaces
    assert "image" not in env.reset(0)
    assert 'left out: "pixels" (20, 24, 3) uint8' in env.note
    assert env._env.rendered == 0
    env = show(spaces.Discrete(3), 1, images=False)
    np.testing.assert_array_equal(env.reset(0)["observation"], [0, 1, 0])
    assert env._env.render_mode is None
    with pytest.raises(EnvRefused, match="Shown has no numbers among its observations"):
        show(box(COLOURS), COLOURS, images=False)


def test_what_is_rendered_is_the_image_where_there_is_none_or_on_request(show):
    env = show(spaces.Box(-1, 1, (4,)), np.zeros(4, np.float32))
    assert np.all(seen_of(env) == 77)
    assert env.note == 'Shown: the image is what render() draws; numbers beside it: "observation" [4].'
    env = show(box(COLOURS), COLOURS, image="render")
    assert np.all(seen_of(env) == 77)
    assert env.note == 'Shown: the image is what render() draws; left out: "observation" (20, 24, 3) uint8.'


def test_a_choice_between_images_is_the_users(show):
    pictures = {"left": COLOURS, "right": OTHER, "eye": {"depth": GREY / np.float32(255)}}
    space = spaces.Dict({"left": box(COLOURS), "right": box(OTHER), "eye": spaces.Dict(depth=box(GREY * 1.0, 0, 1))})
    with pytest.raises(EnvRefused, match=r"several images: .*: choose with --env.image eye.depth \| left \| .*render$"):
        show(space, pictures)
    env = show(space, pictures, image="right")
    np.testing.assert_array_equal(seen_of(env), expected(OTHER, show))
    assert 'left out: "eye.depth" (20, 24) float64, "left" (20, 24, 3) uint8' in env.note
    np.testing.assert_array_equal(seen_of(show(space, pictures, image="eye.depth")), expected(GREY, show))
    with pytest.raises(EnvRefused, match='has no observation "middle", there are auto, render, eye.depth, left, right'):
        show(space, pictures, image="middle")
    named = spaces.Dict({"image": box(COLOURS), "right": box(OTHER)})
    np.testing.assert_array_equal(seen_of(show(named, {"image": COLOURS, "right": OTHER})), expected(COLOURS, show))
    with pytest.raises(EnvRefused, match='"lights" of Shown has no form of an image'):
        show(NUMBERS, VALUES, image="lights")


def test_black_and_white_must_be_known_and_kept(show):
    image = COLOURS / np.float32(255)
    unbounded = box(image, -np.inf, np.inf)
    with pytest.raises(EnvRefused, match="bounds do not tell its black and white.*or take --env.image render"):
        show(unbounded, image)
    assert np.all(seen_of(show(unbounded, image, image="render")) == 77)
    env = show(box(image, 0, 1), COLOURS.astype(np.float32))
    with pytest.raises(EnvError, match="an image with values from 0 to 255: its space says 0 to 1"):
        env.reset(0)
    env._env.seen = np.full_like(image, np.nan)
    with pytest.raises(EnvError, match="from nan to nan"):
        env.reset(0)
    env._env.seen = np.moveaxis(image, -1, 0)
    with pytest.raises(EnvError, match=r"of shape \(3, 20, 24\): expected an image of shape \(20, 24, 3\)"):
        env.reset(0)


def test_a_plain_image_that_is_not_of_its_space(show):
    env = show(box(COLOURS), COLOURS)
    env.reset(0)
    env._env.seen = COLOURS[:10]
    with pytest.raises(EnvError, match=r"of shape \(10, 24, 3\): expected an image of shape \(20, 24, 3\)"):
        env.reset(0)
    for nothing in (None, 3):
        env._env.seen = nothing
        with pytest.raises(EnvError, match="an image of type"):
            env.reset(0)


@pytest.mark.parametrize(
    ("space", "wrong", "problem"),
    [
        (spaces.Box(-1, 1, (2,)), np.array([0, np.nan]), "has values that are not finite"),
        (spaces.Box(-1, 1, (2,)), np.zeros(3), r"is of shape \(3,\)"),
        (spaces.Box(-1, 1, (2,)), "fast", "is 'fast': expected numbers"),
        (spaces.Discrete(3), 3, "is 3: expected one of its space"),
        (spaces.MultiDiscrete([2, 2]), np.array([0, 2]), "expected one of its space"),
    ],
)
def test_numbers_that_are_not_of_their_space_are_refused(space, wrong, problem, show):
    env = show(space, wrong)
    with pytest.raises(EnvError, match=f'the observation "observation" .*{problem}'):
        env.reset(0)


def test_a_run_that_is_older_than_the_key_sees_what_it_has_seen(show):
    """Images of one form, as the observation or a Dict's "image", and else what is rendered."""
    for space, seen in ((box(COLOURS), COLOURS), (spaces.Dict(image=box(GREY)), {"image": GREY})):
        env = show(space, seen, image="plain")
        assert not np.all(seen_of(env) == 77)
        assert env._env.rendered == 0
    for space, seen in (
        (box(FIRST), FIRST),
        (box(GREYS), GREYS),
        (box(COLOURS * 1.0), COLOURS * 1.0),
        (spaces.Dict(pixels=box(COLOURS)), {"pixels": COLOURS}),
        (spaces.Dict(a=spaces.Dict(image=box(COLOURS))), {"a": {"image": COLOURS}}),
    ):
        assert np.all(seen_of(show(space, seen, image="plain")) == 77)


def test_observations_of_one_name_are_refused(show):
    one = spaces.Box(-1, 1, (1,))
    with pytest.raises(EnvRefused, match=r"Shown has observations of one name, \['a.b'\]"):
        show(spaces.Dict({"a.b": one, "a": spaces.Dict(b=one)}), None)
    with pytest.raises(EnvRefused, match='two observations that would be stored as "observation.action"'):
        show(spaces.Dict({"action": one, "observation": spaces.Dict(action=one)}), None)


def test_what_would_be_a_vector_of_thousands_of_choices_is_left_out_and_told(show):
    space = spaces.Dict({"image": box(COLOURS), "square": spaces.Discrete(10**9), "gear": spaces.Discrete(3)})
    env = show(space, {"image": COLOURS, "square": 3, "gear": 0})
    assert set(env.observation_spaces) == {"image", "gear"}
    assert env.note.endswith('left out: "square" Discrete.')


def test_a_part_that_is_missing_is_named(show):
    space = spaces.Dict({"image": box(COLOURS), "arm": spaces.Dict({"joints": spaces.Box(-1, 1, (2,))})})
    env = show(space, {"image": COLOURS, "arm": {}})
    with pytest.raises(EnvError, match=r'the observation "arm.joints" \(2,\) float32 is missing, which its space has'):
        env.reset(0)

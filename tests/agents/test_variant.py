"""Names of the paper's methods and ablations, one overlay each."""

import pytest

from dreamer import agents, config, start
from dreamer.agents.build import build_agent
from dreamer.types import ActionSpace


@pytest.mark.parametrize(
    ("overlays", "name"),
    [
        ([], "dreamer"),
        (["planet"], "planet"),
        (["no_value"], "no_value"),
        (["contrastive"], "contrastive"),
        (["reward_only"], "reward_only"),
        (["no_value", "reward_only"], "no_value_reward_only"),
        (["planet", "contrastive"], "planet_contrastive"),
    ],
)
def test_an_overlay_names_its_runs(overlays, name):
    run = config.load(["toy", *overlays], {"seed": 3})
    assert agents.variant(run) == name
    assert str(start.default_logdir(run)) == f"runs/toy_dot/{name}/3"
    changed = {key for key, _, _ in run.diff(config.load(["toy"], {"seed": 3}))}
    assert changed <= {"method", "behavior.bootstrap", "model.observation", "model.probe_decoder"}
    assert len(changed - {"model.probe_decoder"}) == len(overlays)


def test_random_actions_have_no_variants():
    assert agents.variant(config.load(["toy", "no_value", "contrastive"], {"method": "random"})) == "random"


def test_planet_does_not_plan_discrete_actions():
    run = config.load(["atari", "planet", "debug"], {"task": "pong"})
    with pytest.raises(agents.RunError, match="plans continuous actions, and those of pong are discrete"):
        build_agent(run, ActionSpace(6, discrete=True), seed=0)


def test_planet_has_no_actor_whose_value_could_be_left_out():
    with pytest.raises(start.UsageError, match="is about an actor, and --method planet has none"):
        start.check_task(config.load(["toy", "planet", "no_value"]))


def test_an_ablation_in_the_place_of_a_method_is_told_its_overlay():
    with pytest.raises(start.UsageError, match=r"got 'no_value': that is an overlay, --configs \.\.\. no_value"):
        start.check_task(config.load(["toy"], {"method": "no_value"}))
    assert {agents.variant(config.load(["toy", name])) for name in agents.ABLATIONS} == set(agents.ABLATIONS)

"""Play an episode with a trained agent, and draw what its world model imagines beside what happened.

python docs/look_inside.py [RUN] [--out FILE.png]     RUN: a log directory, by default the demo's
"""

# %% The agent of a run
import argparse

import matplotlib
import numpy as np

import dreamer

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

CONTEXT, HORIZON, COLUMNS = 5, 45, 10

parser = argparse.ArgumentParser()
parser.add_argument("run", nargs="?", default="runs/demo/dot", help="log directory of a run")
parser.add_argument("--out", default="dream.png", help="the picture")
arguments = parser.parse_args()

agent = dreamer.load(arguments.run)
print(agent)

# %% An episode; the action and the reward beside an image led to it
env, policy = dreamer.environment(arguments.run), agent.session()
step = env.reset(seed=0)
steps, actions, values = [step], [np.zeros(agent.action_space.size, np.float32)], []
while not step["is_last"]:
    actions.append(policy(step, step["is_first"]))  # which takes from a step what the agent sees
    if "value" in agent.networks:
        values.append(agent.value(policy.carry.state)[0])
    step = env.step(actions[-1])
    steps.append(step)
env.close()
seen = {name: np.stack([step[name] for step in steps]) for name in agent.inputs}
rewards = np.array([step["reward"] for step in steps])
actions = np.stack(actions)
print(f"return {rewards.sum():.1f} in {len(rewards) - 1} steps")

# %% What the world model imagines from the middle on, having seen 5 steps
start = max(0, (len(rewards) - CONTEXT - HORIZON) // 2)
first = slice(start, start + CONTEXT)
ahead = slice(start + CONTEXT, min(start + CONTEXT + HORIZON, len(rewards)))
context = {name: rows[None, first] for name, rows in seen.items()}
dream = agent.predict(context, actions[None, first], actions[None, ahead])
if agent.config.replay.tanh_rewards:
    rewards = np.tanh(rewards)
print(f"error of the reward {np.square(dream.rewards[0] - rewards[ahead]).mean():.3g}")

# %% The picture
count = ahead.stop - ahead.start
shown = np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int)
rows = {}
if "image" in seen:
    rows["truth"] = truth = seen["image"][ahead] / 255
    if dream.images is not None:
        rows |= {"imagined": dream.images[0], "error": np.abs(dream.images[0] - truth)}
figure, axes = plt.subplots(len(rows) + 1, 1, figsize=(12, 1.3 * len(rows) + 2.5), layout="constrained", squeeze=False)
axes = axes[:, 0]
for axis, (name, frames) in zip(axes, rows.items(), strict=False):
    axis.imshow(np.concatenate(frames[shown], axis=1))
    size = frames.shape[2]
    axis.set(ylabel=name, yticks=[], xticks=size * (0.5 + np.arange(len(shown))), xticklabels=shown + 1)
axes[-1].plot(1 + np.arange(count), rewards[ahead], label="reward")
axes[-1].plot(1 + np.arange(count), dream.rewards[0], label="imagined reward")
if values:
    expected = values[ahead.start : ahead.stop]  # none at the last step of an episode
    scale = 1 - agent.config.behavior.discount
    axes[-1].plot(1 + np.arange(len(expected)), scale * np.array(expected), label=f"value times {scale:.2g}")
axes[-1].set(xlabel=f"imagined steps, from step {start + CONTEXT} of the episode")
axes[-1].legend()
figure.savefig(arguments.out)
print(arguments.out)
